#include "adapters/server/public_services.h"

#include <google/protobuf/stubs/logging.h>

#include "adapters/front/front.h"
#include "adapters/server/auth_service.h"
#include "adapters/server/container_service.h"
#include "adapters/server/filesystem_service.h"
#include "adapters/server/image_service.h"
#include "adapters/server/process_service.h"
#include "adapters/server/sandbox_service.h"
#include "adapters/server/unimplemented.h"

namespace chalk::server {
namespace {

constexpr std::size_t kCallsMax = 2'048;  // commands, sessions and transfers at once
constexpr std::size_t kCallsOfTenantMax = 512;

}  // namespace

struct PublicServices::State {
  TenantSandboxes sandboxes;
  Places places{kCallsMax, kCallsOfTenantMax};
  AuthService auth;
  ImageService images{sandboxes};
  SandboxService sandbox_service{sandboxes};
  ContainerService containers{sandboxes, places};
  ProcessService processes{sandboxes, places};
  FilesystemService files{sandboxes, places};
  Unimplemented unimplemented;

  explicit State(const Services& services)
      : sandboxes(services), auth(services), unimplemented(services) {}
};

// Bytes that are no message are answered; telling our own log of each would let strangers fill it.
PublicServices::PublicServices(const Services& services)
    : state_(std::make_unique<State>(services)) {
  google::protobuf::SetLogHandler(nullptr);
}
PublicServices::~PublicServices() = default;

void PublicServices::register_on(grpc::ServerBuilder& builder) {
  State& s = *state_;
  for (grpc::Service* service : std::initializer_list<grpc::Service*>{
           &s.auth, &s.images, &s.sandbox_service, &s.containers, &s.processes, &s.files}) {
    builder.RegisterService(service);
  }
  builder.RegisterCallbackGenericService(&s.unimplemented);
}

void PublicServices::add_routes(front::Front& front) {
  AuthService& auth = state_->auth;
  front.route("POST", "/v1/oauth/token",
              [&auth](const front::Request& request) { return auth.oauth_token(request); });
  front.route("GET", "/v1/who-am-i",
              [&auth](const front::Request& request) { return auth.who_am_i(request); });
  front.route("GET", "/.well-known/jwks.json",
              [&auth](const front::Request&) { return auth.key_set(); });
}

}  // namespace chalk::server
