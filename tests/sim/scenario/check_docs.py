#!/usr/bin/env python3
"""Every key that the parser of scenarios reads stands in docs/scenarios.md, and the documented are read.

Names only: what the words say of them, and their defaults, is for people to keep true. Also: every metric that `assert` knows stands in docs/results.md. Prints what is missing; exit 1 then.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
READS = r"\.(?:text|required_text|whole|number|flag|duration|bytes|millicores|bandwidth|delay|choice|texts|has|map|list|entries)\(\s*\"(\w+)\""


def main():
    source = "".join(path.read_text() for path in sorted((ROOT / "sim/scenario").glob("*.cc")))
    read = set(re.findall(READS, source))
    docs = (ROOT / "docs/scenarios.md").read_text()
    words = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", docs))))
    bad = [f"docs/scenarios.md does not mention the key {key}" for key in sorted(read - words)]
    # The first column of each table of keys: what is documented as a key must be read.
    for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", docs, re.M):
        for key in re.findall(r"`(\w+)`", row):
            if key not in read and not re.search(rf'"{key}"', source):
                bad.append(f"docs/scenarios.md describes {key}, which nothing reads")
    results = (ROOT / "docs/results.md").read_text()
    metrics = set(re.findall(r'^\s*\{"(\w+)",', (ROOT / "sim/report/result.cc").read_text(), re.M))
    bad += [f"docs/results.md does not mention {name}" for name in sorted(metrics) if name not in results]
    if len(read) < 60:
        bad.append(f"only {len(read)} keys were found in sim/scenario: has the way of reading changed?")
    print("\n".join(bad) if bad else f"{len(read)} keys and {len(metrics)} metrics are documented")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
