#!/usr/bin/env bash
# Shards that are killed go on where they were, and together they are the sweep that one process makes;
# the files for clusters run the same shards. The page is drawn by a browser.
set -euo pipefail
bin=$(readlink -f "$1")
cd "$(dirname "$0")/../../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sim=$bin/chalk-sim
python=build/tools/venv/bin/python
[ -x "$python" ] || { echo "skipped: no PyYAML in build/tools/venv; run ci/tools"; exit 77; }
sweep=(scenarios/fast/chalk_scaling.yaml --set requests=20000 --over pools.0.nodes=1,2 --over group_default.keep_alive=5s,120s
  --seeds 3 --quiet)
fail() { echo "FAILED: $1"; exit 1; }

"$sim" sweep "${sweep[@]}" --out "$scratch/whole" >"$scratch/text"
grep -q "of 4 configurations are beaten by no other" "$scratch/text" || fail "no summary: $(cat "$scratch/text")"

# Killed with its children after a few runs, again and again, until it is done; no run is lost.
mkdir -p "$scratch/shard0/runs"
kills=0
for try in $(seq 1 40); do
  setsid "$sim" sweep "${sweep[@]}" --shard 0/2 --parallel 1 --out "$scratch/shard0" >"$scratch/out0" 2>&1 &
  pid=$!
  before=$(find "$scratch/shard0/runs" -name '*.json' 2>/dev/null | wc -l)
  for _ in $(seq 1 200); do
    kill -0 "$pid" 2>/dev/null || break
    [ "$(find "$scratch/shard0/runs" -name '*.json' 2>/dev/null | wc -l)" -gt "$before" ] && break
    sleep 0.01
  done
  if kill -9 -- "-$pid" 2>/dev/null; then kills=$((kills + 1)); fi
  wait "$pid" 2>/dev/null && break
done
[ "$kills" -ge 2 ] || fail "shard 0 was killed $kills times, expected some"
"$sim" sweep --resume "$scratch/shard0" --shard 0/2 --quiet || fail "shard 0 does not end"
status=0
"$sim" merge "$scratch/shard0" --quiet >"$scratch/half" || status=$?
[ $status -eq 2 ] && grep -q "6 of 12 runs are missing" "$scratch/half" || fail "half a sweep was taken for whole"

# The array script runs the other shard, as Slurm would.
bash -n sim/sweep/cluster/slurm.sh
SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_COUNT=2 CHALK_SIM=$sim bash sim/sweep/cluster/slurm.sh \
  "${sweep[0]}" "$scratch/shard1" "${sweep[@]:1}"
"$sim" merge "$scratch/shard0" "$scratch/shard1" --out "$scratch/merged" --quiet >/dev/null || fail "the merge is not whole"
cmp "$scratch/whole/table.csv" "$scratch/merged/table.csv" || fail "shards give another table than one process"

# The pods' own command line, in a folder as theirs.
"$python" tests/sim/sweep/check_manifest.py sim/sweep/cluster/kubernetes.yaml "$scratch/pod.sh"
mkdir "$scratch/pod"
cp scenarios/fast/chalk_scaling.yaml "$scratch/pod/scenario.yaml"
sed -i 's/arrivals_max: 20000/arrivals_max: 300/' "$scratch/pod/scenario.yaml"
for index in 0 1; do
  (cd "$scratch/pod" && JOB_COMPLETION_INDEX=$index SHARDS=2 PATH="$(readlink -f "$bin"):$PATH" sh "$scratch/pod.sh" 2>"$scratch/pod.err") ||
    fail "a pod's command fails: $(cat "$scratch/pod.err")"
done
"$sim" merge "$scratch/pod/out" --quiet >/dev/null || fail "pods leave runs out"

