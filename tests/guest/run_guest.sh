#!/usr/bin/env bash
# chalk-guest, each command with good and bad input: on this machine, and inside gVisor. 77: not inside gVisor, and why.
set -uo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
root=$PWD
python3 tests/guest/guest_test.py "$bin/chalk-guest" || exit 1
runsc=${CHALK_RUNSC:-$root/build/tools/bin/runsc}
if [ ! -x "$runsc" ] || [ "$(id -u)" -ne 0 ]; then
  echo "skipped: not run inside gVisor, which needs root and $runsc (ci/tools runsc)"
  exit 77
fi
state=$(mktemp -d)
# With no network runsc may leave its empty namespace mounted there.
trap 'umount "$state/null-netns" 2>/dev/null; rm -rf "$state"' EXIT
# `do` shows this machine's files read-only, with a writable layer in memory above them.
echo "the same inside gVisor:"
timeout 300 "$runsc" --root="$state" --network=none --ignore-cgroups do -cwd "$root" \
  /usr/bin/python3 tests/guest/guest_test.py "$bin/chalk-guest"
