// How one sandbox starts: root file system, network, runtime, its startup probe. What can be made
// ahead was: mounts are shared and stay, namespaces wait in the network's reserve; so the steps
// before the runtime take well under a millisecond and are not worth threads.
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <chrono>

#include "adapters/agent/live_sandbox.h"
#include "adapters/agent/probe.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The host port that it had before it ended; 0 for none.
std::uint16_t last_port(const std::string& last_started) {
  node::v1::SandboxNote note;
  if (!note.ParseFromString(last_started)) return 0;
  const std::string& url = note.web_url();
  const std::size_t colon = url.rfind(':');
  std::uint16_t port = 0;
  if (colon == std::string::npos) return 0;
  const char* end = url.data() + url.size();
  return std::from_chars(url.data() + colon + 1, end, port).ptr == end ? port : std::uint16_t{0};
}

double seconds_between(std::int64_t from, std::int64_t to) {
  return from == 0 || to == 0 ? 0 : static_cast<double>(to - from) / 1e9;
}

// What the order says over what the image says.
StartPlan plan_of(const StartOrder& order, const node::v1::SandboxPayload& payload,
                  const images::ImageConfig& image) {
  StartPlan plan;
  plan.name = name_of(order.sandbox);
  plan.hostname = payload.hostname().empty() ? plan.name : payload.hostname();
  plan.argv.assign(payload.argv().begin(), payload.argv().end());
  if (plan.argv.empty()) {
    plan.argv = image.entrypoint;
    plan.argv.insert(plan.argv.end(), image.cmd.begin(), image.cmd.end());
  }
  for (const std::string& one : image.env) {
    const std::size_t equals = one.find('=');
    if (equals != std::string::npos && equals > 0) {
      plan.env[one.substr(0, equals)] = one.substr(equals + 1);
    }
  }
  for (const auto& [name, value] : payload.env()) plan.env[name] = value;
  plan.env.try_emplace("PATH", kPath);
  plan.workdir = payload.workdir().empty() ? image.workdir : payload.workdir();
  if (plan.workdir.empty()) plan.workdir = "/";
  plan.user = payload.user().empty() ? image.user : payload.user();
  plan.resources = order.resources;
  plan.disk_bytes = order.resources.disk_bytes;
  return plan;
}

}  // namespace

bool Sandboxes::wanted(const Live& live) const {
  const std::lock_guard lock(mutex_);
  return !live.kill_wanted && !stopping_;
}

void Sandboxes::begin(const Hold& live) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;  // the next agent begins it again
  }
  const auto done = bring_up(live);
  if (!done) return start_failed(live, done.error());
  watch(*live);
  started(live);
}

Result<void> Sandboxes::bring_up(const Hold& hold) {
  Live& live = *hold;
  if (!wanted(live)) return fail(Error::Kind::unavailable, "it was killed before it began");
  if (!live.payload.ParseFromString(live.order.payload)) {
    return fail(Error::Kind::corrupt, "the order carries a payload that is none");
  }
  const auto image = images::decode_image(live.payload.image());
  if (!image) return std::unexpected(image.error());
  if (auto done = launch(hold, *image); !done) return done;
  if (live.payload.port() != 0) publish(live);
  return await_startup(live);
}

Result<void> Sandboxes::launch(const Hold& hold, const images::Image& image) {
  Live& live = *hold;
  StartPlan plan = plan_of(live.order, live.payload, image.config);
  if (plan.argv.empty()) {
    return fail(Error::Kind::invalid, "nothing to run: neither the sandbox nor its image names a "
                                      "command");
  }
  auto root = parts_.rootfs.acquire(live.name, image);
  if (!root) return std::unexpected(root.error());
  plan.rootfs = std::move(*root);
  auto endpoint = parts_.network.acquire(live.name);
  if (!endpoint) return std::unexpected(endpoint.error());
  plan.network_namespace = endpoint->namespace_path;
  plan.resolv_conf = std::move(endpoint->resolv_conf);
  plan.hosts = std::move(endpoint->hosts);
  live.note.set_address(endpoint->address);
  live.note.set_network_ready_at(wall_nanos());
  auto files = parts_.logs.begin(live.order.sandbox, live.restarts > 0);
  if (!files) return std::unexpected(files.error());
  plan.output_file = std::move(files->output);
  plan.error_file = std::move(files->error);
  if (!wanted(live)) return fail(Error::Kind::unavailable, "it was killed while it was starting");
  const auto at = parts_.machinery.start(plan, options_.start_timeout, ender(hold));
  if (!at) return std::unexpected(at.error());
  live.note.set_created_at(at->created);
  live.note.set_started_at(at->started);
  return {};
}

