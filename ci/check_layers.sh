#!/usr/bin/env bash
# Fails when a folder uses what its layer may not see. The rules are in docs/architecture.md.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"
bad=0

# forbid FOLDER PATTERN REASON [EXCEPT]: comments do not count; EXCEPT is a path prefix to pass over.
forbid() {
  [ -d "$1" ] || return 0
  local file hits
  while IFS= read -r file; do
    if [ -n "${4:-}" ] && [[ $file == $4* ]]; then continue; fi
    if hits=$(sed 's,//.*,,' "$file" | grep -nE "$2"); then
      echo "$file: $3"
      echo "$hits"
      bad=1
    fi
  done < <(find "$1" -name '*.h' -o -name '*.cc' | sort)
}

forbid model '#include "(sim|adapters|tests|bench)/' 'model sees only model'
forbid model '#include <(chrono|thread|mutex|atomic|future|random|filesystem|fstream|iostream|unordered_(map|set)|unistd\.h|sys/.*|grpc.*|google/.*|simgrid.*)>' \
  'no clock, thread, entropy, file, socket or hash order in model'
forbid model '\b(float|double|std::hash|rand|getenv)\b' 'no floating point, process state or addresses in decisions'
forbid model '\b(virtual|shared_ptr|throw)\b' 'no virtual calls, shared ownership or exceptions in model'
forbid sim '#include "(adapters|tests|bench)/' 'sim sees model'
forbid sim '#include [<"]simgrid/|#include <simgrid' 'SimGrid appears only in sim/simgrid' sim/simgrid/
forbid adapters '#include "(sim|tests|bench)/' 'adapters see model'
forbid adapters '#include <sqlite3\.h>' 'SQLite appears only where state is kept' 'adapters/@(log|identity|records)/'
forbid guest '#include "(model|sim|adapters|tests|bench)/' 'guest sees only itself: it runs where nothing else is'

# A machine sees core and protocol; the three roots see the machines.
for folder in model/*/; do
  name=$(basename "$folder")
  case $name in
    core) allowed='core' ;;
    protocol) allowed='core|protocol' ;;
    control|node|gateway) continue ;;
    *) allowed="core|protocol|$name" ;;
  esac
  while IFS= read -r line; do
    echo "$line: $name sees only $allowed"
    bad=1
  done < <(grep -rnE '#include "model/' "$folder" --include='*.h' --include='*.cc' | grep -vE "#include \"model/($allowed)/" || true)
done
exit $bad
