#include "adapters/front/front.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "adapters/identity/authority.h"
#include "tests/adapters/front/served.h"

namespace chalk::front {
namespace {

using nlohmann::json;

std::shared_ptr<grpc::ChannelCredentials> trusting(const std::string& root_pem) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = root_pem;
  return grpc::SslCredentials(options);
}

// A private authority and the options that use its certificate.
struct Secured {
  Secured() {
    const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    path = std::filesystem::temp_directory_path() /
           ("chalk-front-" + std::to_string(getpid()) + "-" + name);
    std::filesystem::remove_all(path);
    authority = std::make_unique<identity::Authority>(path.string());
    const auto made = authority->server_credentials({"127.0.0.1"});
    options.certificate_pem = made->certificate_pem;
    options.private_key_pem = made->private_key_pem;
  }
  ~Secured() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::shared_ptr<grpc::ChannelCredentials> credentials() const {
    return trusting(authority->certificate_pem());
  }
  std::filesystem::path path;
  std::unique_ptr<identity::Authority> authority;
  Options options;
};

api::ExecCommandRequest request(const std::string& command, std::vector<std::string> args = {}) {
  api::ExecCommandRequest made;
  made.set_command(command);
  for (auto& one : args) made.add_args(std::move(one));
  return made;
}

grpc::Status exec(api::SandboxProcessService::Stub& stub, const std::string& command,
                  std::vector<std::string> args, std::string& out) {
  api::ExecCommandResponse response;
  const auto context = client_context();
  const auto status = stub.ExecCommand(context.get(), request(command, std::move(args)), &response);
  out = response.stdout();
  return status;
}

Answer exec_http(Wire& wire, const std::string& command, std::vector<std::string> args,
                 const std::string& headers = "") {
  wire.send(post(kExec, "application/proto", request(command, std::move(args)).SerializeAsString(),
                 headers));
  return wire.answer();
}

std::string out_of(const Answer& answer) {
  api::ExecCommandResponse response;
  EXPECT_EQ(answer.status, 200) << answer.head << answer.body;
  EXPECT_TRUE(response.ParseFromString(answer.body));
  return response.stdout();
}

// ---- gRPC --------------------------------------------------------------------------------------

TEST(Front, CarriesAUnaryCallOverPlainHttp2) {
  Served served;
  const auto stub = served.stub();
  std::string out;
  ASSERT_TRUE(exec(*stub, "echo", {"hello"}, out).ok());
  EXPECT_EQ(out, "hello");
  const auto failed = exec(*stub, "fail", {"5", "no such thing"}, out);
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(failed.error_message(), "no such thing");
  ASSERT_TRUE(exec(*stub, "peer", {}, out).ok());
  EXPECT_TRUE(out.starts_with("127.0.0.1:")) << out;
  ASSERT_TRUE(exec(*stub, "large", {"20000000"}, out).ok());
  EXPECT_EQ(out.size(), 20'000'000u);
  EXPECT_EQ(served.front->counters().grpc, 1u);
}

void talk(api::SandboxProcessService::Stub& stub, int messages) {
  const auto context = client_context();
  const auto stream = stub.OpenSession(context.get());
  for (int i = 0; i < messages; ++i) {
    api::OpenSessionRequest sent;
    sent.mutable_new_process()->set_command("message " + std::to_string(i));
    ASSERT_TRUE(stream->Write(sent));
    api::OpenSessionResponse received;
    ASSERT_TRUE(stream->Read(&received));
    ASSERT_EQ(received.session_attached().session_id(), sent.new_process().command());
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST(Front, CarriesAStreamBothWays) {
  Served served;
  talk(*served.stub(), 100);
}

TEST(Front, ServesManyConnectionsAtOnceAndForgetsThemAfterwards) {
  Served served;
  {
    std::vector<std::unique_ptr<api::SandboxProcessService::Stub>> stubs;
    for (int i = 0; i < 64; ++i) stubs.push_back(served.stub());
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        for (int j = 0; j < 8; ++j) talk(*stubs[static_cast<std::size_t>(8 * i + j)], 3);
      });
    }
    for (auto& thread : threads) thread.join();
    const auto seen = served.front->counters();
    EXPECT_EQ(seen.open, 64u) << seen.accepted << " accepted, " << seen.grpc << " gRPC's, "
                              << seen.refused << " refused, " << seen.failed << " failed";
  }
  EXPECT_TRUE(eventually([&] { return served.front->counters().open == 0; }))
      << served.front->counters().open;
}

