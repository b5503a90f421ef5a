#!/usr/bin/env bash
# Compares one_function.yaml with SimFaaS and theory. Skips (77) when SimFaaS cannot be installed.
set -euo pipefail
bin=$1
cd "$(dirname "$0")/../.."
venv=${CHALK_PEERS:-build/peers}
if ! "$venv/bin/python" -c 'import simfaas' 2>/dev/null; then
  python3 -m venv "$venv" && "$venv/bin/pip" -q install -r tests/peers/requirements.txt >/dev/null 2>&1 || {
    echo "skipped: SimFaaS 0.2.2 cannot be installed from PyPI here"
    exit 77
  }
fi
"$venv/bin/python" tests/peers/one_function.py "$bin/chalk-sim" scenarios/capacity/one_function.yaml
