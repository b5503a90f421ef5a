#include "adapters/server/session_bridge.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "adapters/server/command.h"
#include "adapters/server/node_hub.h"

namespace chalk::server {
namespace {

namespace wire = sandbox::v2;
using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kLook = 1s;  // how often a quiet session sees that it has ended

grpc::Status no_thread() {
  return {grpc::StatusCode::RESOURCE_EXHAUSTED,
          "the server has no thread left for a session; try again in a moment"};
}

// Two threads of its own do all that waits, so that gRPC's few never do: `down` takes what the
// client says to the node, `up` opens the channel and takes what the node says to the client, and
// is the one that ends the call.
class Bridge final : public SessionReactor {
 public:
  Bridge(TenantSandboxes& sandboxes, Places& places, grpc::CallbackServerContext& context)
      : sandboxes_(sandboxes), places_(places), context_(context) {}
  // Who may not have a session costs no thread.
  void begin() {
    if (auto status = admit(); !status.ok()) return refuse(status);
    try {
      std::thread([this] { up(); }).detach();
    } catch (const std::system_error&) {
      refuse(no_thread());
    }
  }

  // ---- called by gRPC; none of these waits
  void OnReadDone(bool good) override {
    const std::lock_guard lock(mutex_);
    reading_ = false;
    read_ = good;
    half_closed_ = !good;
    changed_.notify_all();
  }
  void OnWriteDone(bool good) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!good) gone_ = true;
    changed_.notify_all();
  }
  void OnCancel() override {
    std::shared_ptr<Channel> channel;
    {
      const std::lock_guard lock(mutex_);
      gone_ = true;
      channel = channel_;
      changed_.notify_all();
    }
    if (channel) channel->close();
  }
  void OnDone() override { leave(); }

 private:
  grpc::Status admit() {
    auto caller = sandboxes_.admit(context_);
    if (!caller) return caller.error();
    caller_ = std::move(*caller);
    place_ = places_.take(caller_.tenant);
    if (!place_) return {grpc::StatusCode::RESOURCE_EXHAUSTED, places_.full()};
    return grpc::Status::OK;
  }
  void refuse(const grpc::Status& status) {
    place_ = {};
    Finish(status);
    leave();  // as `up` would
  }

  // Both gRPC and the thread `up` need this object; who leaves last deletes it.
  void leave() {
    if (left_.fetch_add(1) == 1) delete this;
  }

