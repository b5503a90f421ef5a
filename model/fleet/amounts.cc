#include "model/fleet/amounts.h"

#include <algorithm>

namespace chalk::fleet {

Amounts& Amounts::operator+=(const Amounts& other) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  const auto add = [](std::int64_t& sum, std::int64_t more) {
    sum = static_cast<std::int64_t>(std::min<Wide>(Wide(sum) + more, kMost));
  };
  add(cpu_millicores, other.cpu_millicores);
  add(memory_bytes, other.memory_bytes);
  add(disk_bytes, other.disk_bytes);
  add(gpu_millis, other.gpu_millis);
  add(sandboxes, other.sandboxes);
  return *this;
}

Amounts taken(const Amounts& left, const NodeShape& shape) {
  return {shape.cpu_millicores - left.cpu_millicores, shape.memory_bytes - left.memory_bytes,
          shape.disk_bytes - left.disk_bytes, std::int64_t{shape.gpus} * 1000 - left.gpu_millis,
          shape.sandboxes_max - left.sandboxes};
}

std::uint32_t taken_permille(const Amounts& left, const NodeShape& shape) {
  return static_cast<std::uint32_t>(
      std::min<Wide>(nodes_permille(taken(left, shape), shape), 1000));
}

Wide nodes_permille(const Amounts& amounts, const NodeShape& shape) {
  Wide most = 0;
  const auto share = [&](std::int64_t part, std::int64_t node) {
    if (node > 0) most = std::max(most, Wide(part) * 1000 / node);
  };
  share(amounts.cpu_millicores, shape.cpu_millicores);
  share(amounts.memory_bytes, shape.memory_bytes);
  share(amounts.disk_bytes, shape.disk_bytes);
  share(amounts.gpu_millis, std::int64_t{shape.gpus} * 1000);
  share(amounts.sandboxes, shape.sandboxes_max);
  return most;
}

Wide weight(const Amounts& amounts) {
  return Wide(amounts.cpu_millicores) + (amounts.memory_bytes >> 22) +
         Wide(amounts.gpu_millis) * 16;
}

}  // namespace chalk::fleet
