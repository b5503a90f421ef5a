// Readiness over real connections to servers of this process.
#include "adapters/agent/readiness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "chalk/node/v1/node.pb.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;

Result<int> dial(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  (void)::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  return socket;
}

// Answers every request with one status; 0: takes the connection and says nothing.
class Server {
 public:
  Server() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<const sockaddr*>(&at), size), 0);
    EXPECT_EQ(::listen(listener_, 512), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    port = ntohs(at.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~Server() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
    for (const int one : mute_) ::close(one);
  }
  int port = 0;
  std::atomic<int> status = 200;
  std::atomic<int> asked = 0;

 private:
  void run() {
    while (true) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      ++asked;
      if (status == 0) {
        mute_.push_back(client);
        continue;
      }
      char request[512];
      (void)!::recv(client, request, sizeof request, 0);
      const std::string answer = "HTTP/1.1 " + std::to_string(status) + " Words\r\n\r\n";
      (void)!::send(client, answer.data(), answer.size(), MSG_NOSIGNAL);
      ::close(client);
    }
  }
  const int listener_;
  std::vector<int> mute_;
  std::thread thread_;
};

// Answers every call as grpc.health.v1 does: 1 is SERVING, 2 is not.
class Health : public grpc::CallbackGenericService {
 public:
  std::atomic<char> status = 2;

 private:
  struct Answer : grpc::ServerGenericBidiReactor {
    explicit Answer(char status) {
      const std::string bytes = {8, status};
      const grpc::Slice slice(bytes);
      response = grpc::ByteBuffer(&slice, 1);
      StartRead(&request);
    }
    void OnReadDone(bool) override { StartWriteAndFinish(&response, {}, grpc::Status::OK); }
    void OnDone() override { delete this; }
    grpc::ByteBuffer request, response;
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Answer(status);
  }
};

node::v1::Probe http(std::uint32_t failures = 3) {
  node::v1::Probe probe;
  probe.set_http_path("/ready");
  probe.set_period_ms(20);
  probe.set_timeout_ms(500);
  probe.set_failure_threshold(failures);
  return probe;
}

bool soon(const std::function<bool()>& holds) {
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

struct Watched : testing::Test {
  std::mutex mutex;
  std::vector<bool> changes;
  Readiness readiness;  // goes first

  void watch(const node::v1::Probe& probe, int port, std::uint64_t sandbox = 1) {
    readiness.watch({sandbox}, probe, [port] { return dial(port); },
                    [this](bool ready) {
                      const std::lock_guard lock(mutex);
                      changes.push_back(ready);
                    });
  }
  std::vector<bool> seen() {
    const std::lock_guard lock(mutex);
    return changes;
  }
  bool said(const std::string& words) {
    return soon([&] { return readiness.state({1})->words.find(words) != std::string::npos; });
  }
};

TEST_F(Watched, IsReadyOnceItAnswersWellAndNotAfterAsManyFailuresAsAreSaid) {
  Server server;
  server.status = 503;
  watch(http(), server.port);
  ASSERT_TRUE(said("status 503"));
  EXPECT_FALSE(readiness.state({1})->ready);
  EXPECT_TRUE(seen().empty()) << "it was not ready before";
  const std::int64_t before = readiness.state({1})->since;
  server.status = 204;
  ASSERT_TRUE(soon([&] { return readiness.state({1})->ready; }));
  EXPECT_GT(readiness.state({1})->since, before);
  EXPECT_EQ(readiness.state({1})->words, "GET /ready: status 204");
  server.status = 500;
  ASSERT_TRUE(soon([&] { return !readiness.state({1})->ready; }));
  EXPECT_EQ(seen(), (std::vector<bool>{true, false}));
  server.status = 302;
  ASSERT_TRUE(soon([&] { return seen().size() == 3; }));
}

TEST_F(Watched, FewerFailuresChangeNothing) {
  Server server;
  watch(http(10'000), server.port);
  ASSERT_TRUE(soon([&] { return readiness.state({1})->ready; }));
  server.status = 503;
  ASSERT_TRUE(said("status 503"));
  EXPECT_TRUE(readiness.state({1})->ready);
}

TEST_F(Watched, SilenceRefusalAndNonsenseAreFailuresInWords) {
  int port = 0;
  {
    Server server;
    port = server.port;
    auto hasty = http(1);
    hasty.set_timeout_ms(50);
    server.status = 0;
    watch(hasty, port);
    EXPECT_TRUE(said("no answer within 50 ms"));
    server.status = 99;
    EXPECT_TRUE(said("no HTTP answer")) << readiness.state({1})->words;
  }
  EXPECT_TRUE(said("refused"));
  readiness.watch({1}, http(), [] { return fail(Error::Kind::not_found, "no such network"); },
                  [](bool) {});
  EXPECT_TRUE(said("no such network"));
}

TEST_F(Watched, ManyThatDoNotAnswerHoldUpNobody) {
  Server mute, server;
  mute.status = 0;
  auto patient = http();
  patient.set_timeout_ms(600'000);
  for (std::uint64_t one = 2; one < 302; ++one) watch(patient, mute.port, one);
  ASSERT_TRUE(soon([&] { return mute.asked == 300; }));
  watch(http(), server.port);
  ASSERT_TRUE(soon([&] { return readiness.state({1})->ready; }));
  const int before = server.asked;
  EXPECT_TRUE(soon([&] { return server.asked > before + 10; }));
  EXPECT_EQ(mute.asked, 300) << "each is asked one thing at a time";
}

TEST_F(Watched, AConnectionIsEnoughWhereNothingElseIsAsked) {
  Server server;
  node::v1::Probe probe;
  probe.set_tcp(true);
  watch(probe, server.port);
  EXPECT_TRUE(said("connected"));
  EXPECT_TRUE(readiness.state({1})->ready);
}

TEST_F(Watched, HealthOfGrpcIsAsked) {
  Health health;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterCallbackGenericService(&health);
  const auto server = builder.BuildAndStart();
  ASSERT_TRUE(server);
  auto probe = http(2);
  probe.set_grpc_service("mine");
  watch(probe, port);
  EXPECT_TRUE(said("not serving"));
  health.status = 1;
  ASSERT_TRUE(soon([&] { return readiness.state({1})->ready; }));
  health.status = 2;
  ASSERT_TRUE(soon([&] { return !readiness.state({1})->ready; }));
  Server mute;  // not even a handshake
  mute.status = 0;
  auto hasty = probe;
  hasty.set_timeout_ms(100);
  watch(hasty, mute.port);
  EXPECT_TRUE(said("grpc health"));
  watch(probe, port);  // and one is under way when it all ends
}

TEST_F(Watched, WhatIsForgottenIsNotAskedAndNotTold) {
  Server server;
  watch(http(), server.port);
  ASSERT_TRUE(soon([&] { return readiness.state({1})->ready; }));
  readiness.forget({1});
  EXPECT_FALSE(readiness.state({1}));
  server.status = 503;
  std::this_thread::sleep_for(100ms);
  const int before = server.asked;
  std::this_thread::sleep_for(200ms);
  EXPECT_EQ(server.asked, before);
  EXPECT_EQ(seen(), std::vector<bool>{true});
  readiness.forget({2});
}

}  // namespace
}  // namespace chalk::agent
