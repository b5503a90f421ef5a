#!/usr/bin/env bash
# What the subcommands have in common: statuses, arguments that are refused, signals, where they write.
set -euo pipefail
bin=$(readlink -f "$1")
cd "$(dirname "$0")/../../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sim=$bin/chalk-sim
fail() { echo "FAILED: $1"; exit 1; }
# ends STATUS WORDS ARGUMENTS...: the program ends so and says (a pattern of) those words.
ends() {
  local status=0
  "$sim" "${@:3}" >"$scratch/said" 2>&1 || status=$?
  [ $status -eq "$1" ] || fail "'${*:3}' ends with status $status, expected $1, and says: $(cat "$scratch/said")"
  grep -q -- "$2" "$scratch/said" || fail "'${*:3}' does not say \"$2\" but: $(cat "$scratch/said")"
}
small=scenarios/fast/kpa_baseline.yaml

# A few lines of aliases stand for billions of nodes.
{ echo "shows: Aliases."; echo "a: &a [x,x,x,x,x,x,x,x,x]"; } >"$scratch/aliases.yaml"
for pair in ab bc cd de ef fg gh hi ij; do
  echo "${pair:1}: &${pair:1} [*${pair:0:1},*${pair:0:1},*${pair:0:1},*${pair:0:1},*${pair:0:1},*${pair:0:1},*${pair:0:1},*${pair:0:1},*${pair:0:1}]"
done >>"$scratch/aliases.yaml"
(ulimit -v 4000000 && ends 1 "aliases.yaml:2: found more than .* nodes" check "$scratch/aliases.yaml")

# A signal while nothing looks for it ends the program, at the first.
mapfile -t many < <(yes "$small" | head -20000)
"$sim" check "${many[@]}" >/dev/null 2>&1 &
pid=$!
sleep 0.3
kill -TERM $pid
status=0
wait $pid || status=$?
[ $status -eq 143 ] || fail "the first SIGTERM gives status $status, expected 143"

# Statuses are those of --help, also where the arguments are none; no count is below 0, no number nan.
ends 0 "Exit status" --help
ends 1 "required" run
ends 1 "not expected" run "$small" --sed 1
for option in "--seed -1" "--restore-each -1" "--seed=-1"; do ends 1 "expected a whole number from 0" run "$small" $option; done
ends 1 "expected a whole number from 0" swarm --seeds 1..2 --digests-every -1
# A seed that is too large is not another one, nor one that the scenario it is written into may not have.
most=4611686018427387904
for seed in 99999999999999999999999 18446744073709551615 9223372036854775807 4611686018427387905; do
  ends 1 "found $seed, expected a whole number from 0 to $most" run "$small" --seed $seed
  ends 1 "found $seed, expected a whole number from 0 to $most" swarm --minutes 0.001 --from $seed
  ends 1 "found $seed, expected a whole number from 0 to $most" swarm --show $seed
done
ends 0 "seed $most" run "$small" --set requests=300 --set assert=[] --seed $most --out "$scratch/most" --quiet
ends 0 "seed $most" run "$scratch/most/scenario.yaml" --quiet
ends 1 "found 2 seeds from $most, expected none above" sweep "$small" --over pools.0.nodes=1 --seed $most --seeds 2 --out "$scratch/beyond"
ends 1 "found 2 seeds from $most, expected none above" plan "$small" --seed $most --seeds 2 --find pools.0.nodes --range 1:2 --until "failed<=0"
ends 1 "expected none above $most" swarm --seeds 1..18446744073709551615
ends 0 "no property is broken" swarm --minutes 0.01 --from $most --out "$scratch" --quiet
ends 1 "expected a whole number from 0" explain "$scratch/none" --event -1
ends 1 "expected a number" swarm --minutes nan
ends 1 "expected a number" compare "$scratch" "$scratch" --at-least nan
ends 1 "expected a number" compare "$scratch" "$scratch" --confidence nan
ends 1 "expected a number" whatif "$scratch/none" --set a=1 --at-least nan
ends 1 'found "wait_p99_ms<=nan"' plan "$small" --find pools.0.nodes --range 1:2 --until "wait_p99_ms<=nan"
ends 1 "found with --seeds" swarm --seeds 1..2 --from 5

