// All services of the public port that clients of the public API use, as one thing for its owner.
#pragma once
#include <memory>

#include "adapters/server/context.h"

namespace chalk::front {
class Front;
}

namespace chalk::server {

class PublicServices {
 public:
  explicit PublicServices(const Services& services);
  ~PublicServices();
  PublicServices(const PublicServices&) = delete;
  PublicServices& operator=(const PublicServices&) = delete;

  // Before BuildAndStart; this must outlive the server. Whatever no service has is answered with
  // UNIMPLEMENTED.
  void register_on(grpc::ServerBuilder& builder);
  // The same things for plain HTTP, before Front::start().
  void add_routes(front::Front& front);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::server
