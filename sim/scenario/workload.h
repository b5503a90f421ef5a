// The `workload` section of a scenario: a list of generators and traces, merged.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/scenario/reader.h"
#include "sim/workload/source.h"
#include "sim/workload/trace.h"

namespace chalk::sim {

using OpenWorkload = std::function<std::unique_ptr<Source>(std::uint64_t seed)>;

// `gpu_models` are the names that the pools offer, in the order of the bits of a mask.
OpenWorkload read_workload(Reader& root, const std::vector<std::string>& gpu_models,
                           const std::optional<std::string>& trace);

// `path` of a section that is a trace. Traces are opened when they run; that there is one is told at
// once, with the place that names it.
std::string read_trace_path(Reader& section);

// "2:nvidia-a100" as a number of GPUs and the index of the model among `gpu_models`. `replaced`: the
// section is not run, so no pool needs to have the model.
struct GpuAsk {
  std::int32_t count = 0;
  std::int32_t millis = 1000;
  std::uint32_t models = 0;
};
GpuAsk read_gpu(Reader& reader, const std::vector<std::string>& gpu_models, bool replaced = false);

// `priority`: 0 to kPriorityMax.
Priority read_priority(Reader& reader, Priority otherwise);
// `gang`: 0 to kGangMax.
std::uint32_t read_gang(Reader& reader);

}  // namespace chalk::sim
