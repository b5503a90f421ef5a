#!/usr/bin/env bash
# Every scenario in scenarios/fast, rare and regress holds what it asserts; what was once broken is
# checked at every step.
set -uo pipefail
bin=$1
cd "$(dirname "$0")/../.."
bad=0
for scenario in scenarios/fast/*.yaml scenarios/rare/*.yaml scenarios/regress/*.yaml; do
  every=
  [[ $scenario != scenarios/regress/* ]] || every=--check-each-step
  if ! "$bin/chalk-sim" run "$scenario" --quiet $every >/tmp/chalk-scenario-$$ 2>&1; then
    cat /tmp/chalk-scenario-$$
    echo "FAILED; repeat with: build/release/bin/chalk-sim run $scenario $every"
    bad=1
  fi
done
rm -f /tmp/chalk-scenario-$$
exit $bad