# plan: what serves nobody is no answer, what was tried is told, and equality has no threshold.
tiny=(--set requests=300 --set assert=[] --quiet --seeds 2)
ends 2 "does not count.*with seed 1 there is nothing to measure watched_wait_p99_ms of" \
  plan "$small" "${tiny[@]}" --find pools.0.nodes --range 1:2 --until "watched_wait_p99_ms<=5"
ends 0 "nodes = 0 does not count, whatever was measured: with seed 1 an invariant is broken" \
  plan "$small" "${tiny[@]}" --find pools.0.nodes --range 0:4 --until "total_p99_ms<=500000"
grep -q "nodes = 1 is the least" "$scratch/said" || fail "plan: $(cat "$scratch/said")"
ends 2 "does not count.*the scenario's assertion requests==7 fails" \
  plan "$small" --set requests=300 --set "assert=[requests==7]" --quiet --seeds 1 --find pools.0.nodes --range 1:2 --until "failed<=0"
ends 2 "that were tried (1, 2, 4) meets" plan "$small" "${tiny[@]}" --find pools.0.nodes --range 1:4 --until "total_p99_ms<=0"
ends 0 "more is not better for nodes_mean" plan "$small" "${tiny[@]}" --find pools.0.nodes --range 1:4 --until "nodes_mean<=1.5"
for equality in == !=; do
  ends 1 "more to be better, which $equality is not" plan "$small" --find pools.0.nodes --range 1:4 --until "nodes_mean${equality}3"
done
ends 1 "and --seeds N" plan "$small" --find seed --range 1:4 --until "failed<=0"

# What jobs cost after the last arrival is said, in words and on the page, and is not where there is little of it.
jobs=scenarios/regress/jobs_after_the_last_arrival.yaml
rest="That is until the last arrival, at .*; the run went on to 6[0-9].* minutes, with 2[01]\\.. node hours and a cost of 2[01]"
ends 0 "$rest" run "$jobs" --out "$scratch/jobs" --quiet
grep -q "$rest" "$scratch/jobs/report.html" || fail "the page is silent about what comes after the last arrival"
python3 -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert r["tenants"][0]["sandboxes"] == 20 and 79 < r["tenants"][0]["core_hours"] < 81, r["tenants"]
' "$scratch/jobs/result.json" || fail "tenants are cut at the last arrival"
ends 0 "is the least that meets cost_total<=25" plan "$jobs" --set assert=[] --seeds 1 --quiet --find pools.0.nodes_max --range 1:3 --until "cost_total<=25"
ends 0 "node hours, costing" run "$small" --quiet
grep -q "the run went on" "$scratch/said" && fail "a run that ends with its arrivals is said to go on"

# What had not begun by the end is counted with what it had waited until then, and that is said.
full=(--set "workload.0={kind: poisson, of: sandboxes, per_second: 1, runs: 1h}" --set duration=200s --set run_until_done=false --set assert=[])
bounds="[1-9][0-9,]* had not begun by the end: the waits are lower bounds"
ends 0 "$bounds" run "$small" "${full[@]}" --out "$scratch/full" --quiet
grep -q "$bounds" "$scratch/full/report.html" || fail "the page takes waits for known that are not over"
ends 2 "Up to [1-9].* had not begun by the end of such a run" plan "$small" "${full[@]}" --seeds 1 --quiet --find pools.0.nodes --range 1:1 --until "wait_p99_ms<=1"
ends 0 "node hours, costing" run "$small" --quiet
grep -q "had not begun" "$scratch/said" && fail "of a run that ended well something is said not to have begun"

# What came from other nodes is not less pulled.
ends 0 "Nodes pulled .* of images from registries and .*GB from other nodes" run scenarios/rare/image_tree_loses_nodes.yaml --quiet

# Scenarios of capacity hold what they assert with the seeds, and answer by the command, that their first lines name.
for seed in 1 5; do ends 0 "Holds: cost" run scenarios/capacity/fleet_day.yaml --seed $seed --quiet; done
eval "stall=($(sed -n 's/^# chalk-sim //p' scenarios/capacity/start_slots_stall.yaml))"
ends 0 "start_slots = 11 is the least" "${stall[@]}" --seeds 1 --quiet

