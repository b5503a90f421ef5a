#include "adapters/agent/readiness.h"

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "adapters/agent/checks.h"
#include "adapters/agent/live_sandbox.h"
#include "adapters/agent/probe.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;

enum class Step { idle, connecting, sending, receiving, calling };

}  // namespace

struct Readiness::Call {
  SandboxId sandbox;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<grpc::GenericStub> stub;
  grpc::ClientContext context;
  grpc::ByteBuffer question, answer;
};

struct Readiness::Watch {
  node::v1::Probe what;
  ProbeTimes times;
  Dial dial;
  Changed changed;
  State state;
  int failures = 0;
  bool was_ready = false;
  std::chrono::milliseconds pause{5};  // until it first is ready

  Step step = Step::idle;
  Clock::time_point due;    // idle: of the next try; else of its end
  Clock::time_point began;  // the last try
  int socket = -1;
  std::string out, in;
  std::size_t sent = 0;
  std::shared_ptr<Call> call;

  // Whatever is under way comes to nothing.
  void drop() {
    if (socket >= 0) ::close(socket);
    socket = -1;
    if (call) call->context.TryCancel();
    call.reset();
    out.clear();
    in.clear();
    sent = 0;
    step = Step::idle;
  }
};

Readiness::Readiness()
    : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), thread_([this] { run(); }) {}

Readiness::~Readiness() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (auto& [sandbox, watch] : watches_) watch.drop();
    watches_.clear();
    answered_.wait(lock, [&] { return calls_ == 0; });
  }
  wake();
  thread_.join();
  ::close(wake_);
}

void Readiness::wake() const {
  const std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
}

void Readiness::watch(SandboxId sandbox, const node::v1::Probe& what, Dial dial,
                      Changed changed) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    auto& watch = watches_[sandbox];
    watch.drop();
    watch = Watch{};
    watch.what = what;
    watch.times = readiness_times(what);
    watch.dial = std::move(dial);
    watch.changed = std::move(changed);
    watch.state.since = wall_nanos();
    watch.due = Clock::now();
  }
  wake();
}

void Readiness::forget(SandboxId sandbox) {
  const std::lock_guard lock(mutex_);
  const auto found = watches_.find(sandbox);
  if (found == watches_.end()) return;
  found->second.drop();
  watches_.erase(found);
}

std::optional<Readiness::State> Readiness::state(SandboxId sandbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = watches_.find(sandbox);
  if (found == watches_.end()) return std::nullopt;
  return found->second.state;
}

void Readiness::run() {
  std::vector<pollfd> waiting;
  std::vector<SandboxId> whose;
  while (true) {
    waiting.assign(1, {wake_, POLLIN, 0});
    whose.assign(1, {});
    auto next = Clock::now() + 1min;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      for (const auto& [sandbox, watch] : watches_) {
        next = std::min(next, watch.due);
        if (watch.socket < 0) continue;
        const short events = watch.step == Step::receiving ? POLLIN : POLLOUT;
        waiting.push_back({watch.socket, events, 0});
        whose.push_back(sandbox);
      }
    }
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
    (void)::poll(waiting.data(), waiting.size(), static_cast<int>(std::max(wait, 0ms).count()));
    std::uint64_t ignored = 0;
    (void)!::read(wake_, &ignored, sizeof ignored);
    std::vector<Answered> done;  // goes after the lock: the last of a channel may take a moment
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    done.swap(answers_);
    for (const Answered& one : done) {
      const auto found = watches_.find(one.call->sandbox);
      if (found == watches_.end() || found->second.call != one.call) continue;  // given up since
      take(found->second, one.answer, now);
    }
    for (std::size_t i = 1; i < waiting.size(); ++i) {
      const auto found = watches_.find(whose[i]);
      if (waiting[i].revents == 0 || found == watches_.end()) continue;
      if (found->second.socket == waiting[i].fd) go_on(whose[i], found->second, now);
    }
    for (auto& [sandbox, watch] : watches_) {
      if (watch.due > now) continue;
      if (watch.step != Step::idle) {
        const std::string limit = std::to_string(watch.times.timeout.count());
        take(watch, fail(Error::Kind::timeout, "probe: no answer within " + limit + " ms"), now);
      } else if (const auto begun = begin(watch, now); !begun) {
        take(watch, std::unexpected(begun.error()), now);
      }
    }
  }
}

