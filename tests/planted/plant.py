#!/usr/bin/env python3
"""Plants each bug of bugs.json in a copy of the source and shows that the small-world property finds it.

plant.py BUILD_DIR [INVARIANT...]: for each bug the edited files are compiled and linked before the
libraries of property_test, which is then run. It must fail, must name the bug's invariant, and the
case that it shrank to must have at most CASE_LINES_MAX lines. Exit status 0: all were found.
"""
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASE_LINES_MAX = 8
FILTER = "--gtest_filter=SmallWorld.*"
RUNS = "max_success=20000"


def edited_sources(bug):
    """The text of each file that the bug changes; an edit that does not apply once is an error."""
    texts = {}
    for path, old, new in bug["edits"]:
        text = texts.get(path) or (ROOT / path).read_text()
        if text.count(old) != 1:
            raise SystemExit(f"{bug['bug']}: {text.count(old)} places in {path} match {old!r}, expected 1: "
                             f"bring the bug up to date with the code")
        texts[path] = text.replace(old, new)
    return texts


def compile_and_link(build, bug, folder, program):
    """Links `program` of the build with the edited files before its libraries, as FOLDER/planted. A header
    that the bug changes counts for the sources in "recompile"."""
    commands = {entry["file"]: entry["command"] for entry in json.loads((build / "compile_commands.json").read_text())}
    objects, replaced = [], set()
    texts = edited_sources(bug)
    for path in [path for path in texts if path.endswith(".h")]:
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(texts.pop(path))
    texts.update({path: (ROOT / path).read_text() for path in bug.get("recompile", [])})
    for path, text in texts.items():
        source = folder / path.replace("/", "_")
        source.write_text(text)
        # -O1: it is compiled once and run for a second. An edit may leave a name unused.
        words = shlex.split(commands[str(ROOT / path)].replace(" -O3", " -O1")) + ["-Wno-error"]
        target = source.with_suffix(".o")
        replaced.add(words[words.index("-o") + 1])
        words[words.index("-o") + 1] = str(target)
        words[words.index("-c") + 1] = str(source)
        words[1:1] = ["-I", str(folder)]
        subprocess.run(words, cwd=build, check=True)
        objects.append(str(target))
    link = subprocess.run(["ninja", "-t", "commands", program], cwd=build, check=True,
                          capture_output=True, text=True).stdout.splitlines()[-1]
    words = [word for word in shlex.split(link.removeprefix(": && ").removesuffix(" && :")) if word not in replaced]
    place = words.index("-o")
    words[place + 1] = str(folder / "planted")
    subprocess.run(words[:place] + objects + words[place:], cwd=build, check=True)


def plant_each(build, bugs, repeat, hunt):
    """Plants one bug after another: `hunt(bug, program, folder)` says nothing where it was found, else what was
    wrong; `repeat(bug)` is the command that tries it again. The exit status: 0 when all were found."""
    bad = 0
    for bug in bugs:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            compile_and_link(build, bug, folder, bug.get("program", "property_test"))
            wrong = hunt(bug, folder / "planted", folder)
        if wrong:
            bad += 1
            print(f"FAILED {bug['bug']}: {wrong[-3000:]}\nrepeat with: {repeat(bug)}")
    return 1 if bad else 0


def hunt(bug, program, _):
    """Nothing where the bug was found and shrunk; else what was wrong."""
    run = subprocess.run([program, "--gtest_brief=1", FILTER], capture_output=True, text=True,
                         timeout=600, env={"RC_PARAMS": RUNS})
    said = run.stdout + run.stderr
    if run.returncode == 0:
        return "not found"
    named = re.findall(r"broken: (invariant (\d+) .*)", said)
    lines = re.findall(r"lines of the case: (\d+)", said)
    if not named or int(named[-1][1]) != bug["invariant"]:
        return "found as something else:\n" + said[-2000:]
    if int(lines[-1]) > CASE_LINES_MAX:
        return f"shrunk to {lines[-1]} lines only:\n" + said[-3000:]
    shrunk = re.search(r"SmallCase.*?:\n(.*?)\n\n", said, re.S)
    print(f"invariant {bug['invariant']}: {bug['bug']}\n  found: {named[-1][0]}")
    print("  " + (shrunk.group(1) if shrunk else said[-1500:]).replace("\n", "\n  "))
    return ""


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    wanted = {int(word) for word in sys.argv[2:]}
    bugs = [bug for bug in json.loads((ROOT / "tests/planted/bugs.json").read_text())
            if not wanted or bug["invariant"] in wanted]
    watched = {int(number) for number in re.findall(r"^\| (\d+) \|", (ROOT / "docs/invariants.md").read_text(), re.M)}
    without = (wanted or watched) - {bug["invariant"] for bug in bugs}
    if without:
        raise SystemExit(f"tests/planted/bugs.json has no bug for {sorted(without)}")
    return plant_each(build, bugs, lambda bug: f"tests/planted/plant.py build/release {bug['invariant']}", hunt)


if __name__ == "__main__":
    sys.exit(main())
