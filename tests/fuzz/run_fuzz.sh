#!/usr/bin/env bash
# run_fuzz.sh BIN_DIR [TIMES]: mutated logs and requests, always the same ones, TIMES as many as usual;
# and faults that are planted to be found by them. What is broken is said with the command that repeats it.
set -uo pipefail
bin=$(realpath "${1:?usage: run_fuzz.sh BIN_DIR [TIMES]}")
times=${2:-1}
cd "$(dirname "$0")/../.."
failed=0
for target in log wire; do
  [ -x "$bin/fuzz_$target" ] || { echo "fuzz: $bin/fuzz_$target was not built"; failed=1; continue; }
  "$bin/fuzz_$target" --times "$times" || failed=1
done
[ "$times" -gt 1 ] || python3 tests/fuzz/planted.py "$(dirname "$bin")" || failed=1
exit $failed