TEST(Front, CarriesGrpcOverTls) {
  const Secured secured;
  Served served(secured.options);
  const auto stub = served.stub(secured.credentials());
  std::string out;
  const auto status = exec(*stub, "echo", {"hidden"}, out);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(out, "hidden");
  talk(*stub, 50);
  ASSERT_TRUE(exec(*stub, "peer", {}, out).ok());
  EXPECT_TRUE(out.starts_with("127.0.0.1:")) << out;
  ASSERT_TRUE(exec(*stub, "large", {"20000000"}, out).ok());
  EXPECT_EQ(out.size(), 20'000'000u);
  ASSERT_TRUE(exec(*served.stub(), "echo", {"plain too"}, out).ok());
}

TEST(Front, AClientThatTrustsAnotherAuthorityDoesNotTalkToUs) {
  const Secured secured;
  Served served(secured.options);
  const identity::Authority foreign((secured.path / "foreign").string());
  const auto stub = served.stub(trusting(foreign.certificate_pem()));
  std::string out;
  EXPECT_EQ(exec(*stub, "echo", {"x"}, out).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(Wire(served.front->port(), foreign.certificate_pem()).open());
  EXPECT_TRUE(eventually([&] { return served.front->counters().failed >= 1; }));
}

TEST(Front, TlsOnlyRefusesPlainConnections) {
  Secured secured;
  secured.options.tls_only = true;
  Served served(secured.options);
  std::string out;
  EXPECT_FALSE(exec(*served.stub(), "echo", {"x"}, out).ok());
  Wire wire(served.front->port());
  EXPECT_EQ(exec_http(wire, "echo", {"x"}).status, 0);
  EXPECT_TRUE(exec(*served.stub(secured.credentials()), "echo", {"x"}, out).ok());
}

TEST(Front, ReplacesItsCertificateForConnectionsToCome) {
  const Secured secured;
  Served served(secured.options);
  Wire before(served.front->port(), secured.authority->certificate_pem());
  identity::Authority next((secured.path / "next").string());
  const auto made = next.server_credentials({"127.0.0.1"});
  EXPECT_FALSE(
      served.front->replace_certificate(made->certificate_pem, secured.options.private_key_pem));
  EXPECT_FALSE(served.front->replace_certificate("garbage", "garbage"));
  ASSERT_TRUE(served.front->replace_certificate(made->certificate_pem, made->private_key_pem));
  Wire after(served.front->port(), next.certificate_pem());
  EXPECT_EQ(out_of(exec_http(before, "echo", {"old"})), "old");
  EXPECT_EQ(out_of(exec_http(after, "echo", {"new"})), "new");
}

// ---- Connect -----------------------------------------------------------------------------------

TEST(Front, CarriesConnectCallsOverHttp1) {
  Served served;
  Wire wire(served.front->port());
  for (const char* text : {"first", "second"}) {  // on one connection
    const auto answer = exec_http(wire, "echo", {text}, "connect-protocol-version: 1\r\n");
    EXPECT_EQ(out_of(answer), text);
    EXPECT_TRUE(answer.has("content-type: application/proto")) << answer.head;
  }
  EXPECT_TRUE(out_of(exec_http(wire, "peer", {})).starts_with("127.0.0.1:"));
  EXPECT_EQ(out_of(exec_http(wire, "large", {"20000000"})).size(), 20'000'000u);
}

TEST(Front, CarriesConnectCallsInJson) {
  Served served;
  Wire wire(served.front->port());
  wire.send(post(kExec, "application/json; charset=utf-8",
                 R"({"sandboxId":"s","command":"echo","args":["grüße"],"notKnownYet":1})"));
  const auto answer = wire.answer();
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_TRUE(answer.has("content-type: application/json"));
  const auto said = json::parse(answer.body);
  EXPECT_EQ(said["exitCode"], 7);
  EXPECT_EQ(said["stdout"], "Z3LDvMOfZQ==");  // bytes are base64 in JSON
  wire.send(post(kExec, "application/json", R"({"command":)"));
  const auto broken = wire.answer();
  EXPECT_EQ(broken.status, 400);
  EXPECT_EQ(json::parse(broken.body)["code"], "invalid_argument");
  wire.send(post(kExec, "application/json", std::string(60'000, '[')));
  EXPECT_EQ(wire.answer().status, 400);
  wire.send(post("/chalk.sandbox.v2.Nothing/Here", "application/json", "{}"));
  EXPECT_EQ(wire.answer().status, 501);
}

TEST(Front, CarriesHttp1OverTlsAndPrefersItWhenAClientSpeaksBoth) {
  const Secured secured;
  Served served(secured.options, [](Front& front) {
    front.route("GET", "/healthz", [](const Request&) { return Response{.body = "well"}; });
  });
  for (const std::string& protocols :
       {std::string(), std::string("\x08http/1.1"), std::string("\x02h2\x08http/1.1")}) {
    Wire wire(served.front->port(), secured.authority->certificate_pem(), protocols);
    ASSERT_TRUE(wire.open());
    EXPECT_EQ(wire.protocol(), protocols.empty() ? "" : "http/1.1");
    EXPECT_EQ(out_of(exec_http(wire, "echo", {"tls"})), "tls");
    wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(wire.answer().body, "well");
  }
  Wire only(served.front->port(), secured.authority->certificate_pem(), "\x02h2");
  EXPECT_EQ(only.protocol(), "h2");
  EXPECT_FALSE(Wire(served.front->port(), secured.authority->certificate_pem(),
                    "\x03"
                    "ftp")
                   .open());
}

TEST(Front, MapsEveryStatusToConnect) {
  Served served;
  const std::vector<std::pair<int, const char*>> expected{{499, "canceled"},
                                                          {500, "unknown"},
                                                          {400, "invalid_argument"},
                                                          {504, "deadline_exceeded"},
                                                          {404, "not_found"},
                                                          {409, "already_exists"},
                                                          {403, "permission_denied"},
                                                          {429, "resource_exhausted"},
                                                          {400, "failed_precondition"},
                                                          {409, "aborted"},
                                                          {400, "out_of_range"},
                                                          {501, "unimplemented"},
                                                          {500, "internal"},
                                                          {503, "unavailable"},
                                                          {500, "data_loss"},
                                                          {401, "unauthenticated"}};
  Wire wire(served.front->port());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto answer = exec_http(wire, "fail", {std::to_string(i + 1), "why \"not\"\n"});
    EXPECT_EQ(answer.status, expected[i].first);
    EXPECT_TRUE(answer.has("content-type: application/json"));
    const auto said = json::parse(answer.body);
    EXPECT_EQ(said["code"], expected[i].second);
    EXPECT_EQ(said["message"], "why \"not\"\n");
  }
}

TEST(Front, ForwardsTheHeadersThatMatterAndNoOthers) {
  Served served;
  Wire wire(served.front->port());
  const std::string headers =
      "Authorization: Bearer abc\r\nX-Chalk-Env-Id: one\r\nX-Other: no\r\n"
      "x-chalk-odd: caf\xc3\xa9\r\nchalk-front-peer: 6.6.6.6:6\r\nx-chalk-raw-bin: AAA\r\n";
  EXPECT_EQ(out_of(exec_http(wire, "metadata", {"authorization"}, headers)), "Bearer abc");
  EXPECT_EQ(out_of(exec_http(wire, "metadata", {"x-chalk-env-id"}, headers)), "one");
  EXPECT_EQ(out_of(exec_http(wire, "metadata", {"x-other"}, headers)), "");
  EXPECT_EQ(out_of(exec_http(wire, "metadata", {"x-chalk-odd"}, headers)), "");
  EXPECT_EQ(out_of(exec_http(wire, "metadata", {"x-chalk-raw-bin"}, headers)), "");
  EXPECT_TRUE(out_of(exec_http(wire, "peer", {}, headers)).starts_with("127.0.0.1:"));
  const auto stub = served.stub();
  const auto context = client_context();
  context->AddMetadata("chalk-front-peer", "6.6.6.6:6");
  api::ExecCommandResponse response;
  ASSERT_TRUE(stub->ExecCommand(context.get(), request("peer"), &response).ok());
  EXPECT_TRUE(response.stdout().starts_with("127.0.0.1:")) << response.stdout();
}

TEST(Front, KeepsTheTimeoutOfAConnectCall) {
  Served served;
  Wire wire(served.front->port());
  const auto late = exec_http(wire, "wait", {}, "connect-timeout-ms: 50\r\n");
  EXPECT_EQ(late.status, 504) << late.body;
  EXPECT_EQ(json::parse(late.body)["code"], "deadline_exceeded");
  EXPECT_TRUE(eventually([&] { return served.service.cancelled == 1; }));
  for (const char* bad : {"soon", "-1", "12345678901"}) {
    const auto answer =
        exec_http(wire, "echo", {"x"}, std::string("connect-timeout-ms: ") + bad + "\r\n");
    EXPECT_EQ(answer.status, 400) << bad;
  }
}

TEST(Front, AClientThatGoesAwayTakesItsCallWithIt) {
  Served served;
  {
    Wire wire(served.front->port());
    wire.send(post(kExec, "application/proto", request("wait").SerializeAsString()));
    ASSERT_TRUE(eventually([&] { return served.service.waiting == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return served.service.cancelled == 1; }));
  EXPECT_TRUE(eventually([&] { return served.front->counters().open == 0; }));
}

TEST(Front, RefusesWhatIsNoUnaryConnectCall) {
  Served served;
  Wire wire(served.front->port());
  const std::string session = "/chalk.sandbox.v2.SandboxProcessService/OpenSession";
  wire.send(post(session, "application/proto", ""));
  auto answer = wire.answer();
  EXPECT_EQ(answer.status, 501);
  EXPECT_EQ(json::parse(answer.body)["code"], "unimplemented");
  wire.send(post(session, "application/connect+proto", ""));
  answer = wire.answer();
  EXPECT_EQ(answer.status, 200);
  ASSERT_GT(answer.body.size(), 5u);
  EXPECT_EQ(answer.body[0], '\x02');
  EXPECT_EQ(static_cast<std::size_t>(answer.body[4]) + 5, answer.body.size());
  EXPECT_EQ(json::parse(answer.body.substr(5))["error"]["code"], "unimplemented");
  for (const char* type : {"application/grpc", "application/grpc-web", "text/plain", ""}) {
    wire.send(post(kExec, type, ""));
    EXPECT_EQ(wire.answer().status, 415) << type;
  }
  wire.send(post(kExec, "application/proto", "", "Content-Encoding: gzip\r\n"));
  EXPECT_EQ(wire.answer().status, 415);
  wire.send("GET " + std::string(kExec) + " HTTP/1.1\r\n\r\n");
  EXPECT_EQ(wire.answer().status, 405);
  wire.send(post("/chalk.sandbox.v2.Nothing/Here", "application/proto", ""));
  EXPECT_EQ(wire.answer().status, 501);
  wire.send(post(kExec, "application/proto", "\xFF\xFF\xFF"));
  EXPECT_GE(wire.answer().status, 400);
  EXPECT_EQ(out_of(exec_http(wire, "echo", {"still here"})), "still here");
}

}  // namespace
}  // namespace chalk::front
