// Durable placements per second of the control plane: create() returns when the request is on disk,
// stepped and accepted; a node that answers at once stands for the fleet. 1 and 64 callers, beside
// the physical limit: appending the same records to a file with fdatasync, one by one.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "adapters/server/plane.h"

namespace chalk::server {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kSeconds = 3;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double bare_appends(const std::string& folder) {
  const int file = open((folder + "/bare").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const std::string record(256, 'x');
  std::uint64_t count = 0;
  const auto begin = Clock::now();
  while (since(begin) < kSeconds) {
    if (write(file, record.data(), record.size()) < 0 || fdatasync(file) != 0) return 0;
    ++count;
  }
  close(file);
  return static_cast<double>(count) / since(begin);
}

struct Fleet {
  Plane* plane = nullptr;
  std::atomic<std::uint64_t> sequence{0}, placed{0};
  NodeSender sender() {
    NodeSender out;
    out.order = [this](NodeId node, Envelope<NodeOrder> envelope) {
      if (!envelope.message) return;
      const auto* start = std::get_if<StartOrder>(&*envelope.message);
      if (start == nullptr) return;
      ++placed;
      plane->reported(node, {1, ++sequence, envelope.sequence,
                             NodeReport{StartedReport{start->sandbox}}});
    };
    out.welcome = [](std::uint64_t, std::uint64_t, NodeId) {};
    out.unknown = [](NodeId, std::uint64_t) {};
    return out;
  }
};

double placements(const std::string& folder, int callers) {
  PlaneOptions options;
  options.data = folder + "/plane" + std::to_string(callers);
  fleet::PoolAdded pool;
  pool.pool = {1};
  pool.policy.zones = {{1}};
  options.pools = {pool};
  options.config.fleet.heartbeat_timeout = seconds(3600);
  options.label = [](SandboxId id, const std::string&) {
    return records::Label{std::to_string(id.value), {}};
  };
  Plane plane(options);
  Fleet fleet;
  fleet.plane = &plane;
  plane.start(fleet.sender());
  plane.add_tenant({1});
  NodeRegistration node;
  node.key = 1;
  node.incarnation = 1;
  node.pool = {1};
  node.zone = {1};
  node.shape = {.cpu_millicores = 1LL << 39, .memory_bytes = 1LL << 50, .disk_bytes = 1LL << 50,
                .start_slots = 1'000'000, .sandboxes_max = 10'000'000};
  plane.registered(node);
  while (plane.nodes().empty()) std::this_thread::yield();
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  const auto begin = Clock::now();
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&] {
      SandboxAsk ask;
      ask.tenant = {1};
      ask.resources = {.cpu_millicores = 100, .memory_bytes = 1 << 20};
      ask.payload = std::string(512, 'p');
      while (!done) plane.create(ask);
    });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds));
  done = true;
  for (auto& thread : threads) thread.join();
  const double rate = static_cast<double>(fleet.placed) / since(begin);
  plane.stop();
  return rate;
}

}  // namespace
}  // namespace chalk::server

int main() {
  const std::string folder =
      std::filesystem::temp_directory_path() / ("plane_bench" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const double bare = chalk::server::bare_appends(folder);
  std::printf("append and fdatasync, one by one:      %8.0f /s\n", bare);
  for (const int callers : {1, 64}) {
    const double rate = chalk::server::placements(folder, callers);
    std::printf("durable placements, %2d callers:        %8.0f /s  (%.2f of it)\n", callers, rate,
                rate / bare);
  }
  std::filesystem::remove_all(folder);
}
