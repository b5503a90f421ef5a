// How many channels one sandbox may have open, over plain processes and a server that only asks.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>

#include "adapters/agent/channels.h"
#include "chalk/node/v1/node.grpc.pb.h"
#include "plain_process.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
constexpr auto kLong = 60s;

// Whoever opens the channel "7" is asked for a session of /bin/cat in sandbox 7. Its stream stays
// until it was refused, or let() lets it go.
class Asking : public node::v1::NodeLink::Service {
 public:
  Asking() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (!server_) throw std::runtime_error("no server on loopback");
  }
  ~Asking() override {
    let(1'000);
    server_->Shutdown(std::chrono::system_clock::now() + 2s);
  }
  std::shared_ptr<grpc::Channel> connect() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port_),
                                     grpc::InsecureChannelCredentials(), arguments);
  }
  // What the next channel said first.
  node::v1::ChannelUp answer() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kLong, [&] { return !answers_.empty(); })) return {};
    node::v1::ChannelUp first = std::move(answers_.front());
    answers_.pop_front();
    return first;
  }
  void let(int streams) {
    const std::lock_guard lock(mutex_);
    go_ += streams;
    changed_.notify_all();
  }

 private:
  grpc::Status Channel(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<node::v1::ChannelDown, node::v1::ChannelUp>* stream) override {
    node::v1::ChannelUp said;
    if (!stream->Read(&said)) return grpc::Status::CANCELLED;
    node::v1::ChannelDown ask;
    ask.mutable_open()->set_sandbox(std::stoull(said.channel()));
    ask.mutable_open()->mutable_session();
    stream->Write(ask);
    ask.mutable_session()->mutable_new_process()->set_command("/bin/cat");
    stream->Write(ask);
    if (!stream->Read(&said)) return grpc::Status::CANCELLED;
    std::unique_lock lock(mutex_);
    answers_.push_back(said);
    changed_.notify_all();
    if (said.has_failure()) return grpc::Status::OK;
    changed_.wait(lock, [&] { return go_ > 0; });
    --go_;
    return grpc::Status::OK;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<node::v1::ChannelUp> answers_;
  int go_ = 0;
};

struct ChannelLimits : testing::Test {
  std::string folder = testing::TempDir() + "channel_limits_" + std::to_string(getpid());
  std::unique_ptr<PlainProcesses> plain = std::make_unique<PlainProcesses>();
  std::unique_ptr<Sessions> sessions =
      std::make_unique<Sessions>(plain->source(), Sessions::Options{});
  std::unique_ptr<Logs> logs = std::make_unique<Logs>(folder, 1 << 20);
  std::unique_ptr<Asking> server = std::make_unique<Asking>();
  std::unique_ptr<Channels> channels;

  void begin(Channels::Limits limits) {
    Channels::Sources sources;
    sources.server = [channel = server->connect()] { return channel; };
    sources.running = [](SandboxId) -> Result<void> { return {}; };
    sources.readiness = [](SandboxId) { return std::nullopt; };
    channels = std::make_unique<Channels>(std::move(sources), *sessions, *logs, limits);
  }
  bool opens(const std::string& sandbox) {
    channels->open(sandbox);
    said = server->answer();
    return said.session().has_session_attached();
  }
  // Once no more than so many are left.
  void await(std::size_t most) {
    const auto until = std::chrono::steady_clock::now() + kLong;
    while (channels->count() > most) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(10ms);
    }
  }
  void TearDown() override {
    server->let(1'000);
    channels.reset();
    for (const std::uint64_t sandbox : {7, 8, 9}) {
      for (const auto& one : sessions->list({sandbox})) (void)one->signal(SIGKILL);
    }
    plain.reset();  // joins those that tell sessions of ends
    sessions.reset();
    server.reset();
    logs.reset();
    std::filesystem::remove_all(folder);
  }
  node::v1::ChannelUp said;
};

TEST_F(ChannelLimits, OneSandboxIsRefusedBeyondItsPartAndAnotherStillOpens) {
  begin({8, 2});
  EXPECT_TRUE(opens("7"));
  EXPECT_TRUE(opens("7"));
  EXPECT_FALSE(opens("7"));
  EXPECT_EQ(said.failure().kind(), node::v1::Failure::EXHAUSTED);
  EXPECT_NE(said.failure().message().find("of this sandbox: 2 are open, 2 allowed"),
            std::string::npos)
      << said.failure().message();
  EXPECT_TRUE(opens("8"));
  await(3);  // the one refused is gone
  server->let(1);  // one of the three
  await(2);
  EXPECT_TRUE(opens("9"));
}

TEST_F(ChannelLimits, TheNodeHasALimitOfItsOwn) {
  begin({2, 2});
  EXPECT_TRUE(opens("7"));
  EXPECT_TRUE(opens("8"));
  EXPECT_FALSE(opens("9"));
  EXPECT_EQ(said.failure().kind(), node::v1::Failure::EXHAUSTED);
  EXPECT_NE(said.failure().message().find("on this node: 2 are open, 2 allowed"),
            std::string::npos)
      << said.failure().message();
}

TEST_F(ChannelLimits, APlaceIsThereAgainWhenItsStreamHasEnded) {
  begin({8, 1});
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(opens("7")) << said.DebugString();
    server->let(1);
    await(0);
  }
}

}  // namespace
}  // namespace chalk::agent
