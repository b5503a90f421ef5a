// What tests of the real world need of the machine they run on. A lack is asked of the kernel and of
// programs that are not ours: a fault of our own code is a failure, and never taken for a lack.
#pragma once
#include <string>

namespace chalk::test {

// A path of the source tree, whatever the current folder is.
std::string in_source(const std::string& path);
// $CHALK_RUNSC, or what ci/tools built; it may not be there.
std::string runsc();

// Why no network namespaces with pairs, bridges and rules can be made here; empty where they can.
std::string no_networks();
// Why no control groups with limits of cpu, memory and pids can be made here; empty where they can.
std::string no_control_groups();

}  // namespace chalk::test
