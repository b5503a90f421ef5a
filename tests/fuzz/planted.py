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
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/planted"))
from plant import compile_and_link  # noqa: E402


def hunt(program, target):
    """Nothing where the fault was found twice; else what was wrong."""
    run = subprocess.run([program, "--target", target], capture_output=True, text=True, timeout=600)
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
    bad = 0
    for bug in json.loads((ROOT / "tests/fuzz/bugs.json").read_text()):
        if sys.argv[2:] and bug["target"] not in sys.argv[2:]:
            continue
        print(f"{bug['program']}, {bug['target']}: {bug['bug']}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            compile_and_link(build, bug, folder, bug["program"])
            wrong = hunt(folder / "planted", bug["target"])
        if wrong:
            bad += 1
            print(f"FAILED {bug['target']}, {bug['bug']}: {wrong[-3000:]}\n"
                  f"repeat with: tests/fuzz/planted.py build/release {bug['target']}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
