// Connect unary calls (https://connectrpc.com/docs/protocol) turned into gRPC calls. Internal.
#pragma once
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "adapters/front/front.h"

namespace chalk::front {

// "/package.Service/Method".
bool is_rpc_path(std::string_view path);

// What can be said before the body is read: wrong content type, encoding, a streaming method.
std::unique_ptr<Response> refuse_call(const Request& request);

Response connect_error(std::string_view code, std::string_view message);
Response connect_error(const grpc::Status& status);

// One call: prepare(), then start(), then finish() with the status that `done` was given. JSON
// makes the first and the last of them slow; they may run on any thread. `done` is called once, on
// a thread of gRPC, and keeps this object until then. cancel() may be called at any time.
class ConnectCall {
 public:
  ConnectCall(Request request, std::chrono::milliseconds longest);
  bool json() const { return json_; }
  std::optional<Response> prepare();  // a response: the call is refused
  void start(grpc::GenericStub& stub, std::function<void(grpc::Status)> done);
  Response finish(const grpc::Status& status);
  void cancel() { context_.TryCancel(); }

 private:
  void forward_headers();

  Request request_;
  std::chrono::milliseconds longest_;
  bool json_;
  grpc::ClientContext context_;
  grpc::ByteBuffer sent_, received_;
};

}  // namespace chalk::front