# Errors name the place and what was expected.
said() { "$sim" "${@:2}" >"$scratch/said" 2>&1 && fail "'${*:2}' was taken for good"; grep -q -- "$1" "$scratch/said" || fail "'${*:2}' says: $(cat "$scratch/said")"; }
said 'pools.0..node: found .* expected' sweep scenarios/fast/chalk_scaling.yaml --over pools.0.node=1 --out "$scratch/bad"
said 'expected I/N' sweep "${sweep[@]}" --shard 2/2 --out "$scratch/bad"
said 'found another sweep: its first_seed is 1, asked is 9' sweep "${sweep[@]}" --seed 9 --out "$scratch/whole"
said 'the closest is "wait_p90_ms"' sweep "${sweep[@]}" --y wait_p9_ms --out "$scratch/bad"
said 'found no sweep.json' merge "$scratch"
said 'expected --seeds N' sweep "${sweep[@]}" --over seed=1,2 --out "$scratch/bad"
said 'found pools.0.nodes twice' sweep "${sweep[@]}" --over pools.0.nodes=4 --out "$scratch/bad"
said 'which are one configuration' sweep scenarios/fast/chalk_scaling.yaml --over pools.0.nodes=1,2 --over pools.cpu.nodes=2,3 --out "$scratch/bad"
said 'its seeds is 3, asked is 4' sweep --resume "$scratch/whole" --seeds 4 --quiet
said 'its first_seed is 1, asked is 2' sweep --resume "$scratch/whole" --seed 2 --quiet
said 'its sets is .*, asked is' sweep --resume "$scratch/whole" --set requests=1 --quiet
"$sim" sweep --resume "$scratch/whole" --seeds 3 --set requests=20000 --quiet >/dev/null || fail "what the folder says too is refused"

# Whatever stands in the folder may be said again, and from everywhere.
"$sim" sweep --resume "$scratch/whole" --over pools.0.nodes=1,2 --over group_default.keep_alive=5s,120s --quiet >/dev/null ||
  fail "the axes that the folder says too are refused"
said 'its over is .*, asked is' sweep --resume "$scratch/whole" --over pools.0.nodes=1,2 --quiet
rm "$(find "$scratch/whole/runs" -name '*.json' | head -1)"
(cd "$scratch" && "$sim" sweep --resume whole --quiet >"$scratch/text") || fail "not from another folder: $(cat "$scratch/text")"
grep -q "report: $(readlink -f "$scratch")/whole/report.html" "$scratch/text" || fail "$(cat "$scratch/text")"
cmp "$scratch/whole/table.csv" "$scratch/merged/table.csv" || fail "from another folder it is another sweep"

# A trace whose content was replaced is another demand, whatever its name: neither resumed nor merged.
printf '{"chalk_trace":1}\n{"tenant":"t"}\n{"image":"i"}\n{"function":"f","tenant":"t","image":"i"}\n{"at_ns":5,"call":"f","service_ns":1000}\n' >"$scratch/a.jsonl"
traced=(scenarios/fast/chalk_scaling.yaml --trace "jsonl:$scratch/a.jsonl" --over pools.0.nodes=1,2 --seeds 1 --quiet)
"$sim" sweep "${traced[@]}" --shard 0/2 --out "$scratch/traced0"
cp "$scratch/a.jsonl" "$scratch/before.jsonl"
echo '{"at_ns":7,"call":"f","service_ns":1000}' >>"$scratch/a.jsonl"
said 'found another content of the traces' sweep --resume "$scratch/traced0" --quiet
said 'found another sweep: its traces_digest is' sweep "${traced[@]}" --out "$scratch/traced0"
"$sim" sweep "${traced[@]}" --shard 1/2 --out "$scratch/traced1"
said 'found another sweep than in .*: its traces_digest is' merge "$scratch/traced0" "$scratch/traced1"
cp "$scratch/before.jsonl" "$scratch/a.jsonl"
"$sim" sweep --resume "$scratch/traced0" --quiet >/dev/null || fail "the trace is as it was, and is refused"

# A run's file that was cut is named, with what to do about it.
cut=$(find "$scratch/merged/runs" -name '*.json' | head -1)
truncate -s 20 "$cut"
for command in "merge $scratch/merged" "compare $scratch/merged $scratch/whole" "sweep --resume $scratch/merged --quiet"; do
  said "$cut: found text that is cut or damaged, expected a finished run; delete the file" $command
done
rm "$cut"
"$sim" sweep --resume "$scratch/merged" --quiet >/dev/null
cmp "$scratch/whole/table.csv" "$scratch/merged/table.csv" || fail "what was deleted is not run again"

python3 tests/sim/report/check_page.py "$scratch/whole/report.html" "$scratch/sweep.png" || exit $?
for word in "chalk-sim run scenarios/fast/chalk_scaling.yaml --set requests=20000 --set pools.0.nodes=1 --set group_default.keep_alive=5s --seed 1" "front"; do
  grep -q -- "$word" "$scratch/whole/report.html" || fail "the page does not have: $word"
done
echo "a shard was killed $kills times and went on; both shards make the table of one process"
