// Channels whose other end is a server in this process: what goes wrong with one ends that one alone.
#include "adapters/agent/channels.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "chalk/node/v1/node.grpc.pb.h"
#include "plain_process.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
using node::v1::ChannelDown;
using node::v1::ChannelUp;

// Hands each Channel stream to the test.
class Server final : public node::v1::NodeLink::Service {
 public:
  using Stream = grpc::ServerReaderWriter<ChannelDown, ChannelUp>;
  using Serve = std::function<void(Stream&, grpc::ServerContext&)>;

  explicit Server(Serve serve) : serve_(std::move(serve)) {
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~Server() override { server_->Shutdown(std::chrono::system_clock::now() + 5s); }
  std::shared_ptr<grpc::Channel> dial() { return server_->InProcessChannel({}); }

 private:
  grpc::Status Channel(grpc::ServerContext* context, Stream* stream) override {
    ChannelUp word;
    if (stream->Read(&word)) serve_(*stream, *context);
    return grpc::Status::OK;
  }
  const Serve serve_;
  std::unique_ptr<grpc::Server> server_;
};

class ChannelsTest : public testing::Test {
 protected:
  ~ChannelsTest() override {
    channels_.reset();
    server_.reset();
    plain_.reset();
    sessions_.reset();
    logs_.reset();
    std::filesystem::remove_all(folder_);
  }
  void begin(StartProcess start, Server::Serve serve) {
    logs_ = std::make_unique<Logs>(folder_, 1 << 20);
    sessions_ = std::make_unique<Sessions>(std::move(start), Sessions::Options{});
    server_ = std::make_unique<Server>(std::move(serve));
    channels_ = std::make_unique<Channels>(
        Channels::Sources{[this] { return server_->dial(); },
                          [](SandboxId) { return Result<void>(); }, false, {}},
        *sessions_, *logs_, Channels::Limits{8, 8});
    channels_->open("word");
  }
  bool served() {  // to the end
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (channels_->count() != 0 || !over_) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(10ms);
    }
    return true;
  }
  static ChannelDown run(const std::vector<std::string>& argv) {
    ChannelDown down;
    down.mutable_open()->set_sandbox(1);
    for (const std::string& word : argv) down.mutable_open()->mutable_run()->add_argv(word);
    return down;
  }
  static ChannelDown session(const std::string& program, const std::string& argument) {
    ChannelDown down;
    auto& process = *down.mutable_session()->mutable_new_process();
    process.set_command(program);
    process.add_args(argument);
    return down;
  }
  // Much input for a process that takes none, until the road to it is full; then the client goes.
  void fill_and_cut(Server::Stream& stream, grpc::ServerContext& context, const ChannelDown& input) {
    std::thread writer([&] {
      for (int i = 0; i < 64 && stream.Write(input); ++i) ++written_;
    });
    const auto until = std::chrono::steady_clock::now() + 30s;
    for (int before = 0; before != written_ || before == 0;) {  // it stands still, having begun
      if (std::chrono::steady_clock::now() > until) break;
      before = written_;
      std::this_thread::sleep_for(300ms);
    }
    context.TryCancel();
    writer.join();
    over_ = true;
  }

  const std::string folder_ = testing::TempDir() + "agent_channels_" + std::to_string(getpid());
  std::unique_ptr<PlainProcesses> plain_ = std::make_unique<PlainProcesses>();
  std::unique_ptr<Logs> logs_;
  std::unique_ptr<Sessions> sessions_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Channels> channels_;
  std::atomic<int> written_ = 0;
  std::atomic<bool> over_ = false;
};

TEST_F(ChannelsTest, AnExceptionEndsItsChannelAndNotTheNode) {
  ChannelUp said;
  begin([](SandboxId, const Command&, const std::function<void(ProcessEnd)>&) -> Result<Process> {
          throw std::runtime_error("the disk is full");
        },
        [&](Server::Stream& stream, grpc::ServerContext&) {
          stream.Write(run({"/bin/true"}));
          ChannelUp next;
          while (stream.Read(&next)) said = next;
          over_ = true;
        });
  ASSERT_TRUE(served());
  ASSERT_TRUE(said.has_failure());
  EXPECT_EQ(said.failure().message(), "the disk is full");
  EXPECT_EQ(sessions_->running(), 0u);
}

TEST_F(ChannelsTest, ACommandThatTakesNoInputEndsWithItsClient) {
  begin(plain_->source(), [&](Server::Stream& stream, grpc::ServerContext& context) {
    stream.Write(run({"/bin/sleep", "1000"}));
    ChannelDown input;
    input.set_input(std::string(256 << 10, 'x'));
    fill_and_cut(stream, context, input);
  });
  EXPECT_TRUE(served());
  EXPECT_LT(written_, 64) << "all of it fitted: nothing was held up";
}

TEST_F(ChannelsTest, ASessionThatTakesNoInputOutlivesItsClientAndNotItsChannel) {
  begin(plain_->source(), [&](Server::Stream& stream, grpc::ServerContext& context) {
    ChannelDown open;
    open.mutable_open()->set_sandbox(1);
    open.mutable_open()->mutable_session();
    stream.Write(open);
    stream.Write(session("/bin/sleep", "1000"));
    ChannelDown input;
    input.mutable_session()->mutable_stdin_data()->set_data(std::string(256 << 10, 'x'));
    fill_and_cut(stream, context, input);
  });
  EXPECT_TRUE(served());
  EXPECT_LT(written_, 64) << "all of it fitted: nothing was held up";
  const auto left = sessions_->list({1});
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0]->status().state, SessionState::running);
  EXPECT_TRUE(left[0]->signal(SIGKILL));
}

}  // namespace
}  // namespace chalk::agent
