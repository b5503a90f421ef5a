#include "adapters/server/unimplemented.h"

#include "adapters/api/shown.h"

namespace chalk::server {
namespace {

// Answers without reading anything.
class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerGenericBidiReactor* Unimplemented::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  const auto caller = authenticate(services_, *context);
  if (!caller) return new Refusal(unauthenticated(caller.error()));
  std::string method = context->method();
  if (method.starts_with('/')) method.erase(0, 1);
  return new Refusal({grpc::StatusCode::UNIMPLEMENTED,
                      api::shown(method, 200) + " is not part of this server yet"});
}

}  // namespace chalk::server
