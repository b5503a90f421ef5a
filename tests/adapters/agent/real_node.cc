#include "real_node.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "adapters/agent/clear.h"
#include "adapters/images/layer_id.h"
#include "adapters/images/registry.h"
#include "tests/support/machine.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::string program(const std::string& name) {
  return (fs::read_symlink("/proc/self/exe").parent_path() / name).string();
}

using test::runsc;

process::Spawn registry_command(const std::string& verb) {
  process::Spawn what;
  what.argv = {"python3", test::in_source("ci/registry"), verb,
               test::in_source("build/agent-test-registry")};
  what.env = process::current_environment();
  return what;
}

images::Registries registries(const std::string& host) {
  images::Registries out;
  out.registries[host].insecure = true;
  return out;
}

// runsc mounts a namespace of its own in its state, which stays.
void remove_folder(const std::string& folder) {
  std::ifstream mounts("/proc/self/mounts");
  std::vector<std::string> inside;
  for (std::string device, place, rest; mounts >> device >> place && std::getline(mounts, rest);) {
    if (place.starts_with(folder + "/")) inside.push_back(place);
  }
  for (auto place = inside.rbegin(); place != inside.rend(); ++place) {
    umount2(place->c_str(), MNT_DETACH);
  }
  std::error_code error;
  fs::remove_all(folder, error);
  EXPECT_FALSE(error) << error.message();
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

std::string RealNode::skip_;
std::string RealNode::registry_;

void RealNode::SetUpTestSuite() {
  skip_ = test::no_networks();
  if (skip_.empty()) skip_ = test::no_control_groups();
  if (access(runsc().c_str(), X_OK) != 0) skip_ = runsc() + " is not there: ci/tools brings it";
  if (!fs::exists(test::in_source("build/images/index.json"))) {
    skip_ = "no images: ci/base-image makes them";
  }
  if (!skip_.empty()) return;
  ASSERT_EQ(access(program("chalk-node").c_str(), X_OK), 0) << "chalk-node is not built";
  const auto done = process::run(registry_command("start"), 120s);
  ASSERT_TRUE(done) << done.error().message;
  ASSERT_EQ(done->status.exit_code, 0) << "ci/registry: " << done->err;
  registry_ = first_line(done->out);
}

void RealNode::TearDownTestSuite() {
  if (registry_.empty()) return;
  (void)process::run(registry_command("stop"), 60s);
}

void RealNode::SetUp() {
  if (!skip_.empty()) GTEST_SKIP() << skip_;
  ASSERT_FALSE(registry_.empty()) << "no registry runs";
  const auto pid = static_cast<unsigned>(getpid());
  prefix_ = "a" + std::to_string(pid % 1'000'000);
  pool_ = "10." + std::to_string(32 + pid % 64) + "." + std::to_string(pid / 64 % 250) + ".0/26";
  folder_ = "/tmp/chalk-agent-" + std::to_string(pid);
  clean_machine();
  remove_folder(folder_);
  fs::create_directories(folder_ + "/data");
  control_ = std::make_unique<ControlDouble>(folder_ + "/authority");
  std::ofstream(folder_ + "/root.pem") << control_->authority().certificate_pem();
  std::ofstream(folder_ + "/registries.json")
      << "{\"registries\": {\"" << registry_ << "\": {\"insecure\": true}}}";
  start_node();
}

void RealNode::TearDown() {
  if (control_ == nullptr) return;
  if (HasFailure()) {
    std::ifstream log(folder_ + "/node.log");
    std::cerr << "---- chalk-node said:\n" << log.rdbuf() << "----\n";
  }
  if (node_.pid != 0) stop_node(SIGKILL);
  control_.reset();
  clean_machine();
  remove_folder(folder_);
}

// Whatever a node of this prefix left: sandboxes, mounts, namespaces, groups.
void RealNode::clean_machine() {
  fs::create_directories(folder_ + "/data");
  Options options;
  options.data = folder_ + "/data";
  options.network_prefix = prefix_;
  options.network_pool = pool_;
  const auto cleared = clear_host(options);
  EXPECT_TRUE(cleared) << cleared.error().message;
}

void RealNode::start_node() {
  process::Spawn what;
  what.argv = {program("chalk-node"), "--data",         folder_ + "/data",
               "--server",            control_->address(), "--join-token",
               ControlDouble::kToken, "--registries",        folder_ + "/registries.json",
               "--runsc",             runsc(),          "--platform",
               "systrap",             "--network-pool", pool_,
               "--network-prefix",    prefix_,          "--node-name",
               "test-node",           "--cpu",          "16",
               "--memory",            "16Gi",           "--disk",
               "16Gi",                "--spare-namespaces", "2",
               "--image-cache",       "4Gi"};
  if (join_by_fingerprint_) {
    what.argv.insert(what.argv.end(),
                     {"--server-fingerprint", control_->authority().fingerprint()});
  } else {
    what.argv.insert(what.argv.end(), {"--server-root", folder_ + "/root.pem"});
  }
  what.argv.insert(what.argv.end(), more_flags_.begin(), more_flags_.end());
  what.env = process::current_environment();
  process::Fd log(open((folder_ + "/node.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                       0600));
  what.output = what.error = log.get();
  auto child = process::spawn(what);
  ASSERT_TRUE(child) << child.error().message;
  node_ = std::move(*child);
  ASSERT_TRUE(control_->wait_connected(60s));
}

void RealNode::stop_node(int signal) {
  kill(node_.pid, signal);
  EXPECT_TRUE(process::wait(node_, 30s)) << "chalk-node does not end";
  node_ = {};
  EXPECT_TRUE(control_->wait_gone(10s));
}

StartOrder RealNode::order(std::uint64_t number, const std::string& image,
                           const std::vector<std::string>& argv) {
  StartOrder order;
  const images::Registry registry(registries(registry_));
  const auto reference = images::parse_reference(registry_ + "/" + image);
  EXPECT_TRUE(reference);
  const auto resolved = registry.resolve(*reference);
  EXPECT_TRUE(resolved) << resolved.error().message;
  if (!resolved) return order;
  order.sandbox = {number};
  order.owner = {1};
  order.resources.cpu_millicores = 500;
  order.resources.memory_bytes = 512LL << 20;
  order.resources.disk_bytes = 512LL << 20;
  order.image.image = {image == kPython ? 2u : 1u};
  for (const images::Layer& layer : resolved->layers) {
    order.image.layers.push_back({images::layer_id(layer.diff_id), layer.size,
                                  images::estimated_unpacked_bytes(layer)});
  }
  node::v1::SandboxPayload payload;
  payload.set_id("sbx-" + std::to_string(number));
  payload.set_hostname("box");
  for (const std::string& word : argv) payload.add_argv(word);
  payload.set_image(images::encode_image(*resolved));
  order.payload = payload.SerializeAsString();
  return order;
}

node::v1::SandboxPayload RealNode::payload(const StartOrder& order) {
  node::v1::SandboxPayload payload;
  EXPECT_TRUE(payload.ParseFromString(order.payload));
  return payload;
}

node::v1::SandboxNote RealNode::note(const std::string& bytes) {
  node::v1::SandboxNote note;
  EXPECT_TRUE(note.ParseFromString(bytes));
  return note;
}

node::v1::SandboxNote RealNode::started(std::uint64_t number) {
  const auto report = control_->report(
      [&](const NodeReport& one) {
        const auto* started = std::get_if<StartedReport>(&one);
        const auto* ended = std::get_if<EndedReport>(&one);
        return (started != nullptr && started->sandbox.value == number) ||
               (ended != nullptr && ended->sandbox.value == number);
      },
      60s);
  if (!report) {
    ADD_FAILURE() << "sandbox " << number << " was not reported";
    return {};
  }
  if (const auto* end = std::get_if<EndedReport>(&*report)) {
    ADD_FAILURE() << "sandbox " << number << " ended: " << note(end->note).DebugString();
    return {};
  }
  return note(std::get<StartedReport>(*report).note);
}

RestartedReport RealNode::restarted(std::uint64_t number, std::uint32_t count, bool running) {
  const auto report = control_->report(
      [&](const NodeReport& one) {
        const auto* again = std::get_if<RestartedReport>(&one);
        return again != nullptr && again->sandbox.value == number && again->count == count &&
               again->running == running;
      },
      60s);
  if (!report) ADD_FAILURE() << "restart " << count << " of " << number << " was not reported";
  return report ? std::get<RestartedReport>(*report) : RestartedReport{};
}

EndedReport RealNode::ended(std::uint64_t number) {
  const auto report = control_->report(
      [&](const NodeReport& one) {
        const auto* ended = std::get_if<EndedReport>(&one);
        return ended != nullptr && ended->sandbox.value == number;
      },
      60s);
  if (!report) ADD_FAILURE() << "the end of sandbox " << number << " was not reported";
  return report ? std::get<EndedReport>(*report) : EndedReport{};
}

std::string RealNode::run(std::uint64_t number, const std::vector<std::string>& argv,
                          int* exit_code, const std::string& input) {
  node::v1::Open open;
  open.set_sandbox(number);
  auto& command = *open.mutable_run();
  for (const std::string& word : argv) command.add_argv(word);
  command.set_timeout_ms(30'000);
  command.set_output_bytes_max(1 << 20);
  return work(open, exit_code, input);
}

std::string RealNode::run_soon(std::uint64_t number, const std::vector<std::string>& argv,
                               int* exit_code) {
  node::v1::Open open;
  open.set_sandbox(number);
  open.mutable_logs();
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (std::chrono::steady_clock::now() < until && !control_->open(open)) {
    std::this_thread::sleep_for(100ms);
  }
  return run(number, argv, exit_code);
}

std::string RealNode::runsc_path() { return runsc(); }

std::string RealNode::guest(std::uint64_t number, const std::vector<std::string>& arguments,
                            int* exit_code, const std::string& input) {
  node::v1::Open open;
  open.set_sandbox(number);
  for (const std::string& word : arguments) open.mutable_guest()->add_arguments(word);
  if (arguments.empty()) open.mutable_guest();
  return work(open, exit_code, input);
}

std::string RealNode::work(const node::v1::Open& open, int* exit_code, const std::string& input) {
  const auto channel = control_->open(open);
  if (!channel) {
    ADD_FAILURE() << "no channel";
    return {};
  }
  node::v1::ChannelDown down;
  if (!input.empty()) {
    down.set_input(input);
    channel->send(down);
  }
  down.set_input_end(true);
  channel->send(down);
  std::string output, errors;
  while (const auto up = channel->receive(40s)) {
    if (up->has_output()) (up->output().stream() == 2 ? errors : output) += up->output().data();
    if (up->has_failure()) {
      ADD_FAILURE() << up->failure().message();
      return output;
    }
    if (up->has_exit()) {
      if (exit_code != nullptr) *exit_code = up->exit().exit_code();
      if (up->exit().exit_code() != 0) std::cerr << errors;
      return output;
    }
  }
  ADD_FAILURE() << "the command was cut off";
  return output;
}

std::string RealNode::logs(std::uint64_t number, bool follow, std::uint64_t tail) {
  node::v1::Open open;
  open.set_sandbox(number);
  open.mutable_logs()->set_follow(follow);
  open.mutable_logs()->set_tail_bytes(tail);
  const auto channel = control_->open(open);
  std::string output;
  if (!channel) return output;
  while (const auto up = channel->receive(40s)) {
    if (up->has_output()) output += up->output().data();
    if (up->has_exit() || up->has_failure()) return output;
  }
  ADD_FAILURE() << "logs were cut off";
  return output;
}

bool RealNode::logs_kept(std::uint64_t number) {
  node::v1::Open open;
  open.set_sandbox(number);
  open.mutable_logs();
  const auto channel = control_->open(open);
  if (!channel) return false;
  while (const auto up = channel->receive(40s)) {
    if (up->has_exit()) return true;
    if (up->has_failure()) return false;
  }
  return false;
}

void RealNode::await_log(std::uint64_t number, const std::string& word) {
  const auto until = std::chrono::steady_clock::now() + 40s;
  while (logs(number, false).find(word) == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), until) << "\"" << word << "\" was not written";
    std::this_thread::sleep_for(50ms);
  }
}

int RealNode::http_status(const std::string& url) {
  process::Spawn what;
  what.argv = {"curl", "--noproxy", "*", "-s", "-o", "/dev/null", "-w", "%{http_code}",
               "--max-time", "20", url + "/"};
  what.env = process::current_environment();
  const auto done = process::run(what, 30s);
  return done ? std::atoi(done->out.c_str()) : 0;
}

bool RealNode::has_guest() { return access(program("chalk-guest").c_str(), X_OK) == 0; }

}  // namespace chalk::agent
