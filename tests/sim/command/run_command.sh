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
mapfile -t many < <(yes "$small" | head -5000)
"$sim" check "${many[@]}" >/dev/null 2>&1 &
pid=$!
sleep 0.3
kill -TERM $pid
status=0
wait $pid || status=$?
[ $status -eq 143 ] || fail "the first SIGTERM gives status $status, expected 143"
exit 0
