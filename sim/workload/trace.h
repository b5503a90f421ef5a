// Opens a trace as a Source. docs/workloads.md and docs/trace-format.md describe the formats.
#pragma once
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sim/workload/source.h"

namespace chalk::sim {

struct TraceOptions {
  std::uint64_t seed = 1;
  // Azure LLM: the service time of a call is input/prefill + output/decode.
  double prefill_tokens_per_second = 5000;
  double decode_tokens_per_second = 50;
  // Azure 2019: service of a function without a row in the durations file; the median of the
  // log-normal fit that Shahrad et al. give, exp(-0.38) s.
  Duration service_default = milliseconds(684);
  // What sorting may hold in memory (Azure 2021, openb); beyond it a temporary file is used.
  std::size_t sort_memory_bytes = std::size_t{64} << 20;
  bool qos_priorities = false;  // openb: whether qos gives a priority
};

// A spec is FORMAT:PATH; nothing where it is none.
struct TraceSpec {
  std::string format;
  std::string path;
};
std::optional<TraceSpec> parse_trace_spec(std::string_view spec);
inline constexpr const char* kTraceSpecs =
    "FORMAT:PATH with FORMAT azure2019, azure2021, azurellm, openb or jsonl";

// `spec` is FORMAT:PATH with FORMAT azure2019 (a directory), azure2021, azurellm, jsonl (a file) or
// openb (a directory). Throws InputError.
std::unique_ptr<Source> open_trace(std::string_view spec, const TraceOptions& options);

// Of the content, wherever it lies: what may be taken for the same trace. Throws InputError.
std::uint64_t trace_digest(std::string_view spec);

std::unique_ptr<Source> open_azure2019(const std::string& directory, const TraceOptions& options);
std::unique_ptr<Source> open_azure2021(const std::string& file, const TraceOptions& options);
std::unique_ptr<Source> open_azurellm(const std::string& file, const TraceOptions& options);
std::unique_ptr<Source> open_openb(const std::string& directory, const TraceOptions& options);
std::unique_ptr<Source> open_jsonl(const std::string& file);

// Drains `source` into our own format; a closed loop writes what it asks without any answer.
void write_jsonl(Source& source, std::ostream& out);

}  // namespace chalk::sim
