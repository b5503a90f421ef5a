// A gRPC server behind a front, and a bare client for what no library would send.
#pragma once
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "adapters/front/front.h"
#include "adapters/front/grpc_limits.h"
#include "chalk/sandbox/v2/process_service.grpc.pb.h"

struct ssl_st;
struct ssl_ctx_st;

namespace chalk::front {

namespace api = chalk::sandbox::v2;

constexpr auto kPatience = std::chrono::seconds(60);

// True as soon as `holds` is, within kPatience.
template <class Condition>
bool eventually(Condition&& holds) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// ExecCommand does what `command` says; OpenSession sends stdin back.
class Service final : public api::SandboxProcessService::Service {
 public:
  grpc::Status ExecCommand(grpc::ServerContext* context, const api::ExecCommandRequest* request,
                           api::ExecCommandResponse* response) override;
  grpc::Status OpenSession(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<api::OpenSessionResponse, api::OpenSessionRequest>* stream) override;
  Front* front = nullptr;
  std::atomic<int> waiting{0}, cancelled{0};
};

struct Served {
  // `prepare` adds routes, before the start.
  explicit Served(Options options = {}, const std::function<void(Front&)>& prepare = {},
                  const GrpcLimits& limits = {});
  ~Served();
  std::string target() const { return "127.0.0.1:" + std::to_string(front->port()); }
  std::unique_ptr<api::SandboxProcessService::Stub> stub(
      std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials());
  Service service;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<Front> front;
};

// A deadline far away, so that a broken test ends.
std::unique_ptr<grpc::ClientContext> client_context();

struct Answer {
  int status = 0;  // 0: the connection ended without one
  std::string head, body;
  bool has(const std::string& header_line) const;
};

// One TCP connection; with `root_pem`, TLS that trusts it alone and offers `protocols` by ALPN.
class Wire {
 public:
  explicit Wire(std::uint16_t port, const std::string& root_pem = "",
                const std::string& protocols = "");
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  bool open() const { return socket_ >= 0 && good_; }
  void send(std::string_view bytes);
  void end_sending();
  void abandon();           // close with a reset
  std::string read_some();  // "" at the end
  std::string read_to_end();
  Answer answer();               // one answer with Content-Length
  std::string protocol() const;  // what ALPN chose

 private:
  int socket_ = -1;
  bool good_ = true;
  ssl_ctx_st* context_ = nullptr;
  ssl_st* tls_ = nullptr;
  std::string buffer_;
};

std::string post(const std::string& path, const std::string& type, const std::string& body,
                 const std::string& headers = "");
constexpr const char* kExec = "/chalk.sandbox.v2.SandboxProcessService/ExecCommand";

}  // namespace chalk::front
