// Routes, and how a front ends.
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "tests/adapters/front/served.h"

namespace chalk::front {
namespace {

std::string get(const std::string& path, const std::string& method = "GET") {
  return method + " " + path + " HTTP/1.1\r\nHost: test\r\n\r\n";
}

TEST(FrontRoutes, TheLongestPathWinsAndOthersAreNotFound) {
  Served served({}, [](Front& front) {
    const auto say = [](std::string text) {
      return [text](const Request& request) {
        return Response{.body = text + " " + request.path + " " + request.query};
      };
    };
    front.route("GET", "/objects/", say("objects"));
    front.route("GET", "/objects/special", say("special"));
    front.route("PUT", "/objects/",
                [](const Request& request) {
                  Response response{.status = 201, .body = request.body};
                  response.headers.emplace_back("x-one", "1");
                  response.headers.emplace_back("x-bad", "a\r\nset-cookie: b");
                  return response;
                },
                {.body_bytes_max = 100});
    front.route("GET", "/throws",
                [](const Request&) -> Response { throw std::runtime_error("x"); });
  });
  Wire wire(served.front->port());
  const auto ask = [&](const std::string& text) {
    wire.send(text);
    return wire.answer();
  };
  EXPECT_EQ(ask(get("/objects/a?sig=1&x")).body, "objects /objects/a sig=1&x");
  EXPECT_EQ(ask(get("/objects/special")).body, "special /objects/special ");
  EXPECT_EQ(ask(get("/objects")).status, 404);
  EXPECT_EQ(ask(get("/v1/who-am-i")).status, 404);
  EXPECT_EQ(ask(get("/objects/a", "DELETE")).status, 405);
  EXPECT_EQ(ask(get("/throws")).status, 500);
  const auto put = ask("PUT /objects/k HTTP/1.1\r\nContent-Length: 5\r\n\r\nbytes");
  EXPECT_EQ(put.status, 201);
  EXPECT_EQ(put.body, "bytes");
  EXPECT_TRUE(put.has("x-one: 1"));
  EXPECT_EQ(put.head.find("set-cookie"), put.head.npos) << put.head;
  wire.send(get("/objects/a", "HEAD") + get("/objects/b"));
  EXPECT_NE(wire.read_some().find("HTTP/1.1 200"), std::string::npos);
  Wire large(served.front->port());
  large.send("PUT /objects/k HTTP/1.1\r\nContent-Length: 101\r\n\r\n" + std::string(101, 'x'));
  EXPECT_EQ(large.answer().status, 413);
}

TEST(FrontRoutes, WhoIsNotAdmittedIsToldBeforeTheBody) {
  std::atomic<int> handled{0};
  Served served({}, [&](Front& front) {
    RouteOptions options;
    options.body_bytes_max = 1 << 20;
    options.admit = [](const Request& request) -> std::unique_ptr<Response> {
      if (request.query == "signature=good") return nullptr;
      return std::make_unique<Response>(Response{.status = 403, .body = "no"});
    };
    front.route(
        "PUT", "/objects/",
        [&](const Request&) {
          ++handled;
          return Response{};
        },
        options);
  });
  Wire refused(served.front->port());
  refused.send("PUT /objects/k HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");  // and no body
  EXPECT_EQ(refused.answer().status, 403);
  Wire taken(served.front->port());
  taken.send(
      "PUT /objects/k?signature=good HTTP/1.1\r\nExpect: 100-continue\r\n"
      "Content-Length: 100000\r\n\r\n");
  EXPECT_EQ(taken.answer().status, 100);
  taken.send(std::string(100'000, 'x'));
  EXPECT_EQ(taken.answer().status, 200);
  EXPECT_EQ(handled, 1);
}

TEST(FrontLife, StopsWhileStreamsCallsAndHandlersAreOpen) {
  auto served = std::make_unique<Served>(Options{}, [](Front& front) {
    front.route("GET", "/slow", [](const Request&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      return Response{};
    });
  });
  const auto stub = served->stub();
  const auto context = client_context();
  const auto stream = stub->OpenSession(context.get());
  api::OpenSessionRequest sent;
  ASSERT_TRUE(stream->Write(sent));
  api::OpenSessionResponse received;
  ASSERT_TRUE(stream->Read(&received));
  Wire call(served->front->port()), slow(served->front->port()), idle(served->front->port());
  api::ExecCommandRequest request;
  request.set_command("wait");
  call.send(post(kExec, "application/proto", request.SerializeAsString()));
  slow.send(get("/slow"));
  ASSERT_TRUE(eventually([&] { return served->service.waiting == 2; }));
  ASSERT_TRUE(eventually([&] { return served->front->counters().open == 4; }));
  const std::uint16_t port = served->front->port();
  served->front->stop();
  served->front->stop();
  EXPECT_FALSE(stream->Read(&received));
  EXPECT_FALSE(stream->Finish().ok());
  EXPECT_TRUE(eventually([&] { return served->service.waiting == 0; }));
  EXPECT_FALSE(Wire(port).open());
  EXPECT_EQ(served->front->counters().open, 0u);
}

TEST(FrontLife, AnOrderlyEndLetsCallsFinish) {
  Served served;
  const auto stub = served.stub();
  const auto context = client_context();
  const auto stream = stub->OpenSession(context.get());
  api::OpenSessionRequest sent;
  api::OpenSessionResponse received;
  ASSERT_TRUE(stream->Write(sent));
  ASSERT_TRUE(stream->Read(&received));
  served.front->stop_accepting();
  EXPECT_TRUE(eventually([&] { return !Wire(served.front->port()).open(); }));
  std::thread ending([&] {
    served.server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(30));
  });
  ASSERT_TRUE(stream->Write(sent));
  EXPECT_TRUE(stream->Read(&received));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  ending.join();
}

// stop() shuts down what gRPC holds, and so is told of hang-ups at the moment at which it stops
// listening for them: a watch that went on after those made it wait for ever.
TEST(FrontLife, EndsWhileConnectionsOfGrpcHangUp) {
  for (int round = 0; round < 300; ++round) {
    Served served;
    std::vector<std::unique_ptr<Wire>> clients;
    for (int i = 0; i < 4; ++i) {
      clients.push_back(std::make_unique<Wire>(served.front->port()));
      clients.back()->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    }
    ASSERT_TRUE(eventually([&] { return served.front->counters().grpc == 4; }));
    std::thread leaving([&] { clients.clear(); });
    served.front->stop();
    leaving.join();
    EXPECT_EQ(served.front->counters().open, 0u);
  }
}

TEST(FrontLife, CanBeMadeAndStoppedWithoutBeingUsed) {
  for (int i = 0; i < 3; ++i) {
    const Served served;
    EXPECT_NE(served.front->port(), 0);
  }
  grpc::ServerBuilder builder;
  Service service;
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  { const Front never_started({}, *server); }
  Front taken({}, *server);
  Options same;
  same.port = taken.port();
  EXPECT_THROW(Front(same, *server), std::runtime_error);
  Options half;
  half.certificate_pem = "x";
  EXPECT_THROW(Front(half, *server), std::runtime_error);
  Options named;
  named.address = "localhost";
  EXPECT_THROW(Front(named, *server), std::runtime_error);
  server->Shutdown();
}

TEST(FrontLife, AConnectionWithoutCallsEndsAfterAWhileAndNotBefore) {
  for (const bool soon : {true, false}) {
    GrpcLimits limits;
    if (soon) limits.idle = std::chrono::milliseconds(200);
    Served served({}, {}, limits);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    const auto channel = grpc::CreateCustomChannel(
        served.target(), grpc::InsecureChannelCredentials(), arguments);
    ASSERT_TRUE(channel->WaitForConnected(std::chrono::system_clock::now() + kPatience));
    const auto until = std::chrono::system_clock::now() +
                       (soon ? std::chrono::milliseconds(kPatience) : std::chrono::seconds(2));
    EXPECT_EQ(channel->WaitForStateChange(GRPC_CHANNEL_READY, until), soon);
  }
}

TEST(FrontLife, OpensNoOtherPort) {
  const Served served;
  const auto listening = [] {
    int count = 0;
    for (const char* table : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
      std::ifstream file(table);
      std::string line, number, local, remote, state;
      std::getline(file, line);
      while (file >> number >> local >> remote >> state && std::getline(file, line)) {
        if (state == "0A") ++count;
      }
    }
    return count;
  };
  // Other processes listen too; what counts is that a second front adds exactly one.
  bool one_more = false;
  for (int attempt = 0; attempt < 20 && !one_more; ++attempt) {
    const int before = listening();
    const Served second;
    one_more = listening() == before + 1;
  }
  EXPECT_TRUE(one_more);
}

}  // namespace
}  // namespace chalk::front
