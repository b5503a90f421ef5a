// What every service of the public port is made of.
#pragma once
#include <grpcpp/grpcpp.h>

#include <string>

#include "adapters/error.h"
#include "adapters/identity/tokens.h"

namespace chalk::server {

class Plane;
class NodeHub;
class ImageCatalogue;

struct Services {
  Plane& plane;
  NodeHub& nodes;
  ImageCatalogue& images;
  identity::Store& identities;
  identity::Tokens& tokens;
};

// Who calls: from the "authorization" header; denied becomes UNAUTHENTICATED. A header
// x-chalk-env-id that names another environment than the token's is PERMISSION_DENIED.
Result<identity::Caller> authenticate(const Services& services, const grpc::ServerContextBase& context);

grpc::Status to_status(const Error& error);
// UNAUTHENTICATED for who is not known, PERMISSION_DENIED for who may not.
grpc::Status unauthenticated(const Error& error);
// Whether a call that was let in may go on: not once its client is revoked or its token has expired.
// Where that cannot be known now, it may.
grpc::Status may_go_on(const Services& services, const grpc::ServerContextBase& context);

}  // namespace chalk::server