Result<void> Readiness::begin(Watch& watch, Clock::time_point now) {
  watch.began = now;
  watch.due = now + watch.times.timeout;
  const auto socket = watch.dial();
  if (!socket) return std::unexpected(socket.error());
  watch.socket = *socket;
  watch.step = Step::connecting;
  return {};
}

void Readiness::go_on(SandboxId sandbox, Watch& watch, Clock::time_point now) {
  const auto answer = advance(sandbox, watch);
  if (!answer) return take(watch, std::unexpected(answer.error()), now);
  if (*answer) take(watch, **answer, now);
}

// None: it waits for more.
Result<std::optional<std::string>> Readiness::advance(SandboxId sandbox, Watch& watch) {
  using Probe = node::v1::Probe;
  const auto broken = [](const char* doing, int number) {
    return fail(Error::Kind::unavailable,
                std::string("probe: ") + doing + ": " + std::strerror(number));
  };
  if (watch.step == Step::connecting) {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(watch.socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return broken("connect", error);
    if (watch.what.check_case() == Probe::kGrpcService) {
      call_health(sandbox, watch);
      return std::nullopt;
    }
    if (watch.what.check_case() != Probe::kHttpPath) return std::string("connected");
    auto question = http_question(watch.what.http_path());
    if (!question) return std::unexpected(question.error());
    watch.out = std::move(*question);
    watch.step = Step::sending;
  }
  while (watch.step == Step::sending) {
    const ssize_t size = ::send(watch.socket, watch.out.data() + watch.sent,
                                watch.out.size() - watch.sent, MSG_NOSIGNAL);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    if (size < 0) return broken("request", errno);
    watch.sent += static_cast<std::size_t>(size);
    if (watch.sent == watch.out.size()) watch.step = Step::receiving;
  }
  std::array<char, 256> buffer;
  while (watch.in.size() < kStatusLineBytes) {
    const ssize_t size = ::recv(watch.socket, buffer.data(), buffer.size(), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    if (size < 0) return broken("answer", errno);
    if (size == 0) break;
    watch.in.append(buffer.data(), static_cast<std::size_t>(size));
  }
  return http_answer(watch.what.http_path(), watch.in);
}

void Readiness::call_health(SandboxId sandbox, Watch& watch) {
  auto call = std::make_shared<Call>();
  call->sandbox = sandbox;
  call->channel = grpc::CreateInsecureChannelFromFd("sandbox", std::exchange(watch.socket, -1));
  call->stub = std::make_unique<grpc::GenericStub>(call->channel);
  call->question = health_question(watch.what.grpc_service());
  const auto left = watch.due - Clock::now();
  call->context.set_deadline(std::chrono::system_clock::now() +
                             std::chrono::duration_cast<std::chrono::microseconds>(left));
  watch.step = Step::calling;
  watch.due += 5s;  // gRPC keeps the time
  watch.call = call;
  ++calls_;
  call->stub->UnaryCall(&call->context, kHealthMethod, {}, &call->question, &call->answer,
                        // gRPC's own thread must not be the one to let go of the last channel: it
                        // would wait for itself, and 1.51 then aborts.
                        [this, call](grpc::Status status) mutable {
                          auto answer = health_answer(status, call->answer);
                          const std::lock_guard lock(mutex_);
                          answers_.push_back({std::move(call), std::move(answer)});
                          --calls_;
                          wake();
                          answered_.notify_all();
                        });
}

void Readiness::take(Watch& watch, const Result<std::string>& answer, Clock::time_point now) {
  watch.state.words = answer ? *answer : answer.error().message;
  watch.drop();
  watch.due = std::max(now, watch.began + watch.times.period);
  watch.failures = answer ? 0 : watch.failures + 1;
  const bool change = answer ? !watch.state.ready
                             : watch.state.ready && watch.failures >= watch.times.failures_max;
  if (change) {
    watch.state.ready = answer.has_value();
    watch.was_ready = true;
    watch.state.since = wall_nanos();
    watch.changed(watch.state.ready);
  }
  if (!watch.was_ready) {
    watch.due = std::min(watch.due, now + watch.pause);
    watch.pause = std::min(watch.pause * 2, watch.times.period);
  }
}

}  // namespace chalk::agent
