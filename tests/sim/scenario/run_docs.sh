#!/usr/bin/env bash
# docs/scenarios.md and docs/results.md name what the parser reads and what assertions know.
exec python3 "$(dirname "$0")/check_docs.py"
