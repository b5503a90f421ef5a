#!/usr/bin/env python3
"""A policy that is made worse on purpose does not pass ci/gate, and the same program does.

gate.py BUILD_DIR: plants each change of worse.json in a copy of the source, as tests/planted does, and lets
ci/gate compare the two programs. Each must fail with a loss, and name the figures that are worse.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/planted"))
import plant  # noqa: E402


def gate(good, other, scenarios, out):
    return subprocess.run([ROOT / "ci/gate", "--programs", good, other], capture_output=True, text=True, timeout=900,
                          env=os.environ | {"CHALK_GATE_SCENARIOS": scenarios, "CHALK_GATE_OUT": str(out)})


def losses(out):
    rows = json.loads((out / "compare.json").read_text())["rows"]
    return {f"{row['case']} {row['metric']}" for row in rows if row["verdict"] == "WORSE"}


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    good = build / "bin/chalk-sim"
    changes = json.loads((ROOT / "tests/sim/gate/worse.json").read_text())
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        same = gate(good, good, " ".join(change["scenarios"] for change in changes), folder / "same")
        if same.returncode != 0:
            bad += 1
            print(f"FAILED: a program is worse than itself ({same.returncode}):\n{same.stdout}{same.stderr}")
        for number, change in enumerate(changes):
            place = folder / str(number)
            place.mkdir()
            bug = {"invariant": "none, a policy", "bug": change["policy"], "edits": change["edits"]}
            plant.compile_and_link(build, bug, place, "chalk-sim")
            ran = gate(good, place / "planted", change["scenarios"], place / "out")
            found = losses(place / "out") if ran.returncode == 2 else set()
            missing = set(change["worse"]) - found
            if missing:
                bad += 1
                print(f"FAILED: {change['policy']}: status {ran.returncode}, {missing} not told as worse:\n"
                      f"{ran.stdout}{ran.stderr}")
            else:
                print(f"caught: {change['policy']}\n  worse: {', '.join(sorted(found))}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
