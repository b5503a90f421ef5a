#!/usr/bin/env bash
# What a hostile tenant of a real chalk-server can do, which must be nothing: run_security.sh BINDIR [unittest's names...]
# Ends with a line such as "42 passed, 0 failed". 77: cannot run here, and why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${1:?usage: run_security.sh BINDIR [names...]}
shift
python=$root/build/tools/venv/bin/python
skip() { echo "security: skipped: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "sandboxes need root"
[ -x "$python" ] || skip "no grpcio in build/tools/venv; run ci/setup"
[ -x "$root/build/tools/bin/runsc" ] || skip "no runsc in build/tools/bin; run ci/tools"
[ -f "$root/build/images/index.json" ] || skip "no images in build/images; run ci/base-image"
for program in docker-registry openssl; do
  command -v "$program" >/dev/null || skip "$program is not installed; run ci/setup"
done
for program in chalk-server chalk chalk-guest; do
  [ -x "$bin/$program" ] || { echo "security: $bin/$program was not built"; exit 1; }
done
exec env PYTHONPATH="$root/tests/support" "$python" "$here/main.py" "$bin" "$@"
