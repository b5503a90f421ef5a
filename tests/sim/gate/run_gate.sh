#!/usr/bin/env bash
# ci/gate catches policies that are made worse on purpose, and lets an unchanged program pass.
set -uo pipefail
exec python3 "$(dirname "$0")/gate.py" "$(dirname "$1")"