// A port that cannot be published is told, but the sandbox is good without it.
void Sandboxes::publish(Live& live) {
  const int port = live.payload.port();
  if (port < 1 || port > 65535) return;
  const auto inside = static_cast<std::uint16_t>(port);
  const std::uint16_t before = last_port(live.last_started);
  const bool open = !live.payload.has_readiness_probe();  // else once it has said that it is ready
  auto host_port = parts_.network.publish(live.name, inside, before, open);
  if (!host_port && before != 0) host_port = parts_.network.publish(live.name, inside, 0, open);
  if (!host_port) {
    live.note.set_detail("port " + std::to_string(port) +
                         " is not published: " + host_port.error().message);
    spdlog::warn("sandbox {}: {}", live.order.sandbox.value, live.note.detail());
    return;
  }
  live.note.set_web_url("http://" + options_.advertise_address + ":" + std::to_string(*host_port));
}

void Sandboxes::watch(const Live& live) {
  const int port = live.payload.port();
  if (!live.payload.has_readiness_probe() || port < 1 || port > 65535) return;
  const auto inside = static_cast<std::uint16_t>(port);
  readiness_.watch(
      live.order.sandbox, live.payload.readiness_probe(),
      [this, name = live.name, inside] { return parts_.network.begin_connect(name, inside); },
      [this, name = live.name, inside](bool ready) {
        parts_.network.set_open(name, inside, ready);
      });
}

// Asks often at first: most are ready long before their period is over.
Result<void> Sandboxes::await_startup(Live& live) {
  if (!live.payload.has_startup_probe()) return {};
  const auto& what = live.payload.startup_probe();
  const int port = live.payload.port();
  if (port < 1 || port > 65535) {
    return fail(Error::Kind::invalid, "a startup probe needs a port between 1 and 65535");
  }
  const ProbeTimes times = probe_times(what);
  const auto until = Alarm::Clock::now() + times.period * times.failures_max;
  const Dial dial = [&](std::chrono::milliseconds timeout) {
    return parts_.network.connect(live.name, static_cast<std::uint16_t>(port), timeout);
  };
  auto pause = std::chrono::milliseconds(5);
  while (true) {
    const auto answer = probe(what, dial);
    if (answer) {
      live.note.set_ready_at(wall_nanos());
      return {};
    }
    std::unique_lock lock(mutex_);
    if (!live.end && !live.kill_wanted && !stopping_ && Alarm::Clock::now() < until) {
      changed_.wait_for(lock, pause, [&] { return live.end || live.kill_wanted || stopping_; });
    }
    if (live.kill_wanted || stopping_) {
      return fail(Error::Kind::unavailable, "it was killed while it was starting");
    }
    if (live.end) {
      return fail(Error::Kind::failed, "its process ended before the startup probe was answered");
    }
    if (Alarm::Clock::now() >= until) {
      return fail(Error::Kind::timeout,
                  "the startup probe was not answered well in time: " + answer.error().message);
    }
    pause = std::min(pause * 2, times.period);
  }
}

void Sandboxes::started(const Hold& live) {
  const auto& note = live->note;
  const SandboxId sandbox = live->order.sandbox;
  live->note.set_first_byte_at(parts_.logs.first_byte_at(sandbox));
  std::unique_lock lock(mutex_);
  if (live->kill_wanted) {  // killed while it was starting
    lock.unlock();
    return start_failed(live, {Error::Kind::unavailable, "it was killed while it was starting"});
  }
  spdlog::info(
      "sandbox {} ({}): started; layers {:.3f} s, network {:.3f} s, created {:.3f} s, "
      "started {:.3f} s, ready {:.3f} s",
      sandbox.value, live->payload.id(),
      seconds_between(note.accepted_at(), note.layers_ready_at()),
      seconds_between(note.layers_ready_at(), note.network_ready_at()),
      seconds_between(note.network_ready_at(), note.created_at()),
      seconds_between(note.created_at(), note.started_at()),
      seconds_between(note.started_at(), note.ready_at()));
  if (options_.metrics.observed) {
    options_.metrics.observed("start",
                              seconds_between(note.layers_ready_at(), note.started_at()));
  }
  live->phase = Phase::running;
  post_(node::SandboxStarted{sandbox, true, live->note.SerializeAsString()});
  if (!live->end) return;
  live->phase = Phase::ending;  // already over
  enders_.run([this, live] { finish(live); });
}

void Sandboxes::start_failed(const Hold& live, const Error& error) {
  const SandboxId sandbox = live->order.sandbox;
  if (!clean_up(*live)) return end_later([this, live, error] { start_failed(live, error); });
  const std::lock_guard lock(mutex_);
  // An agent that stops says nothing: the next one begins this sandbox again.
  if (stopping_ && !live->kill_wanted) return void(live_.erase(sandbox));
  spdlog::warn("sandbox {} ({}): not started: {}", sandbox.value, live->payload.id(),
               error.message);
  if (live->kill_wanted) parts_.logs.end(sandbox);
  if (options_.metrics.counted) options_.metrics.counted("starts_failed");
  live->note.set_detail(error.message);
  if (!live->end) live->note.set_ended_at(wall_nanos());
  post_(node::SandboxStarted{sandbox, false, note(*live)});
  live_.erase(sandbox);
}

}  // namespace chalk::agent
