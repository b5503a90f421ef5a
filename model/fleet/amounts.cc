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

Amounts all_of(const NodeShape& shape) {
  return {shape.cpu_millicores, shape.memory_bytes, shape.disk_bytes,
          std::int64_t{shape.gpus} * 1000, shape.sandboxes_max};
}

Amounts taken(const Amounts& left, const NodeShape& shape) {
  const Amounts all = all_of(shape);
  return {all.cpu_millicores - left.cpu_millicores, all.memory_bytes - left.memory_bytes,
          all.disk_bytes - left.disk_bytes, all.gpu_millis - left.gpu_millis,
          all.sandboxes - left.sandboxes};
}

std::uint32_t taken_permille(const Amounts& left, const NodeShape& shape) {
  return static_cast<std::uint32_t>(
      std::min<Wide>(nodes_permille(taken(left, shape), shape), 1000));
}

Wide nodes_permille(const Amounts& amounts, const NodeShape& shape) {
  const Amounts node = all_of(shape);
  Wide most = 0;
  const auto share = [&](std::int64_t Amounts::* amount) {
    if (node.*amount > 0) most = std::max(most, Wide(amounts.*amount) * 1000 / node.*amount);
  };
  share(&Amounts::cpu_millicores);
  share(&Amounts::memory_bytes);
  share(&Amounts::disk_bytes);
  share(&Amounts::gpu_millis);
  share(&Amounts::sandboxes);
  return most;
}

Wide weight(const Amounts& amounts) {
  return Wide(amounts.cpu_millicores) + (amounts.memory_bytes >> 22) +
         Wide(amounts.gpu_millis) * 16;
}

}  // namespace chalk::fleet
