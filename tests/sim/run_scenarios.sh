#!/usr/bin/env bash
# Every scenario in scenarios/fast, rare and regress holds what it asserts.
set -uo pipefail
bin=$1
cd "$(dirname "$0")/../.."
bad=0
for scenario in scenarios/fast/*.yaml scenarios/rare/*.yaml scenarios/regress/*.yaml; do
  if ! "$bin/chalk-sim" run "$scenario" --quiet >/tmp/chalk-scenario-$$ 2>&1; then
    cat /tmp/chalk-scenario-$$
    echo "FAILED; repeat with: build/release/bin/chalk-sim run $scenario"
    bad=1
  fi
done
rm -f /tmp/chalk-scenario-$$
exit $bad
