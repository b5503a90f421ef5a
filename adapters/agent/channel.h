// One Channel stream, with a lock around writing. Internal to the channels.
#pragma once
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include "adapters/agent/channels.h"
#include "chalk/node/v1/node.grpc.pb.h"

namespace chalk::agent {

// How long a process may say nothing before its client is looked for.
inline constexpr std::chrono::milliseconds kAlivePause{5'000};

class Channel {
 public:
  using Up = node::v1::ChannelUp;
  using Down = node::v1::ChannelDown;

  Channel(const std::shared_ptr<grpc::Channel>& server, const std::string& name)
      : stub_(node::v1::NodeLink::NewStub(server)), stream_(stub_->Channel(&context_)) {
    Up first;
    first.set_channel(name);
    write(first);
  }
  // One reader and any writers. False when the stream has ended.
  bool read(Down& message) { return stream_->Read(&message); }
  bool write(const Up& message) {
    const std::lock_guard lock(mutex_);
    return !closed_ && stream_->Write(message);
  }
  void fail(Error::Kind kind, const std::string& message) {
    Up up;
    up.mutable_failure()->set_kind(static_cast<node::v1::Failure::Kind>(wire_kind(kind)));
    up.mutable_failure()->set_message(message);
    write(up);
  }
  // Nothing more is written; the server ends the stream when it has read all.
  void finish() {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(closed_, true)) stream_->WritesDone();
  }
  void end() {  // waits for the server's end of it
    finish();
    Down rest;
    while (stream_->Read(&rest)) {
    }
    stream_->Finish();
  }
  // Whether the other end is still there, for who does not read and so sees no end of the stream: a
  // reader that is held up by a process which takes no input. A message that says nothing is written;
  // where it cannot be, the channel is cancelled.
  bool alive() {
    if (write(Up{})) return true;
    cancel();
    return false;
  }
  void cancel() {
    cancelled_ = true;
    context_.TryCancel();
  }
  bool cancelled() const { return cancelled_; }

 private:
  static int wire_kind(Error::Kind kind) {
    using Wire = node::v1::Failure;
    switch (kind) {
      case Error::Kind::invalid: return Wire::INVALID;
      case Error::Kind::not_found: return Wire::NOT_FOUND;
      case Error::Kind::denied: return Wire::DENIED;
      case Error::Kind::exhausted: return Wire::EXHAUSTED;
      case Error::Kind::unavailable: return Wire::UNAVAILABLE;
      case Error::Kind::timeout: return Wire::TIMEOUT;
      case Error::Kind::corrupt: return Wire::CORRUPT;
      case Error::Kind::failed: return Wire::FAILED;
    }
    return Wire::FAILED;
  }

  grpc::ClientContext context_;
  std::unique_ptr<node::v1::NodeLink::Stub> stub_;
  std::mutex mutex_;
  bool closed_ = false;
  std::atomic<bool> cancelled_ = false;
  std::unique_ptr<grpc::ClientReaderWriter<Up, Down>> stream_;
};

// ---- what can be asked on one; each returns when it is done, whatever happened
void serve_session(Channel& channel, SandboxId sandbox, Sessions& sessions);
void serve_command(Channel& channel, SandboxId sandbox, Command command,
                   std::chrono::milliseconds timeout, std::uint64_t output_bytes_max,
                   Sessions& sessions);
void serve_logs(Channel& channel, SandboxId sandbox, const node::v1::Logs& asked, const Logs& logs);
void serve_list(Channel& channel, SandboxId sandbox, const std::string& id, Sessions& sessions);

}  // namespace chalk::agent
