#!/usr/bin/env bash
# The mutation tool on a small source: seconds. What it says of model/ is ci/nightly's.
set -uo pipefail
exec /usr/bin/python3 "$(dirname "$0")/self_test.py"
