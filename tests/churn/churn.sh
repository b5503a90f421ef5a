#!/usr/bin/env bash
# churn.sh BIN_DIR [--kills N] [--seed N]: kills of server and agent under load; see churn.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ]; then echo "skipped: sandboxes need root"; exit 77; fi
bin=${1:-build/release/bin}
shift || true
exec build/tools/venv/bin/python tests/churn/churn.py "$bin" "$@"
