// Asks a process in a sandbox whether it serves: a TCP connection, an HTTP status or a gRPC health
// check, over a connection that the network makes.
#pragma once
#include <chrono>
#include <functional>
#include <string>

#include "adapters/error.h"

namespace chalk::node::v1 {
class Probe;
}

namespace chalk::agent {

// A connected, blocking descriptor, which the probe closes.
using Dial = std::function<Result<int>(std::chrono::milliseconds timeout)>;

// One try. The error says what was expected and what came.
Result<void> probe(const node::v1::Probe& what, const Dial& dial);

// Periods and bounds with what is missing filled in.
struct ProbeTimes {
  std::chrono::milliseconds period{1'000};
  std::chrono::milliseconds timeout{1'000};
  int failures_max = 30;
};
ProbeTimes probe_times(const node::v1::Probe& what);
ProbeTimes readiness_times(const node::v1::Probe& what);  // what is missing as the kubelet has it

}  // namespace chalk::agent
