#!/usr/bin/env bash
# What chalk, the command line, promises, seen on a real chalk-server --all-in-one:
#   tests/cli/run_cli.sh BIN_DIR [words of test names]
# Exit status: 0 all passed, 1 some failed, 77 skipped, with the reason. The last line counts.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${1:?the directory of the programs is needed}
shift
skip() { echo "skipped: $1"; exit 77; }
for program in chalk chalk-server chalk-guest; do
  [ -x "$bin/$program" ] || skip "$bin/$program is not built"
done
[ "$(id -u)" = 0 ] || skip "sandboxes need root"
[ -x "$root/build/tools/bin/runsc" ] || skip "build/tools/bin/runsc is not there: run ci/tools"
[ -f "$root/build/images/index.json" ] || skip "build/images is not there: run ci/base-image"
exec python3 "$root/tests/cli/cli_test.py" "$bin" "$@"
