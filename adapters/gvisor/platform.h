// Which of gVisor's platforms to use: the one on which a canary is fastest here. One that exists
// may not work: /dev/kvm in a virtual machine can be so slow that nothing ever ends.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "adapters/cgroup/cgroup.h"
#include "adapters/error.h"

namespace chalk::gvisor {

struct Platforms {
  std::vector<std::string> measured{"systrap", "kvm"};  // the first is what mostly wins
  std::vector<std::string> otherwise{"ptrace"};         // in turn, where none of those works
  std::chrono::milliseconds timeout{20'000};            // of one canary
};

struct Platform {
  std::string name;
  std::string tried;  // what each said, for the log
};

// Runs a canary on each, and none for longer than the best so far took: it could not win. What it
// found is kept in `folder`, which is made, for as long as neither the machine's boot nor runsc is
// another. The canary is in a control group of its own, so that what it leaves behind ends with it,
// also when an earlier process of ours was killed in the middle. Error::unavailable: none works.
Result<Platform> choose_platform(const std::string& runsc, const std::string& folder,
                                 const cgroup::Groups& groups, const Platforms& platforms = {});

}  // namespace chalk::gvisor
