#!/usr/bin/env bash
# bench/run_real.sh NAME [BIN_DIR]: what the real server and node cost, into bench/results/NAME.md.
# Needs root, a release build, ci/tools and ci/base-image; some 10 minutes, and a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: bench/run_real.sh NAME [BIN_DIR]}
bin=${2:-build/release/bin}
python=build/tools/venv/bin/python
out=bench/results/$name.md
before=$(ci/registry address 2>/dev/null || true)
registry=$(ci/registry start | tail -1)
trap '[ -n "$before" ] || ci/registry stop >/dev/null' EXIT

section() {  # TITLE COMMAND...
  local title=$1
  shift
  echo "bench: $title" >&2
  printf '\n## %s\n\n`%s`\n\n```\n' "$title" "$*"
  "$@"
  printf '```\n'
}
{
  echo "# Real sandboxes: $name"
  echo
  echo "Commit $(git describe --always --dirty); $(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -1), $(nproc) cores,"
  echo "Linux $(uname -r), a virtual machine whose host is shared; load $(cut -d' ' -f1 /proc/loadavg) at the start."
  section "Beside bare runsc" $python bench/real.py "$bin" --rounds 15
  section "Durable placements" "$bin/plane_bench" "$registry"
  section "Predicted and measured" $python bench/predict.py "$bin" --rounds 10 --runs 3
} >"$out.new"
mv "$out.new" "$out"
cat "$out"
