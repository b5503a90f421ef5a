#!/usr/bin/env bash
# The unmodified public client against a real chalk-server: run_sdk.sh BINDIR [--certificate PEM --key PEM] [unittest's names...]
# Ends with a line such as "42 passed, 0 failed, 0 skipped in 200s". 77: cannot run here, and why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${1:?usage: run_sdk.sh BINDIR [--certificate PEM --key PEM] [names...]}
shift
python=$root/build/tools/venv/bin/python
skip() { echo "sdk: skipped: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "a node needs root"
[ -x "$python" ] || skip "no public client in build/tools/venv; run ci/setup"
[ -x "$root/build/tools/bin/runsc" ] || skip "no runsc in build/tools/bin; run ci/setup"
for program in chalk-server chalk chalk-guest; do
  [ -x "$bin/$program" ] || { echo "sdk: $bin/$program was not built"; exit 1; }
done
exec env PYTHONPATH="$root/tests/support" "$python" "$here/main.py" "$bin" "$@"