# An assertion about nothing does not hold, and nobody is watched who is not there.
printf '{"chalk_trace":1}\n{"tenant":"t"}\n{"image":"i"}\n{"function":"f","tenant":"t","image":"i"}\n' >"$scratch/empty.jsonl"
ends 2 "DOES NOT HOLD: wait_p99_ms<=5 (there is nothing to measure)" \
  run "$small" --trace "jsonl:$scratch/empty.jsonl" --set "assert=[wait_p99_ms<=5]" --out "$scratch/empty" --quiet
grep -q '"value": null' "$scratch/empty/result.json" || fail "an assertion about nothing has a value"
ends 0 "Holds: failed==0 (it is 0)" run "$small" --trace "jsonl:$scratch/empty.jsonl" --set "assert=[failed==0]" --quiet
ends 1 'watch: found "nobody", expected a tenant of the workload' run "$small" --trace "jsonl:$scratch/empty.jsonl" --set "watch=[nobody]" --quiet
sed 's/^shows:/watch: [nobody]\nshows:/' "$small" >"$scratch/watching.yaml"
ends 1 'watch: found "nobody", expected a tenant of the workload' check "$scratch/watching.yaml"

# Folders are looked at before the work; an answer is given though they cannot be written to then.
touch "$scratch/file"
for command in "run $small" "plan $small --find pools.0.nodes --range 1:2 --until failed<=0" "swarm --seeds 1..1" \
  "sweep $small --over pools.0.nodes=1"; do
  ends 1 "^chalk-sim: --out $scratch/file/out: the folder cannot" $command --out "$scratch/file/out" --quiet
done
ends 1 "found the case itself" shrink "$small" --out "$small" --quiet
mkdir -p "$scratch/compared/report.html/x"
"$sim" run "$small" --out "$scratch/good" --quiet >/dev/null
ends 1 "report.html" compare "$scratch/good" "$scratch/good" --out "$scratch/compared"
grep -q "Judged:" "$scratch/said" || fail "compare gives no answer where it cannot write: $(cat "$scratch/said")"
status=0
"$sim" check "$small" >/dev/full 2>"$scratch/said" || status=$?
[ $status -eq 1 ] && grep -q "cannot be written" "$scratch/said" || fail "a full disk behind > is a success: $status"

# One folder holds the results of one command.
shared=$scratch/shared
"$sim" run "$small" --set requests=300 --set assert=[] --out "$shared" --quiet >/dev/null
ends 1 "found result.json, which another command wrote there" sweep "$small" --over pools.0.nodes=1 --out "$shared" --quiet
ends 1 "found result.json, which another command wrote there" compare "$shared" "$shared" --out "$shared"
"$sim" plan "$shared/scenario.yaml" "${tiny[@]}" --find pools.0.nodes --range 1:1 --until "failed<=0" --out "$shared" >/dev/null
[ "$(cd "$shared" && echo *)" = "plan.json report.html scenario.yaml series.csv" ] || fail "plan leaves of a run: $(ls "$shared")"
"$sim" plan "$small" "${tiny[@]}" --find pools.0.nodes --range 1:1 --until "failed<=0" --out "$shared" >/dev/null
[ -e "$shared/scenario.yaml" ] || fail "plan takes away a scenario that no run wrote"
"$sim" run "$small" --set requests=300 --set assert=[] --out "$shared" --quiet >/dev/null
"$sim" plan "$small" "${tiny[@]}" --find pools.0.nodes --range 1:1 --until "failed<=0" --out "$shared" >/dev/null
[ ! -e "$shared/scenario.yaml" ] || fail "plan leaves the scenario of an earlier run"
"$sim" run "$small" --set requests=300 --set assert=[] --out "$shared" --quiet >/dev/null
[ ! -e "$shared/plan.json" ] || fail "run leaves the plan of an earlier command"
"$sim" sweep "$small" --set requests=300 --over pools.0.nodes=1 --seeds 1 --out "$scratch/swept" --quiet >/dev/null
ends 1 "found sweep.json, which another command wrote there" run "$small" --out "$scratch/swept" --quiet
ends 1 "found sweep.json, which another command wrote there" plan "$small" "${tiny[@]}" --find pools.0.nodes --range 1:1 --until "failed<=0" --out "$scratch/swept"

