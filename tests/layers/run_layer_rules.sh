#!/usr/bin/env bash
# A test of ci/check_layers.sh: a small tree that keeps the rules passes, and each line that breaks one is found.
set -uo pipefail
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
bad=0
tree() {
  rm -rf "$scratch/tree"
  mkdir -p "$scratch"/tree/{model/{core,protocol,scheduler,tenancy,control,node,gateway},sim/{world,simgrid},adapters/{log,front},guest}
  echo '#include <vector>' >"$scratch/tree/model/core/time.h"
  echo '#include "model/core/time.h"  // no clock: <chrono> is for others' >"$scratch/tree/model/scheduler/scheduler.h"
  echo '#include "model/scheduler/scheduler.h"' >"$scratch/tree/model/control/control.h"
  echo '#include <simgrid/s4u.hpp>' >"$scratch/tree/sim/simgrid/net.cc"
  echo '#include "model/control/control.h"' >"$scratch/tree/sim/world/world.h"
  echo '#include <sqlite3.h>' >"$scratch/tree/adapters/log/log.cc"
}
# plant FILE LINE: in a tree that is good but for it.
plant() {
  tree
  echo "$2" >"$scratch/tree/$1"
  if ci/check_layers.sh "$scratch/tree" >"$scratch/said"; then
    echo "FAILED: nothing was said of $1: $2"
    bad=1
  elif ! grep -q "$1" "$scratch/said"; then
    echo "FAILED: of $1: $2 it is said:"; cat "$scratch/said"
    bad=1
  fi
}
tree
ci/check_layers.sh "$scratch/tree" || { echo "FAILED: a good tree is refused"; bad=1; }
for header in chrono ctime time.h thread mutex atomic random filesystem fstream iostream syncstream cstdio fcntl.h \
  unistd.h sys/time.h unordered_map unordered_set grpcpp/grpcpp.h; do
  plant model/core/other.h "#include <$header>"
done
plant model/core/other.h '#include "sim/world/world.h"'
plant model/core/other.h '#include "model/scheduler/scheduler.h"'
plant model/protocol/other.h '#include "model/scheduler/scheduler.h"'
plant model/scheduler/other.h '#include "model/tenancy/tenancy.h"'
plant model/scheduler/other.h '#include "model/control/control.h"'
plant model/scheduler/other.h 'double weight = 0;'
plant model/scheduler/other.h 'virtual void step();'
for root in control node gateway; do
  for other in control node gateway; do
    [ $root = $other ] || plant model/$root/other.h "#include \"model/$other/$other.h\""
  done
done
plant sim/world/other.h '#include "adapters/log/log.h"'
plant sim/world/other.h '#include <simgrid/s4u.hpp>'
plant adapters/front/other.h '#include "sim/world/world.h"'
plant adapters/front/other.h '#include <sqlite3.h>'
plant guest/other.cc '#include "model/core/time.h"'
exit $bad
