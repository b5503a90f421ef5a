#!/usr/bin/env bash
# check_layers.sh [ROOT]: fails when a folder uses what its layer may not see. The rules are in docs/architecture.md;
# tests/layers plants what breaks each of them.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"
bad=0

# forbid FOLDER PATTERN REASON [EXCEPT]: comments do not count; EXCEPT is a path prefix to pass over.
forbid() {
  [ -d "$1" ] || return 0
  local file hits
  while IFS= read -r file; do
    if [ -n "${4:-}" ] && [[ $file == $4* ]]; then continue; fi
    if hits=$(sed 's,//.*,,' "$file" | grep -nP "$2"); then
      echo "$file: $3"
      echo "$hits"
      bad=1
    fi
  done < <(find "$1" -name '*.h' -o -name '*.cc' | sort)
}

# Values and how to work with them; whatever else is in the standard library or beside it is a clock, a thread,
# entropy, a file, a socket or hash order, or is to be thought about first.
plain='algorithm|array|bit|cctype|compare|concepts|cstddef|cstdint|cstdlib|cstring|deque|functional|initializer_list|iterator|limits|map|memory|numeric|optional|queue|ranges|set|span|string|string_view|tuple|type_traits|utility|variant|vector'
forbid model '#\s*include\s*"(?!model/)' 'model sees only model'
forbid model "#\\s*include\\s*<(?!($plain)>)" 'no clock, thread, entropy, file, socket or hash order in model' model/core/invariant.h
forbid model '\b(float|double|std::hash|rand|getenv|system)\b' 'no floating point, process state or addresses in decisions'
forbid model '\b(virtual|shared_ptr|throw)\b' 'no virtual calls, shared ownership or exceptions in model'
forbid sim '#include "(adapters|tests|bench)/' 'sim sees model'
forbid sim '#include [<"]simgrid/|#include <simgrid' 'SimGrid appears only in sim/simgrid' sim/simgrid/
forbid adapters '#include "(sim|tests|bench)/' 'adapters see model'
forbid adapters '#include <sqlite3\.h>' 'SQLite appears only where state is kept' 'adapters/@(log|identity|records)/'
forbid guest '#include "(model|sim|adapters|tests|bench)/' 'guest sees only itself: it runs where nothing else is'

# A machine sees core and protocol; the three roots see the machines.
for folder in model/*/; do
  [ -d "$folder" ] || continue
  name=$(basename "$folder")
  machines=$(find model -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | grep -vxE 'control|node|gateway' | paste -sd '|')
  case $name in
    core) allowed='core' ;;
    protocol) allowed='core|protocol' ;;
    control|node|gateway) allowed="$machines|$name" ;;  # and no other root
    *) allowed="core|protocol|$name" ;;
  esac
  while IFS= read -r line; do
    echo "$line: $name sees only $allowed"
    bad=1
  done < <(grep -rnE '#include "model/' "$folder" --include='*.h' --include='*.cc' | grep -vE "#include \"model/($allowed)/" || true)
done
exit $bad
