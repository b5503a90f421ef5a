// The real arm: the parts that an agent is made of, over runsc, a network of its own and a local
// registry.
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "adapters/agent/alarm.h"
#include "adapters/agent/clear.h"
#include "adapters/agent/gvisor_machinery.h"
#include "adapters/agent/logs.h"
#include "adapters/agent/pulls.h"
#include "adapters/agent/recovery.h"
#include "adapters/agent/sandboxes.h"
#include "adapters/agent/sessions.h"
#include "adapters/images/layer_id.h"
#include "adapters/images/registry.h"
#include "adapters/images/rootfs.h"
#include "adapters/network/network.h"
#include "adapters/process/child.h"
#include "chalk/node/v1/node.pb.h"
#include "tests/conformance/arm.h"
#include "tests/support/machine.h"

namespace chalk::conformance {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

using test::runsc;

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// One for the program, with the images that ci/base-image makes.
class TestRegistry {
 public:
  TestRegistry() {
    const auto done = must(process::run(command("start"), 120s));
    if (done.status.exit_code != 0) throw std::runtime_error("ci/registry: " + done.err);
    host = done.out.substr(0, done.out.find('\n'));
  }
  ~TestRegistry() {
    freeze(false);
    (void)process::run(command("stop"), 60s);
  }
  // Its connections are taken and not answered until it thaws.
  void freeze(bool frozen) const {
    int pid = 0;
    std::ifstream(folder() + "/pid") >> pid;
    if (pid > 1) kill(pid, frozen ? SIGSTOP : SIGCONT);
  }
  std::string host;

 private:
  static std::string folder() { return test::in_source("build/conformance-registry"); }
  static process::Spawn command(const std::string& verb) {
    process::Spawn what;
    what.argv = {"python3", test::in_source("ci/registry"), verb, folder()};
    what.env = process::current_environment();
    return what;
  }
};

struct Parts {  // in the order of making, as an agent has them
  agent::Alarm alarm;
  std::unique_ptr<images::Store> store;
  std::unique_ptr<images::Registry> registry;
  std::unique_ptr<images::Rootfs> rootfs;
  std::unique_ptr<network::Network> network;
  std::unique_ptr<agent::Machinery> machinery;
  std::unique_ptr<agent::Logs> logs;
  std::unique_ptr<agent::Sessions> sessions;
  std::unique_ptr<agent::Sandboxes> sandboxes;
  std::unique_ptr<agent::Pulls> pulls;

  ~Parts() {
    alarm.stop();
    if (pulls) pulls->stop();
    if (sandboxes) sandboxes->stop();
    machinery.reset();
  }
};

class RealArm : public Arm {
 public:
  RealArm(const TestRegistry& registry, bool small_disk)
      : registry_process_(registry), registry_(registry.host) {
    const auto pid = static_cast<unsigned>(getpid());
    options_.data = "/tmp/chalk-conformance-" + std::to_string(pid);
    options_.network_prefix = "f" + std::to_string(pid % 1'000'000);
    options_.runsc = runsc();
    options_.platform = "systrap";
    options_.registries.registries[registry_].insecure = true;
    options_.registries.registries["127.0.0.1:1"].insecure = true;
    remove_data();
    fs::create_directories(options_.data + "/images");
    if (small_disk && mount("tmpfs", (options_.data + "/images").c_str(), "tmpfs", 0,
                            "size=256k") != 0) {
      throw std::runtime_error("no tmpfs can be mounted");
    }
    open_where_there_is_room(pid);
  }
  ~RealArm() override {
    deaf_ = true;
    parts_.reset();
    (void)agent::clear_host(options_);
    remove_data();
  }

