#include "sim/workload/trace.h"

#include <cmath>

#include "sim/workload/input_error.h"

namespace chalk::sim {

std::unique_ptr<Source> open_trace(std::string_view spec, const TraceOptions& options) {
  std::size_t colon = spec.find(':');
  std::string_view format = spec.substr(0, colon);
  std::string path(colon == std::string_view::npos ? "" : spec.substr(colon + 1));
  if (!path.empty()) {
    if (format == "azure2019") return open_azure2019(path, options);
    if (format == "azure2021") return open_azure2021(path, options);
    if (format == "azurellm") return open_azurellm(path, options);
    if (format == "openb") return open_openb(path, options);
    if (format == "jsonl") return open_jsonl(path);
  }
  throw InputError("trace", 0, quote(spec),
                   "FORMAT:PATH with FORMAT azure2019, azure2021, azurellm, openb or jsonl");
}

}  // namespace chalk::sim
