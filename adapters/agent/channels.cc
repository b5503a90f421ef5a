#include "adapters/agent/channels.h"

#include <spdlog/spdlog.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <system_error>
#include <thread>

#include "adapters/agent/channel.h"
#include "adapters/api/guest.h"

namespace chalk::agent {

struct Channels::State {
  Sources sources;
  Sessions& sessions;
  const Logs& logs;
  const Limits limits;

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::set<Channel*> open;
  std::map<SandboxId, std::size_t> of_sandbox;  // those of `open` that were not refused
  std::size_t threads = 0;
  bool stopping = false;

  Result<void> enter(SandboxId sandbox);
  void leave(SandboxId sandbox);  // with mutex
  void run(const std::string& name);
  void serve(Channel& channel, std::optional<SandboxId>& place);
  void obey(Channel& channel, const node::v1::Open& open);
};

void Channels::State::obey(Channel& channel, const node::v1::Open& open) {
  const SandboxId sandbox{open.sandbox()};
  using Open = node::v1::Open;
  // Sessions and logs outlive their sandbox by a while; what starts a process does not.
  if (open.work_case() == Open::kRun || open.work_case() == Open::kGuest) {
    if (const auto runs = sources.running(sandbox); !runs) {
      return channel.fail(runs.error().kind, runs.error().message);
    }
  }
  switch (open.work_case()) {
    case Open::kSession: return serve_session(channel, sandbox, sessions);
    case Open::kRun: {
      const auto& run = open.run();
      Command command;
      command.argv.assign(run.argv().begin(), run.argv().end());
      command.env = {run.env().begin(), run.env().end()};
      command.workdir = run.workdir();
      return serve_command(channel, sandbox, std::move(command),
                           std::chrono::milliseconds(run.timeout_ms()), run.output_bytes_max(),
                           sessions);
    }
    case Open::kGuest: {
      if (!sources.guest) {
        return channel.fail(Error::Kind::unavailable,
                            "this node has no guest helper: start its agent with --guest");
      }
      Command command;
      command.argv.emplace_back(api::kGuestPath);
      command.argv.insert(command.argv.end(), open.guest().arguments().begin(),
                          open.guest().arguments().end());
      return serve_command(channel, sandbox, std::move(command), {}, 0, sessions);
    }
    case Open::kLogs: return serve_logs(channel, sandbox, open.logs(), logs);
    case Open::kListSessions:
      return serve_list(channel, sandbox, open.list_sessions().session(), sessions);
    case Open::kAskReadiness: {
      const auto state = sources.readiness(sandbox);
      if (!state) {
        return channel.fail(Error::Kind::not_found,
                            "it does not run on this node, or has no readiness probe");
      }
      Channel::Up up;
      up.mutable_readiness()->set_ready(state->ready);
      up.mutable_readiness()->set_since(state->since);
      up.mutable_readiness()->set_words(state->words);
      channel.write(up);
      return;
    }
    case Open::WORK_NOT_SET:
      return channel.fail(Error::Kind::invalid, "a channel was opened without work that this "
                                                "agent knows: it may be older than its server");
  }
}

// Whose place it holds until its stream has ended, however long the client takes to read the rest.
void Channels::State::serve(Channel& channel, std::optional<SandboxId>& place) {
  Channel::Down first;
  if (!channel.read(first)) return;
  if (!first.has_open()) {
    return channel.fail(Error::Kind::invalid, "a channel must begin with what is asked");
  }
  const SandboxId sandbox{first.open().sandbox()};
  if (const auto entered = enter(sandbox); !entered) {
    return channel.fail(entered.error().kind, entered.error().message);
  }
  place = sandbox;
  obey(channel, first.open());
}

// A place for one more channel of the sandbox; exhausted where there is none.
Result<void> Channels::State::enter(SandboxId sandbox) {
  const auto full = [](const char* where, std::size_t found, std::size_t most) {
    return fail(Error::Kind::exhausted,
                std::string("commands, sessions, transfers and logs ") + where + ": " +
                    std::to_string(found) + " are open, " + std::to_string(most) +
                    " allowed; end some, or wait for their end");
  };
  const std::lock_guard lock(mutex);
  if (open.size() > limits.of_node) {  // itself among them
    return full("on this node", open.size() - 1, limits.of_node);
  }
  std::size_t& own = of_sandbox[sandbox];
  if (own >= limits.of_sandbox) return full("of this sandbox", own, limits.of_sandbox);
  ++own;
  return {};
}

void Channels::State::leave(SandboxId sandbox) {
  const auto own = of_sandbox.find(sandbox);
  if (--own->second == 0) of_sandbox.erase(own);
}

Channels::Channels(Sources sources, Sessions& sessions, const Logs& logs, Limits limits)
    : state_(new State{std::move(sources), sessions, logs, limits, {}, {}, {}, {}, 0, false}) {}
Channels::~Channels() { stop(); }

void Channels::open(const std::string& name) {
  {
    const std::lock_guard lock(state_->mutex);
    // A few more than allowed, so that there is somebody to say no.
    if (state_->stopping || state_->threads >= state_->limits.of_node + 32) {
      return spdlog::warn("channels: {} are open: one more is ignored", state_->threads);
    }
    ++state_->threads;
  }
  const auto gone = [state = state_] {
    const std::lock_guard lock(state->mutex);
    --state->threads;
    state->changed.notify_all();
  };
  try {
    std::thread([state = state_, name, gone] {
      state->run(name);
      gone();
    }).detach();
  } catch (const std::system_error& error) {  // no more threads: the server's wait for it ends
    spdlog::error("channels: one cannot be served: {}", error.what());
    gone();
  }
}

// Nothing that goes wrong with one channel may end the node: no exception leaves its thread.
void Channels::State::run(const std::string& name) {
  Channel channel(sources.server(), name);
  bool go;
  {
    const std::lock_guard lock(mutex);
    go = !stopping;
    open.insert(&channel);
  }
  std::optional<SandboxId> place;
  try {
    if (go) serve(channel, place);
  } catch (const std::exception& error) {
    spdlog::error("channels: {}", error.what());
    channel.fail(Error::Kind::failed, std::string("the node's agent: ") + error.what());
  }
  if (!go) channel.cancel();
  channel.end();
  const std::lock_guard lock(mutex);
  open.erase(&channel);
  if (place) leave(*place);
}

void Channels::stop() {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  for (Channel* channel : state_->open) channel->cancel();
  state_->changed.wait(lock, [&] { return state_->threads == 0; });
}

std::size_t Channels::count() const {
  const std::lock_guard lock(state_->mutex);
  return state_->open.size();
}

}  // namespace chalk::agent
