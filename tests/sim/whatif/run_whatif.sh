#!/usr/bin/env bash
# `whatif`: the demand of a log, decided as it was and otherwise, with the difference and its confidence.
set -euo pipefail
bin=$(readlink -f "$1")
cd "$(dirname "$0")/../../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sim=$bin/chalk-sim
fail() { echo "FAILED: $1"; exit 1; }
chance=(--set "start={distribution: uniform, mean: 500ms, spread: 0.1}")
"$sim" run scenarios/fast/chalk_scaling.yaml --set requests=20000 "${chance[@]}" --seed 7 --out "$scratch/run" --quiet >/dev/null || [ $? -eq 2 ]
log=$scratch/run/events.log

"$sim" whatif "$log" --set group_default.keep_alive=1s --out "$scratch/page" --quiet >"$scratch/text"
for word in "the same 20000 calls" "decides as the log says, event by event" "WORSE: cold_starts" "B - A"; do
  grep -q "$word" "$scratch/text" || fail "no \"$word\" in: $(cat "$scratch/text")"
done
"$sim" whatif "$log" --set group_default.keep_alive=1s --json --quiet | python3 -c '
import json, sys
w = json.load(sys.stdin)
rows = {row["metric"]: row for row in w["rows"]}
assert w["same_as_log"] and w["arrivals"] == 20000 and w["seed"] == 7, w
assert rows["cold_starts"]["paired"] and rows["cold_starts"]["difference"] - rows["cold_starts"]["half"] > 0, rows
assert rows["replicas_mean"]["verdict"] == "better", rows'
# What is no change is none, in every figure.
"$sim" whatif "$log" --set group_default.keep_alive=120s --json --quiet --all | python3 -c '
import json, sys
assert {row["verdict"] for row in json.load(sys.stdin)["rows"]} == {"equal"}'
python3 tests/sim/report/check_page.py "$scratch/page/report.html" "$scratch/whatif.png" 1 || exit $?

# Nothing is left to chance, so five seeds are one run, and no proof of anything.
cat >"$scratch/fixed.yaml" <<'YAML'
shows: Nothing is drawn.
pools: [{name: p, nodes: 1, node: {cpu: 1, memory: 16Gi}}]
workload: [{kind: list, arrivals: [{at: 1s, call: f, service: 1s}, {at: 2s, call: f, service: 1s}]}]
YAML
"$sim" run "$scratch/fixed.yaml" --out "$scratch/fixed" --quiet >/dev/null
"$sim" whatif "$scratch/fixed/events.log" --set start=900ms --quiet >"$scratch/text"
grep -q "nothing here is left to chance, so all of them are one sample" "$scratch/text" || fail "$(cat "$scratch/text")"
grep -Eq "WORSE|±" "$scratch/text" && fail "one run five times is taken for five: $(cat "$scratch/text")"

# Clients that wait for their answers: the arrivals are those of the log for both sides.
cat >"$scratch/loop.yaml" <<'YAML'
shows: Clients that wait.
pools: [{name: p, nodes: 2, node: {cpu: 8, memory: 16Gi}}]
group_default: {policy: kpa}
workload: [{kind: closed_loop, clients: 10, think: 500ms, arrivals_max: 800, service: {distribution: exponential, mean: 300ms}}]
YAML
"$sim" run "$scratch/loop.yaml" --out "$scratch/loop" --quiet >/dev/null
"$sim" whatif "$scratch/loop/events.log" --set group_default.policy=fixed --json --quiet --seeds 3 --metrics requests,cold_starts | python3 -c '
import json, sys
w = json.load(sys.stdin)
rows = {row["metric"]: row for row in w["rows"]}
assert w["same_as_log"] and rows["requests"]["a"] == rows["requests"]["b"] == 800, w'

said() { "$sim" "${@:2}" >"$scratch/said" 2>&1 && fail "'${*:2}' was taken for good"; grep -q -- "$1" "$scratch/said" || fail "'${*:2}' says: $(cat "$scratch/said")"; }
said "found a setting of the demand" whatif "$log" --set workload.0.per_second=3 --quiet
said "group_default.polcy.*unknown key" whatif "$log" --set group_default.polcy=fixed --quiet
mkdir "$scratch/alone" && cp "$log" "$scratch/alone/"
said "found no .*scenario.yaml beside it" whatif "$scratch/alone/events.log" --set group_default.policy=fixed --quiet

# A log that was changed, of another scenario, or of a run that was interrupted is not what whatif takes it for.
mkdir "$scratch/bad" && cp "$scratch/run/scenario.yaml" "$log" "$scratch/bad/"
python3 - "$scratch/bad/events.log" <<'PY'
import sys
path = sys.argv[1]
log = bytearray(open(path, "rb").read())
log[len(log) // 2] ^= 4
open(path, "wb").write(log)
PY
said "record [0-9]*" whatif "$scratch/bad/events.log" --set group_default.keep_alive=1s --quiet
said "found the log of the scenario \"chalk_scaling\"" whatif "$log" --scenario scenarios/fast/kpa_baseline.yaml --set group_default.keep_alive=1s --quiet
sed 's/20000/19000/' "$scratch/run/scenario.yaml" >"$scratch/fewer.yaml"
said "record [0-9]*, event [0-9]* at .* goes another way from there" whatif "$log" --scenario "$scratch/fewer.yaml" --set group_default.keep_alive=1s --quiet
"$sim" run scenarios/fast/chalk_scaling.yaml --set workload.0.arrivals_max=400000 --set assert=[] --out "$scratch/cut" --quiet >/dev/null &
pid=$!
for _ in $(seq 1 100); do [ ! -s "$scratch/cut/events.log" ] || break; sleep 0.02; done
kill -INT $pid
status=0
wait $pid || status=$?
[ $status -eq 130 ] || fail "an interrupted run has status $status"
"$sim" whatif "$scratch/cut/events.log" --set group_default.keep_alive=1s --seeds 1 --quiet >"$scratch/text"
grep -q "is of a run that was interrupted at .* s. Until then" "$scratch/text" || fail "of an interrupted log it says: $(cat "$scratch/text")"
exit 0
