#!/usr/bin/env bash
# Tests of the tests: a bug planted for each invariant is found and shrunk to a readable case.
set -uo pipefail
exec python3 "$(dirname "$0")/plant.py" "$(dirname "$1")"
