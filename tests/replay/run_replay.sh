#!/usr/bin/env bash
# run_replay.sh BIN_DIR: a real run with kills replays in the simulator to the same digests.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ]; then echo "skipped: sandboxes need root"; exit 77; fi
exec build/tools/venv/bin/python tests/replay/replay.py "${1:-build/release/bin}"