  StartOrder order(std::uint64_t number, Program program) override {
    StartOrder order;
    const images::Image image = resolved();
    order.sandbox = {number};
    order.owner = {1};
    order.resources.cpu_millicores = 500;
    order.resources.memory_bytes = 512LL << 20;
    order.resources.disk_bytes = 64LL << 20;
    order.image.image = {1};
    for (const images::Layer& layer : image.layers) {
      order.image.layers.push_back({images::layer_id(layer.diff_id), layer.size,
                                    images::estimated_unpacked_bytes(layer)});
    }
    node::v1::SandboxPayload payload;
    payload.set_id("sbx-" + std::to_string(number));
    payload.add_argv("/bin/sleep");
    payload.add_argv(program == Program::ends ? "0" : "100000");
    if (program == Program::cannot_start) payload.set_user("nobody-of-this-name");
    payload.set_image(images::encode_image(image));
    order.payload = payload.SerializeAsString();
    return order;
  }

  void accepted(const StartOrder& order) override {
    parts_->sandboxes->accepted(order.sandbox);
    learn(order);
  }
  void obey(const node::Effect& effect) override {
    if (const auto* start = std::get_if<node::StartSandbox>(&effect)) {
      parts_->sandboxes->start(*start);
    } else if (const auto* kill = std::get_if<node::KillSandbox>(&effect)) {
      parts_->sandboxes->kill(kill->sandbox, kill->why, kill->grace);
    } else if (const auto* pull = std::get_if<images::PullLayers>(&effect)) {
      parts_->pulls->pull(*pull);
    } else if (const auto* cancel = std::get_if<images::CancelPull>(&effect)) {
      parts_->pulls->cancel(*cancel);
    } else if (const auto* evict = std::get_if<images::EvictLayers>(&effect)) {
      parts_->pulls->evict(*evict);
    } else if (std::holds_alternative<node::Scrub>(effect)) {
      parts_->sandboxes->scrub();
    }
  }
  std::optional<node::Event> next(Duration wait) override {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, std::chrono::nanoseconds(wait.nanos), [&] { return !said_.empty(); });
    if (said_.empty()) return std::nullopt;
    node::Event event = std::move(said_.front());
    said_.pop_front();
    return event;
  }
  Time now() override {
    return Time{std::chrono::steady_clock::now().time_since_epoch() / 1ns};
  }

  void break_registry(bool broken) override { broken_ = broken; }
  void slow_registry(bool slow) override { registry_process_.freeze(slow); }
  void end(SandboxId sandbox) override {
    if (parts_) {
      must(parts_->machinery->signal(agent::name_of(sandbox), 9));
    } else {
      const auto machinery = must(agent::open_gvisor(options_)).machinery;
      must(machinery->remove(agent::name_of(sandbox)));
    }
  }
  void agent_goes() override {
    deaf_ = true;  // as if it were killed: nothing comes into its log any more
    parts_.reset();
    const std::lock_guard lock(mutex_);
    said_.clear();
  }
  void agent_returns(const node::State& state) override {
    deaf_ = false;
    open();
    std::set<LayerId> layers;
    for (const auto& [layer, one] : state.cache.layers) layers.insert(layer);
    for (const auto& [id, sandbox] : state.sandboxes) learn(sandbox.order);
    const agent::Recovery found = agent::recover(state.sandboxes, *parts_->machinery,
                                                 *parts_->network, *parts_->sandboxes);
    (void)parts_->rootfs->unmount_unheld();
    parts_->pulls->keep_only(layers);
    parts_->logs->keep_only_live();
    for (const node::SandboxExited& gone : found.gone) say(gone);
    say(node::Resumed{});
  }

  std::set<SandboxId> living() override {
    std::set<SandboxId> out;
    for (const agent::Found& one : must(parts_->machinery->list())) {
      if (one.running) out.insert(agent::sandbox_of(one.name));
    }
    return out;
  }

