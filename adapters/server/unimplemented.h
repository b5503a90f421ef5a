// Calls of the public API that this server does not have. Who has a token hears that it is so; who
// has none hears nothing about what there is.
#pragma once
#include <grpcpp/generic/async_generic_service.h>

#include "adapters/server/context.h"

namespace chalk::server {

class Unimplemented final : public grpc::CallbackGenericService {
 public:
  explicit Unimplemented(const Services& services) : services_(services) {}

 private:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;

  const Services services_;
};

}  // namespace chalk::server
