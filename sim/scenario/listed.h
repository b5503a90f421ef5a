// The workload `kind: list`: arrivals that stand in the scenario itself, one by one.
#pragma once
#include <memory>
#include <vector>

#include "sim/scenario/reader.h"
#include "sim/workload/source.h"

namespace chalk::sim {

struct Listed {
  Catalogue catalogue;
  std::vector<Arrival> arrivals;  // in order of time
};

// Reads `tenants`, `images`, `functions` and `arrivals` of a section. What an arrival names and no
// list declares is added where it is first named; a function that is not declared belongs to the
// first tenant. `replaced`: by --trace, as for read_gpu.
std::shared_ptr<const Listed> read_listed(Reader& section,
                                          const std::vector<std::string>& gpu_models,
                                          bool replaced);

std::unique_ptr<Source> listed_source(std::shared_ptr<const Listed> listed);

// A source that also keeps what is taken of another one; `listed` must outlive it.
std::unique_ptr<Source> recording_source(std::unique_ptr<Source> source, Listed& listed);

}  // namespace chalk::sim
