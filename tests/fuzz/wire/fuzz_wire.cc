// What strangers send: specifications, Connect calls and raw bytes at the public port.
#include <arpa/inet.h>
#include <google/protobuf/stubs/logging.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <csignal>
#include <future>
#include <nlohmann/json.hpp>

#include "adapters/api/ids.h"
#include "adapters/api/translate.h"
#include "adapters/front/connect.h"
#include "adapters/front/front.h"
#include "chalk/container/v1/service.grpc.pb.h"
#include "chalk/sandbox/v2/process_service.grpc.pb.h"
#include "chalk/sandbox/v2/service.grpc.pb.h"
#include "tests/fuzz/fuzz.h"

namespace chalk::fuzz {
namespace {

namespace container = chalk::container::v1;
namespace v2 = chalk::sandbox::v2;

void must(bool holds, const char* what) {
  if (!holds) broken(what);
}

// ---- specifications

// Everything filled in, so that mutations reach every field.
container::ChalkContainerSpec full() {
  container::ChalkContainerSpec spec;
  spec.set_name("worker-1");
  spec.set_image("docker.io/library/python:3.12");
  spec.add_entrypoint("sleep");
  spec.add_entrypoint("infinity");
  (*spec.mutable_tags())["team"] = "a";
  spec.set_port(8080);
  spec.mutable_lifetime()->set_seconds(60);
  spec.mutable_resources()->set_cpu("500m");
  spec.mutable_resources()->set_memory("1Gi");
  spec.mutable_resources()->set_disk("2Gi");
  (*spec.mutable_env_vars())["NAME"] = "value";
  spec.mutable_startup_probe()->mutable_http()->set_path("/ready");
  spec.mutable_readiness_probe()->mutable_grpc()->set_service("s");
  spec.mutable_readiness_probe()->set_period_seconds(2);
  spec.set_restart_policy(container::RESTART_POLICY_NEVER);
  return spec;
}

bool within(std::int64_t low, std::int64_t value, std::int64_t high) {
  return low <= value && value <= high;
}
bool no_zero_byte(const std::string& text) { return text.find('\0') == std::string::npos; }

void check_bounds(const api::Asked& asked, const container::ChalkContainerSpec& spec) {
  const Resources& r = asked.resources;
  must(within(api::kCpuMillicoresMin, r.cpu_millicores, api::kCpuMillicoresMax), "cpu");
  must(within(api::kMemoryBytesMin, r.memory_bytes, api::kBytesMax), "memory");
  must(within(api::kDiskBytesMin, r.disk_bytes, api::kBytesMax), "disk");
  must(within(0, r.gpus, kGpusPerNodeMax), "gpus");
  must(within(0, asked.lifetime.nanos, api::kLifetimeSecondsMax * 1'000'000'000), "lifetime");
  must(asked.payload.ByteSizeLong() <= 3 * api::kSpecBytesMax, "payload");
  must(within(0, asked.payload.port(), 65'535), "port");
  for (const std::string& word : asked.payload.argv()) must(no_zero_byte(word), "argv");
  for (const auto& [name, value] : asked.payload.env()) {
    must(!name.empty() && name.find('=') == std::string::npos, "the name of a variable");
    must(no_zero_byte(name + value), "a variable");
  }
  for (const char c : asked.payload.startup_probe().http_path()) {
    must(c > ' ' && c < 0x7f, "the path of a probe, which goes into an HTTP request");
  }
  for (const char c : spec.name()) {
    must((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-', "name");
  }
  const auto shown = api::public_spec(asked.payload);
  must(shown.SerializeAsString() == spec.SerializeAsString() || shown.env_vars_size() > 1 ||
           shown.tags_size() > 1,  // maps have no order
       "the specification that is shown is not the one that was asked for");
}

bool take_specification(std::string_view input) {
  const std::string bytes(input);
  must(api::read_label(SandboxId{1}, bytes).id == api::sandbox_text_id(SandboxId{1}), "label");
  if (const auto id = api::parse_sandbox_id(input)) {
    must(api::sandbox_text_id(*id) == input, "an id that is written otherwise than it was read");
  }
  container::ChalkContainerSpec spec;
  if (!spec.ParseFromString(bytes)) return false;
  const auto asked = api::translate(spec);
  if (!asked) {
    must(!asked.error().message.empty(), "an objection without words");
    return false;
  }
  check_bounds(*asked, spec);
  return true;
}

Target specifications() {
  auto other = full();
  other.clear_port();
  other.clear_startup_probe();
  other.clear_readiness_probe();
  other.set_name("b");
  return {"specification",
          {full().SerializeAsString(), other.SerializeAsString(), "sb-0000000000000001"},
          {std::string(1, '\0'), "=", "\r\n", "1e9", "999999999Gi", "-1", "0.0001", "nan"},
          take_specification,
          60'000};
}

// ---- Connect

class Service final : public v2::SandboxProcessService::Service {
 public:
  grpc::Status ExecCommand(grpc::ServerContext*, const v2::ExecCommandRequest* request,
                           v2::ExecCommandResponse* response) override {
    if (request->command() == "fail") {
      return {grpc::StatusCode::ABORTED, request->args_size() > 0 ? request->args(0) : "failed"};
    }
    response->set_stdout(request->stdin());
    response->set_exit_code(request->args_size());
    return grpc::Status::OK;
  }
};

struct Served {
  Served() {
    std::signal(SIGPIPE, SIG_IGN);
    grpc::ServerBuilder builder;
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    stub = std::make_unique<grpc::GenericStub>(server->InProcessChannel({}));
    front::Options options;
    options.network_threads = 1;
    options.handler_threads = 1;
    options.limits.first_bytes = options.limits.header = options.limits.stall =
        std::chrono::milliseconds(3'000);
    front.emplace(options, *server);
    front->route("GET", "/healthz", [](const front::Request&) { return front::Response{}; });
    front->start();
  }
  ~Served() {
    front->stop();
    stub.reset();
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  }
  Service service;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<grpc::GenericStub> stub;
  std::optional<front::Front> front;
};

std::unique_ptr<Served> served;

bool is_json(const std::string& text) {
  return nlohmann::json::accept(text);
}

void check_refusal(const front::Response& response) {
  must(within(400, response.status, 599) || response.content_type.starts_with("application/connect"),
       "a refusal without a status of one");
  if (response.content_type == "application/json") must(is_json(response.body), "no JSON");
}

// An input is a path, lines of headers, an empty line and the body.
front::Request request_of(std::string_view input) {
  front::Request out;
  out.method = "POST";
  out.peer = "192.0.2.1:4711";
  const auto line = [&] {
    const auto end = input.find('\n');
    const std::string_view text = input.substr(0, end);
    input.remove_prefix(end == input.npos ? input.size() : end + 1);
    return text;
  };
  out.path = line();
  for (auto text = line(); !text.empty(); text = line()) {
    const auto colon = text.find(": ");
    if (colon == text.npos) continue;
    out.headers.emplace_back(text.substr(0, colon), text.substr(colon + 2));
  }
  out.body = input;
  return out;
}

bool take_call(std::string_view input) {
  const front::Request request = request_of(input);
  if (!front::is_rpc_path(request.path)) return false;
  if (const auto refused = front::refuse_call(request)) {
    check_refusal(*refused);
    return false;
  }
  const auto call = std::make_shared<front::ConnectCall>(request, std::chrono::milliseconds(5'000));
  if (const auto refused = call->prepare()) {
    check_refusal(*refused);
    return false;
  }
  std::promise<grpc::Status> done;
  call->start(*served->stub, [&](grpc::Status status) { done.set_value(std::move(status)); });
  const grpc::Status status = done.get_future().get();
  const front::Response response = call->finish(status);
  must(status.ok() == (response.status == 200), "a status that does not say what became of it");
  if (!status.ok()) check_refusal(response);
  if (status.ok() && call->json()) must(is_json(response.body), "an answer that is no JSON");
  return status.ok();
}

std::string call_text(const std::string& type, const std::string& body) {
  return "/chalk.sandbox.v2.SandboxProcessService/ExecCommand\ncontent-type: " + type +
         "\nconnect-timeout-ms: 4000\nauthorization: Bearer x\nx-chalk-env-id: e\n\n" + body;
}

std::string exec_bytes() {
  v2::ExecCommandRequest request;
  request.set_command("echo");
  request.add_args("one");
  request.set_stdin("input");
  return request.SerializeAsString();
}
constexpr const char* kExecJson =
    R"({"command":"echo","args":["one","two"],"env":{"A":"b"},"stdin":"aW5wdXQ=","timeout":"1.5s"})";

Target calls() {
  return {"connect",
          {call_text("application/json", kExecJson), call_text("application/json", "{}"),
           call_text("application/proto", exec_bytes()),
           call_text("application/json", R"({"command":"fail","args":["\u00e4\n\ud83d\ude00"]})")},
          {"\"", "{", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "\\u0000", "\\ud800", "1e400", "-0", "null",
           "true", "\"a\":", "application/json", "application/connect+json", ": ", "\n\n",
           "99999999999", "-bin", "\x80", "\xc3\x28", "SandboxService/ListSandboxes"},
          take_call,
          10'000};
}

// ---- the public port

class Connection {
 public:
  Connection() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(served->front->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval limit{20, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    must(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
         "the port takes no connections any more");
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  // Everything that comes until the other side ends. Ours goes on for a moment: a client that ends
  // its side counts as gone.
  std::string exchange(std::string_view bytes, int moment_ms = 10) {
    while (!bytes.empty()) {
      const auto sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) break;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    pollfd answer{socket_, POLLIN, 0};
    poll(&answer, 1, moment_ms);
    shutdown(socket_, SHUT_WR);
    std::string heard;
    char some[16 << 10];
    while (true) {
      const auto got = recv(socket_, some, sizeof some, 0);
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) broken("it does not end");
      if (got <= 0) return heard;
      heard.append(some, static_cast<std::size_t>(got));
    }
  }

 private:
  const int socket_;
};

std::string http(const std::string& path, const std::string& more, const std::string& body) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n" + body;
}
const std::string kExecPath = "/chalk.sandbox.v2.SandboxProcessService/ExecCommand";

std::string http_call(const std::string& type, const std::string& body) {
  return http(kExecPath, "Content-Type: " + type + "\r\nContent-Length: " +
                             std::to_string(body.size()) + "\r\n", body);
}

std::string frame(int kind, int flags, int stream, const std::string& body) {
  const auto size = static_cast<std::uint32_t>(body.size());
  std::string out;
  for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>(size >> shift);
  out += static_cast<char>(kind);
  out += static_cast<char>(flags);
  out += std::string(3, '\0') + static_cast<char>(stream);
  return out + body;
}
std::string literal(const std::string& name, const std::string& value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + name +
         static_cast<char>(value.size()) + value;
}
std::string grpc_call() {
  const std::string body = exec_bytes();
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, "") +
         frame(1, 4, 1,
               literal(":method", "POST") + literal(":scheme", "http") +
                   literal(":path", kExecPath) + literal(":authority", "x") +
                   literal("te", "trailers") + literal("content-type", "application/grpc")) +
         frame(0, 1, 1, std::string(4, '\0') + static_cast<char>(body.size()) + body);
}

// It answers in a protocol that it speaks or not at all, ends, and serves the next one.
bool take_bytes(std::string_view input) {
  static std::uint64_t inputs = 0;
  const std::string heard = Connection().exchange(input);
  const bool one = heard.starts_with("HTTP/1.1 ");
  const bool two = heard.size() >= 9 && heard[3] == 4;  // SETTINGS come first
  const bool tls = heard.starts_with("\x15\x03");
  must(heard.empty() || one || two || tls, "an answer of no protocol");
  if (one) must(heard.size() > 12 && heard[9] >= '1' && heard[9] <= '5', "an answer of no status");
  if (++inputs % 16 == 0) {
    const std::string body = exec_bytes();
    must(Connection()
             .exchange(http_call("application/proto", body), 20'000)
             .starts_with("HTTP/1.1 200"),
         "a good call is not answered any more");
  }
  return heard.starts_with("HTTP/1.1 200") || two;
}

Target port() {
  const std::string call = http_call("application/json", kExecJson);
  return {"port",
          {call, call + http_call("application/proto", exec_bytes()) + call,
           http(kExecPath, "Content-Type: application/proto\r\nTransfer-Encoding: chunked\r\n",
                "4\r\n\x0a\x02ls\r\n0\r\n\r\n"),
           "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nHEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
           grpc_call(), std::string("\x16\x03\x01\x00\x05hello", 10)},
          {"\r\n", "\r\n\r\n", "Content-Length: ", "Transfer-Encoding: chunked\r\n", "HTTP/1.1",
           "HTTP/1.0", "Expect: 100-continue\r\n", "Connection: close\r\n", "0\r\n\r\n",
           "18446744073709551615", "Upgrade: h2c\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "%00",
           "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", std::string(9, '\0')},
          take_bytes,
          1'000};
}

}  // namespace
}  // namespace chalk::fuzz

int main(int argc, char** argv) {
  using namespace chalk::fuzz;
  google::protobuf::SetLogHandler(nullptr);  // it would write a line for each text that is not UTF-8
  served = std::make_unique<Served>();
  const int status = run(argc, argv, {specifications(), calls(), port()});
  served.reset();
  return status;
}
