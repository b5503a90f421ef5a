#!/usr/bin/env bash
# Two folders of runs: a change is told with its figures and its page, and sameness is not a change.
set -euo pipefail
bin=$(readlink -f "$1")
cd "$(dirname "$0")/../../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sim=$bin/chalk-sim
fail() { echo "FAILED: $1"; exit 1; }
for side in a same b; do
  extra=()
  [ $side = b ] && extra=(--set group_default.keep_alive=1s)
  for seed in 1 2 3 4 5; do
    "$sim" run scenarios/fast/chalk_scaling.yaml "${extra[@]}" --set output.event_log=false \
      --seed $seed --out "$scratch/$side/$seed" --quiet >/dev/null || [ $? -eq 2 ]
  done
done
"$sim" compare "$scratch/a" "$scratch/same" >"$scratch/text" || fail "equal folders differ: $(cat "$scratch/text")"
status=0
"$sim" compare "$scratch/a" "$scratch/b" --name-a long --name-b short --out "$scratch/page" >"$scratch/text" || status=$?
[ $status -eq 2 ] || fail "a keep-alive of a second gives status $status, expected 2: $(cat "$scratch/text")"
grep -q "WORSE: cold_starts of chalk_scaling" "$scratch/text" || fail "$(cat "$scratch/text")"
grep -q "Better: replicas_mean of chalk_scaling" "$scratch/text" || fail "$(cat "$scratch/text")"
{ "$sim" compare "$scratch/a" "$scratch/b" --json || true; } | python3 -c '
import json, sys
c = json.load(sys.stdin)
row = next(r for r in c["rows"] if r["metric"] == "replicas_mean")
assert row["verdict"] == "better" and row["paired"] and row["runs"] == 5 and row["difference"] + row["half"] < 0, row
' || fail 'the JSON is not as expected'
python3 tests/sim/report/check_page.py "$scratch/page/report.html" "$scratch/compare.png" 1 || exit $?
# Another file of the same name that asks for other work is no change of a policy.
for side in 10 30; do
  "$sim" run scenarios/fast/chalk_scaling.yaml --set requests=2000 --set workload.0.per_second=$side --set assert=[] --out "$scratch/rate/$side" --quiet >/dev/null
done
status=0
"$sim" compare "$scratch/rate/10" "$scratch/rate/30" >"$scratch/text" 2>&1 || status=$?
[ $status -eq 1 ] && grep -q "found other arrivals for the same seed in chalk_scaling" "$scratch/text" || fail "$status: $(cat "$scratch/text")"
"$sim" compare "$scratch/a" "$scratch/b" >"$scratch/text" || true
grep -q "has other settings, but asks for the same: chalk_scaling" "$scratch/text" || fail "$(cat "$scratch/text")"
"$sim" compare "$scratch/a" "$scratch/none" >"$scratch/text" 2>&1 && fail "a folder that is not there was taken for good"
grep -q "found no folder, expected" "$scratch/text" || fail "$(cat "$scratch/text")"
exit 0
