// What the host offers.
#include <sched.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "adapters/agent/options.h"

namespace chalk::agent {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kGiB = std::int64_t{1} << 30;

std::int64_t host_millicores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1000;
  return std::int64_t{CPU_COUNT(&set)} * 1000;
}

std::int64_t host_memory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word) {
    std::int64_t kilobytes = 0;
    if (word == "MemTotal:" && file >> kilobytes) return kilobytes * 1024;
  }
  return kGiB;
}

std::int64_t free_disk(const std::string& path) {
  struct statvfs facts {};
  if (statvfs(path.c_str(), &facts) != 0) return 0;
  return static_cast<std::int64_t>(facts.f_bavail) * static_cast<std::int64_t>(facts.f_frsize);
}

}  // namespace

NodeShape host_shape(const Options& options) {
  NodeShape shape;
  shape.cpu_millicores = options.cpu_millicores > 0 ? options.cpu_millicores : host_millicores();
  const std::int64_t memory = host_memory() / kMiB * kMiB;  // for whoever reads refusals
  shape.memory_bytes = options.memory_bytes > 0
                           ? options.memory_bytes
                           : std::max<std::int64_t>(memory - std::max(kGiB, memory / 10 / kMiB * kMiB), 0);
  shape.disk_bytes = options.disk_bytes > 0 ? options.disk_bytes
                                            : free_disk(options.data) / 2 / kGiB * kGiB;
  shape.start_slots = options.start_slots;
  shape.sandboxes_max = options.sandboxes_max;
  return shape;
}

std::int64_t host_image_bytes(const Options& options, std::int64_t stored) {
  if (options.image_bytes > 0) return options.image_bytes;
  return image_bytes_of(free_disk(options.data), stored);
}

// A quarter, in whole GiB: what layers take already is theirs, or an agent that starts with a full
// cache would give it less each time. Of a small disk one GiB, or half where that is less.
std::int64_t image_bytes_of(std::int64_t free, std::int64_t stored) {
  const std::int64_t all = free + stored;
  const std::int64_t quarter = all / 4 / kGiB * kGiB;
  return quarter > 0 ? quarter : std::clamp(all / 2 / kMiB * kMiB, kMiB, kGiB);
}

}  // namespace chalk::agent
