#!/usr/bin/env bash
# run_recorded.sh BIN_DIR: logs of earlier real runs still replay to their digests. They are recorded anew
# where the logic version is raised.
set -uo pipefail
bin=$(realpath "${1:-build/release/bin}")
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0 seen=0
for log in recorded/*.log.gz; do
  [ -e "$log" ] || continue
  seen=$((seen + 1))
  gunzip -c "$log" >"$scratch/log"
  if ! "$bin/chalk-sim" replay "$scratch/log" --check-digest --quiet; then
    echo "FAILED: $log; repeat with: gunzip -c tests/replay/$log >/tmp/log && $bin/chalk-sim replay /tmp/log"
    failed=1
  fi
done
[ "$seen" -gt 0 ] || { echo "found no recorded log"; failed=1; }
exit $failed
