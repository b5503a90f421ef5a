// Commands over a channel that holds little, as the road to a node does.
#include "adapters/server/command.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "adapters/server/node_hub.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;

// Runs `cat`, or with `deaf` a command that takes no input. Who sends waits where nobody receives.
class SmallChannel final : public Channel {
 public:
  explicit SmallChannel(bool deaf) : deaf_(deaf) {}

  bool send(const node::v1::ChannelDown& message) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || (!deaf_ && said_.size() < 4); });
    if (closed_) return false;
    node::v1::ChannelUp up;
    if (message.said_case() == node::v1::ChannelDown::kInputEnd) {
      up.mutable_exit();
    } else {
      up.mutable_output()->set_data(message.input());
    }
    said_.push_back(std::move(up));
    changed_.notify_all();
    return true;
  }
  Result<std::optional<node::v1::ChannelUp>> receive(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [&] { return closed_ || ended_ || !said_.empty(); })) {
      return fail(Error::Kind::timeout, "nothing was said");
    }
    if (said_.empty()) return std::optional<node::v1::ChannelUp>();
    std::optional<node::v1::ChannelUp> first(std::move(said_.front()));
    said_.pop_front();
    changed_.notify_all();
    return first;
  }
  void close() override {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

 private:
  const bool deaf_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<node::v1::ChannelUp> said_;
  bool closed_ = false, ended_ = false;
};

CommandAsk with_much_input() {
  CommandAsk ask;
  *ask.words.Add() = "cat";
  ask.input = std::string(kCommandInputBytesMax - 1, 'x');
  ask.input += '\n';
  return ask;
}

TEST(Command, WritesWhileItReads) {
  SmallChannel channel(/*deaf=*/false);
  const grpc::ServerContext context;
  const CommandAsk ask = with_much_input();
  const auto done = converse(channel, context, ask);
  ASSERT_TRUE(done) << done.error().error_message();
  EXPECT_TRUE(done->output == ask.input);
  EXPECT_EQ(done->exit_code, 0);
}

TEST(Command, ThatTakesNoInputIsLeftWhenItsNodeIsGone) {
  SmallChannel channel(/*deaf=*/true);
  channel.end();
  const grpc::ServerContext context;
  const auto done = converse(channel, context, with_much_input());
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().error_code(), grpc::StatusCode::ABORTED);
}

}  // namespace
}  // namespace chalk::server
