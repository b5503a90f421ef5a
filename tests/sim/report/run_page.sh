#!/usr/bin/env bash
# Reports of a run and of a plan are drawn by a real browser without an error; a page that is broken
# on purpose is found.
set -uo pipefail
bin=$1
cd "$(dirname "$0")/../../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$bin/chalk-sim" run scenarios/fast/image_cache_locality.yaml --out "$scratch/run" --quiet >"$scratch/text" || exit 1
"$bin/chalk-sim" plan scenarios/fast/chalk_scaling.yaml --set requests=3000 --find pools.0.nodes --range 1:4 \
  --until "wait_p99_ms<=5000" --seeds 2 --out "$scratch/plan" --quiet >>"$scratch/text" || { cat "$scratch/text"; exit 1; }
for page in run plan; do
  python3 tests/sim/report/check_page.py "$scratch/$page/report.html" "$scratch/$page.png" || exit $?
done
sed 's/new Chart(canvas, config)/null/' "$scratch/run/report.html" >"$scratch/blank.html"
if python3 tests/sim/report/check_page.py "$scratch/blank.html"; then
  echo "a page without plots was taken for good"
  exit 1
fi
sed 's/"use strict"/"use strict"; console.error("planted")/' "$scratch/run/report.html" >"$scratch/error.html"
if python3 tests/sim/report/check_page.py "$scratch/error.html"; then
  echo "a page with a console error was taken for good"
  exit 1
fi
exit 0
