// Amounts of what a node has and a sandbox asks for. Requests equal limits. All integers.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/core/fields.h"
#include "model/core/ids.h"
#include "model/core/time.h"

namespace chalk {

// GPU models are numbered by the scenario or the server's configuration; bit i of a mask is model
// i.
inline constexpr int kGpuModelsMax = 32;
inline constexpr int kGpusPerNodeMax = 16;

// What one sandbox asks for.
struct Resources {
  std::int64_t cpu_millicores = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t disk_bytes = 0;
  std::int32_t gpus = 0;         // how many GPUs; 0 for none
  std::int32_t gpu_millis = 0;   // of each: 1000 is a whole GPU; below that gpus is 1
  std::uint32_t gpu_models = 0;  // mask of acceptable models; 0 with gpus > 0 means any
  CHALK_FIELDS(Resources, cpu_millicores, memory_bytes, disk_bytes, gpus, gpu_millis, gpu_models)
};

// What one node offers.
struct NodeShape {
  std::int64_t cpu_millicores = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t disk_bytes = 0;
  std::int32_t gpus = 0;
  std::int32_t gpu_model = 0;         // index, meaningful when gpus > 0
  std::int32_t start_slots = 8;       // sandboxes that may be starting at once
  std::int32_t sandboxes_max = 1024;  // sandboxes that may live at once
  CHALK_FIELDS(NodeShape, cpu_millicores, memory_bytes, disk_bytes, gpus, gpu_model, start_slots,
               sandboxes_max)
};

// Whether an empty node of this shape has room for it.
bool fits(const NodeShape& shape, const Resources& ask);

// Of each amount the smaller one, and every model that either accepts: what holds one of the two
// holds this.
Resources least_of(const Resources& a, const Resources& b);

// Something that waits for a node: what it asks for and the pool that it must go to (0: any that is
// not reserved).
struct Wish {
  Resources resources;
  PoolId pool;
  CHALK_FIELDS(Wish, resources, pool)
};

// The notation of the product's documents. Each answers nothing for text that is not of the form,
// is negative, or does not fit 63 bits.
std::optional<std::int64_t> parse_cpu_millicores(std::string_view text);  // "2", "0.5", "500m"
std::optional<std::int64_t> parse_bytes(std::string_view text);  // "16Gi", "512Mi", "1G", "7"
std::optional<Duration> parse_duration(std::string_view text);   // "1h", "1h30m", "250ms", "10s"
// "A100" -> {1, "nvidia-a100"}; "2:nvidia-a100" -> {2, "nvidia-a100"}; "nvidia-l4" -> {1, ...}.
struct GpuRequest {
  std::int32_t count = 0;
  std::string model;
  CHALK_FIELDS(GpuRequest, count, model)
};
std::optional<GpuRequest> parse_gpu(std::string_view text);

// Text such as "1h30m", "16Gi", "500m" that parses back to the same value.
std::string duration_text(Duration duration);
std::string bytes_text(std::int64_t bytes);

}  // namespace chalk
