#include "sim/workload/trace.h"

#include <cmath>

#include "sim/workload/input_error.h"

namespace chalk::sim {

std::optional<TraceSpec> parse_trace_spec(std::string_view spec) {
  const std::size_t colon = spec.find(':');
  if (colon == std::string_view::npos || colon + 1 == spec.size()) return {};
  const std::string_view format = spec.substr(0, colon);
  for (const char* known : {"azure2019", "azure2021", "azurellm", "openb", "jsonl"}) {
    if (format == known) return TraceSpec{known, std::string(spec.substr(colon + 1))};
  }
  return {};
}

std::unique_ptr<Source> open_trace(std::string_view text, const TraceOptions& options) {
  const std::optional<TraceSpec> spec = parse_trace_spec(text);
  if (!spec) throw InputError("trace", 0, quote(text), kTraceSpecs);
  if (spec->format == "azure2019") return open_azure2019(spec->path, options);
  if (spec->format == "azure2021") return open_azure2021(spec->path, options);
  if (spec->format == "azurellm") return open_azurellm(spec->path, options);
  if (spec->format == "openb") return open_openb(spec->path, options);
  return open_jsonl(spec->path);
}

}  // namespace chalk::sim
