#!/usr/bin/env python3
"""Plants each fault of bugs.json in a copy of the source and shows that fuzzing finds it.

planted.py BUILD_DIR [TARGET...]: the fuzz program with the fault in it must end by it within the runs
of ci/test, and the command that it names must find it again. Exit status 0: all were found.
"""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/planted"))
from plant import plant_each  # noqa: E402


def hunt(bug, program, _):
    """Nothing where the fault was found twice; else what was wrong."""
    print(f"{bug['program']}, {bug['target']}: {bug['bug']}", flush=True)
    run = subprocess.run([program, "--target", bug["target"]], capture_output=True, text=True, timeout=600)
    said = re.search(r"broken by input (\d+); repeat with: (.*)", run.stderr)
    if run.returncode == 0 or said is None:
        return f"not found: {run.stdout}{run.stderr}"
    again = subprocess.run(said[2].split(), capture_output=True, text=True, timeout=600)
    if again.returncode == 0 or f"broken by input {said[1]};" not in again.stderr:
        return f"not found again by: {said[2]}\n{again.stdout}{again.stderr}"
    first = run.stderr.strip().splitlines()[0]
    print(f"  found by input {said[1]}: {first[:200]}")
    return ""


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    bugs = [bug for bug in json.loads((ROOT / "tests/fuzz/bugs.json").read_text())
            if not sys.argv[2:] or bug["target"] in sys.argv[2:]]
    return plant_each(build, bugs, lambda bug: f"tests/fuzz/planted.py build/release {bug['target']}", hunt)


if __name__ == "__main__":
    sys.exit(main())
