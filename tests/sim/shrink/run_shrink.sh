#!/usr/bin/env bash
# Bugs planted in the simulator's own program are found by swarm and shrunk to a few lines.
set -uo pipefail
exec python3 "$(dirname "$0")/shrink_planted.py" "$(dirname "$1")"
