#include "tests/support/machine.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace chalk::test {
namespace {

constexpr const char* kNetworks = R"sh(exec 2>&1
for program in unshare ip nft; do command -v $program >/dev/null || { echo "no $program"; exit 1; }; done
unshare -n -m sh -c 'ip link add chalk0 type veth peer name chalk1 &&
  ip link add chalk2 type bridge && nft add table inet chalk && mount -t tmpfs none /run')sh";

// Of version 1 where all three are there, else of version 2, whose root must let them go down.
constexpr const char* kControlGroups = R"sh(exec 2>&1
folder() { awk -v one=$1 '$3 == "cgroup" && index("," $4 ",", "," one ",") { print $2; exit }' /proc/self/mounts; }
try() { mkdir "$1/chalk-probe-$$" && rmdir "$1/chalk-probe-$$" || exit 1; }
if [ "$(folder cpu)" ] && [ "$(folder memory)" ] && [ "$(folder pids)" ]; then
  for one in cpu memory pids; do try "$(folder $one)"; done
  exit 0
fi
root=$(awk '$3 == "cgroup2" { print $2 }' /proc/self/mounts | tail -1)
[ "$root" ] || { echo "no hierarchy is mounted"; exit 1; }
for one in cpu memory pids; do
  grep -qw $one "$root/cgroup.controllers" || { echo "$root has no $one"; exit 1; }
done
echo "+cpu +memory +pids" >"$root/cgroup.subtree_control" || exit 1
try "$root")sh";

// What the script says where it fails, in one line.
std::string lack(const std::string& what, const char* script) {
  if (geteuid() != 0) return "needs root";
  FILE* pipe = popen(script, "r");
  if (pipe == nullptr) return "this machine cannot " + what + ": no shell";
  std::string said;
  std::array<char, 512> some{};
  while (std::fgets(some.data(), some.size(), pipe) != nullptr) said += some.data();
  if (pclose(pipe) == 0) return {};
  return "this machine cannot " + what + ": " + said.substr(0, said.find('\n'));
}

}  // namespace

std::string in_source(const std::string& path) { return CHALK_SOURCE_ROOT "/" + path; }

std::string runsc() {
  const char* named = std::getenv("CHALK_RUNSC");
  return named != nullptr ? named : in_source("build/tools/bin/runsc");
}

std::string no_networks() {
  static const std::string why = lack("make networks", kNetworks);
  return why;
}
std::string no_control_groups() {
  static const std::string why = lack("make control groups", kControlGroups);
  return why;
}

}  // namespace chalk::test