  // The next message of the client into request_; false when there is none any more.
  bool read() {
    std::unique_lock lock(mutex_);
    if (gone_ || half_closed_ || over_) return false;
    reading_ = starting_ = true;
    lock.unlock();
    StartRead(&request_);
    lock.lock();
    starting_ = false;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !reading_; });
    return read_ && !over_;
  }
  bool write(const wire::OpenSessionResponse& response) {
    std::unique_lock lock(mutex_);
    if (gone_) return false;
    writing_ = true;
    lock.unlock();
    StartWrite(&response);
    lock.lock();
    changed_.wait(lock, [&] { return !writing_; });
    return !gone_;
  }
  bool gone() {
    const std::lock_guard lock(mutex_);
    return gone_;
  }

  // ---- the two threads
  void up() {
    const grpc::Status status = converse();
    std::shared_ptr<Channel> channel;
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
      channel = channel_;
    }
    if (channel) channel->close();
    {
      // `down` begins no read any more, but one may be in the making, which must not come after the
      // end of the call. One that waits for a client that says nothing is ended by it.
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !starting_; });
    }
    place_ = {};  // the server that it is of may be gone after the call
    Finish(status);
    if (down_.joinable()) down_.join();
    leave();
  }

  grpc::Status converse() {
    auto watched = sandboxes_.watch(context_);
    watched.expect_first(kFirstMessageMax);
    if (!read()) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              "a session begins with new_process or attach_session, found nothing"};
    }
    watched.first_came();
    auto sandbox = find();
    if (!sandbox) return sandbox.error();
    node::v1::Open open;
    open.set_sandbox(sandbox->sandbox.value);
    open.mutable_session();
    auto channel = sandboxes_.services().nodes.open(sandbox->node, open);
    if (!channel) return to_status(channel.error());
    {
      const std::lock_guard lock(mutex_);
      channel_ = *channel;
    }
    if (gone()) return grpc::Status::CANCELLED;
    watched.closes(*channel);
    try {
      down_ = std::thread([this] { down(); });
    } catch (const std::system_error&) {
      return no_thread();
    }
    return deliver(**channel);
  }

  Answer<records::Sandbox> find() {
    if (request_.has_attach_session()) {
      // A session outlives its sandbox by a while, for who comes back for its last words.
      auto sandbox = sandboxes_.find(caller_, request_.attach_session().sandbox_id());
      if (sandbox && sandbox->ended.nanos != 0 && sandbox->node && sandbox->ran) return sandbox;
      return sandboxes_.running(context_, caller_, request_.attach_session().sandbox_id());
    }
    if (!request_.has_new_process()) {
      return std::unexpected(grpc::Status(
          grpc::StatusCode::INVALID_ARGUMENT,
          "a session begins with new_process or attach_session, found something else"));
    }
    const wire::NewProcess& process = request_.new_process();
    CommandAsk ask;
    *ask.words.Add() = process.command();
    ask.words.MergeFrom(process.args());
    ask.variables = process.env_vars();
    ask.workdir = process.workdir();
    if (process.has_timeout()) ask.timeout = process.timeout();
    if (auto good = check_command(ask); !good.ok()) return std::unexpected(good);
    return sandboxes_.running(context_, caller_, process.sandbox_id());
  }

  // The node's words to the client, until the node has no more.
  grpc::Status deliver(Channel& channel) {
    while (true) {
      auto message = channel.receive(kLook);
      if (gone()) return grpc::Status::CANCELLED;
      if (!message && message.error().kind != Error::Kind::timeout) {
        return to_status(message.error());
      }
      if (!message) continue;
      if (!*message) {
        return ended_ ? grpc::Status::OK
                      : grpc::Status(grpc::StatusCode::UNAVAILABLE,
                                     "the sandbox's node went away; attach to the session again");
      }
      const node::v1::ChannelUp& said = **message;
      if (said.has_failure()) return TenantSandboxes::failed(said.failure());
      if (!said.has_session()) continue;
      const wire::OpenSessionResponse& response = said.session();
      ended_ = ended_ || response.has_process_exited() || response.has_process_failed() ||
               response.has_process_timed_out() || response.has_session_detached() ||
               response.has_error();
      if (!write(response)) return grpc::Status::CANCELLED;
    }
  }

  void down() {
    std::shared_ptr<Channel> channel;
    {
      const std::lock_guard lock(mutex_);
      channel = channel_;
    }
    node::v1::ChannelDown message;
    bool good = true;
    do {
      if (request_.has_stdin_data()) {
        // In pieces: a node takes no message of any size.
        const std::string data = std::move(*request_.mutable_stdin_data()->mutable_data());
        for (std::size_t at = 0; good && at < data.size(); at += kPieceBytes) {
          message.mutable_session()->mutable_stdin_data()->set_data(data.substr(at, kPieceBytes));
          good = channel->send(message);
        }
      } else {
        *message.mutable_session() = std::move(request_);
        good = channel->send(message);
      }
    } while (good && read());
  }

  TenantSandboxes& sandboxes_;
  Places& places_;
  grpc::CallbackServerContext& context_;
  identity::Caller caller_;
  Places::Place place_;
  std::thread down_;
  std::atomic<int> left_ = 0;
  wire::OpenSessionRequest request_;  // of the thread that reads: first up's, then down's
  bool ended_ = false;                // of up: an orderly end was said

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Channel> channel_;
  bool starting_ = false, reading_ = false, read_ = false, half_closed_ = false;
  bool writing_ = false;
  bool gone_ = false;  // the client is not there any more
  bool over_ = false;  // nothing more is read
};

}  // namespace

SessionReactor* begin_session(TenantSandboxes& sandboxes, Places& places,
                              grpc::CallbackServerContext& context) {
  auto* bridge = new Bridge(sandboxes, places, context);
  bridge->begin();
  return bridge;
}

}  // namespace chalk::server