# A shrink that ends early says why, and nothing of what it did not try; where the case cannot be written it names no file.
# Of this case every arrival is needed: no machine is through with it before it is interrupted.
cat >"$scratch/case.yaml" <<'YAML'
shows: A case.
seed: 3
pools: [{name: p, nodes: 30, node: {cpu: 16, memory: 64Gi}}]
workload: [{kind: poisson, of: sandboxes, per_second: 10, arrivals_max: 20000, runs: 3s}]
assert: [completed<=19999]
YAML
ends 0 "more might go, but time was up" shrink "$scratch/case.yaml" --minutes 0.001 --quiet
grep -q "stands as it was" "$scratch/said" && fail "a list of arrivals that was not tried is said not to fail"
"$sim" shrink "$scratch/case.yaml" >"$scratch/said" 2>"$scratch/progress" &
pid=$!
for _ in $(seq 1 600); do grep -q "at /workload" "$scratch/progress" && break; sleep 0.1; done
kill -INT $pid
status=0
wait $pid || status=$?
[ $status -eq 130 ] && grep -q "more might go, but it was interrupted" "$scratch/said" || fail "an interrupted shrink: $status, $(cat "$scratch/said")"
# small_files KIB ARGUMENTS...: where no file may be larger, as on a disk that is full.
small_files() { (trap '' XFSZ; ulimit -f "$1"; "$sim" "${@:2}" 2>&1 && echo "status 0" || echo "status $?") | cat >"$scratch/said"; }
small_files 0 shrink "$scratch/case.yaml" --minutes 0.001 --quiet
grep -q "^status 1" "$scratch/said" && ! grep -q "^case:" "$scratch/said" || fail "a case that is not there is named: $(cat "$scratch/said")"

# A disk that fills up while the log is written ends the log, not the run: the answer is given, with status 1.
small_files 64 run "$small" --out "$scratch/full" --quiet
grep -q "^status 1" "$scratch/said" || fail "$(cat "$scratch/said")"
for word in "events.log: cannot write the event log: File too large" "Of .* requests"; do
  grep -q "$word" "$scratch/said" || fail "a log that cannot be written takes the answer with it: $(cat "$scratch/said")"
done
[ ! -e "$scratch/full/events.log" ] || fail "half a log is left"

# A killed run over an older result has none, and compare says so.
"$sim" run "$small" --set workload.0.arrivals_max=100000000 --out "$scratch/good" --quiet >/dev/null 2>&1 &
pid=$!
for _ in $(seq 1 100); do [ -e "$scratch/good/result.json" ] || break; sleep 0.1; done
sleep 0.5
kill -9 $pid
wait $pid 2>/dev/null || true
ends 1 "found an events.log without a result.json: the run did not end" compare "$scratch/good" "$scratch/good"

# What follows the end of a log, or a scenario's document, was not looked at.
"$sim" run "$small" --set requests=300 --set assert=[] --out "$scratch/ended" --quiet >/dev/null
cp "$scratch/ended/events.log" "$scratch/longer.log"
ends 0 "^same:" replay "$scratch/longer.log" --quiet
cat "$scratch/ended/events.log" >>"$scratch/longer.log"
ends 1 "found bytes behind the closing record" replay "$scratch/longer.log" --quiet
{ cat "$scratch/ended/events.log"; echo; } >"$scratch/longer.log"
ends 1 "found bytes behind the closing record" replay "$scratch/longer.log" --quiet
ends 1 "found bytes behind" whatif "$scratch/longer.log" --scenario "$scratch/ended/scenario.yaml" --set pools.0.nodes=1 --quiet

# Logs that are none say what they are.
ends 1 "found a folder, expected an event log" replay "$scratch/good" --quiet
printf 'chalk-log 9\nmore' >"$scratch/other.log"
ends 1 'found a log of the format "chalk-log 9", expected "chalk-log 1"' replay "$scratch/other.log" --quiet
exit 0