 private:
  // Other networks of the host may be in the way of the first ranges.
  void open_where_there_is_room(unsigned pid) {
    for (unsigned attempt = 0;; ++attempt) {
      options_.network_pool = "10." + std::to_string(64 + (pid + 11 * attempt) % 128) + "." +
                              std::to_string(pid / 128 % 250) + ".128/26";
      try {
        return open();
      } catch (const std::runtime_error& error) {
        if (attempt == 9 || std::string(error.what()).find("pool") == std::string::npos) throw;
      }
    }
  }
  void open() {
    auto parts = std::make_unique<Parts>();
    images::StoreOptions where;
    where.root = options_.data + "/images";
    parts->store = must(images::Store::open(where));
    parts->registry = std::make_unique<images::Registry>(options_.registries);
    parts->rootfs = must(images::Rootfs::open(*parts->store));
    network::Options net;
    net.name = options_.network_prefix;
    net.pool = options_.network_pool;
    net.spare = 1;
    parts->network = must(network::Network::open(net));
    parts->machinery = must(agent::open_gvisor(options_)).machinery;
    parts->logs = std::make_unique<agent::Logs>(options_.data + "/output", 1 << 20);
    parts->sessions = std::make_unique<agent::Sessions>(
        [](SandboxId, const agent::Command&,
           std::function<void(agent::ProcessEnd)>) -> Result<agent::Process> {
          return fail(Error::Kind::failed, "no sessions here");
        },
        agent::Sessions::Options{});
    const auto tell = [this](node::Event event) { say(std::move(event)); };
    parts->sandboxes = std::make_unique<agent::Sandboxes>(
        options_,
        agent::Sandboxes::Parts{*parts->machinery, *parts->rootfs, *parts->network, *parts->logs,
                                *parts->sessions, parts->alarm},
        tell);
    parts->pulls = std::make_unique<agent::Pulls>(*parts->store, *parts->registry, 2, tell,
                                                  options_.metrics);
    parts_ = std::move(parts);
  }
  void say(node::Event event) {
    const std::lock_guard lock(mutex_);
    if (deaf_) return;
    said_.push_back(std::move(event));
    came_.notify_all();
  }
  images::Image resolved() {
    if (!image_) {
      const images::Registry registry(options_.registries);
      const auto reference = images::parse_reference(registry_ + "/library/busybox:latest");
      image_ = must(registry.resolve(must(reference)));
    }
    return *image_;
  }
  void learn(const StartOrder& order) {
    node::v1::SandboxPayload payload;
    if (!payload.ParseFromString(order.payload)) return;
    images::Image image = must(images::decode_image(payload.image()));
    if (broken_) image.reference.registry = "127.0.0.1:1";  // nobody is there
    parts_->pulls->learn(order.image.image, image);
  }
  // Mounts of runsc, of images and of a small disk are in it.
  void remove_data() {
    std::ifstream mounts("/proc/self/mounts");
    std::vector<std::string> inside;
    for (std::string device, place, rest;
         mounts >> device >> place && std::getline(mounts, rest);) {
      if (place.starts_with(options_.data + "/")) inside.push_back(place);
    }
    for (auto place = inside.rbegin(); place != inside.rend(); ++place) {
      umount2(place->c_str(), MNT_DETACH);
    }
    std::error_code error;
    fs::remove_all(options_.data, error);
  }

  const TestRegistry& registry_process_;
  const std::string registry_;
  agent::Options options_;
  std::unique_ptr<Parts> parts_;
  std::optional<images::Image> image_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<node::Event> said_;
  std::atomic<bool> deaf_ = false, broken_ = false;
};

}  // namespace

Made real_arm(bool small_disk) {
  for (const auto& lack : {test::no_networks(), test::no_control_groups()}) {
    if (!lack.empty()) return {nullptr, lack};
  }
  if (access(runsc().c_str(), X_OK) != 0) {
    return {nullptr, runsc() + " is not there: ci/tools brings it"};
  }
  if (!fs::exists(test::in_source("build/images/index.json"))) {
    return {nullptr, "no images: ci/base-image makes them"};
  }
  static const TestRegistry registry;
  return {std::make_unique<RealArm>(registry, small_disk), {}};
}

}  // namespace chalk::conformance
