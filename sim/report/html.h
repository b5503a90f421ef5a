// The report page: one file that opens offline, with the answer on top and the plots below.
#pragma once
#include <string>

#include "sim/report/result.h"

namespace chalk::sim {

std::string html_page(const Result& result);
std::string html_page(const PlanResult& plan);

}  // namespace chalk::sim
