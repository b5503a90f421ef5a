#!/usr/bin/env bash
# `explain` finds an event by its text and tells the candidates, the rule and the numbers, also as JSON.
set -euo pipefail
bin=$(readlink -f "$1")
cd "$(dirname "$0")/../../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sim=$bin/chalk-sim
fail() { echo "FAILED: $1"; exit 1; }
"$sim" run scenarios/fast/image_cache_locality.yaml --out "$scratch/run" --quiet >/dev/null
log=$scratch/run/events.log
event=$("$sim" explain "$log" --find StartOrder --most 60 --json --quiet | python3 -c '
import json, sys
print([found["event"] for found in json.load(sys.stdin) if found["machine"] == "control plane"][-1])')
"$sim" explain "$log" --event "$event" --quiet >"$scratch/text"
for word in "goes to node" "rule: of the nodes where it fits" "candidates, the best first" "has image" "nodes where it fits"; do
  grep -q "$word" "$scratch/text" || fail "no \"$word\" in: $(cat "$scratch/text")"
done
"$sim" explain "$log" --event "$event" --json --quiet | python3 -c '
import json, sys
e = json.load(sys.stdin)
d = next(d for d in e["decisions"] if d["machine"] == "scheduler")
assert e["same"] and d["candidates"] and not d["note"] and int(d["numbers"]["nodes"]) == 6, d'
said() { "$sim" "${@:2}" >"$scratch/said" 2>&1 && fail "'${*:2}' was taken for good"; grep -q -- "$1" "$scratch/said" || fail "'${*:2}' says: $(cat "$scratch/said")"; }
said 'expected 1 to' explain "$log" --event 999999999 --quiet
said 'expected --event N' explain "$log" --quiet
said 'no event has that text' explain "$log" --find "no such text" --quiet
