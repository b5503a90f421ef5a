#!/usr/bin/python3
"""Mutation testing of model/: is a changed decision noticed by any test?

  mutate.py run [--folder F] [--file F] [--sample N] [--seed S] [--shard I/N] [--resume | --retry] [--json]
  mutate.py show NUMBER     one mutant as a patch, and how to run it
  mutate.py list [--folder F]

All mutants are compiled into one program and chosen by number (places.py). A recording run says which test
passes which place; a mutant is run under those tests only, the quick ones first, then under the properties of
whole worlds, then under scenarios/fast. It is killed by a failure, a broken invariant, a crash, or by using
far more processor time than the tests do without it. equivalent.json lists those that decide the same.
"""
import argparse
import collections
import concurrent.futures
import difflib
import json
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import time

import build

OUT, ROOT = build.OUT, build.ROOT
QUICK_MS = 100
CASES = 50  # of each property: the rest of the usual hundred kills little more
MEMORY_MAX = 6 << 30
SLOWER_MAX, SECONDS_MIN = 5, 4


def changed_lines(mutant):
    """The lines that the mutant touches, as they are and as it has them, without their indentation."""
    source = (ROOT / mutant.file).read_bytes()
    first = source.rfind(b"\n", 0, mutant.start) + 1
    last = source.find(b"\n", mutant.end)
    was = source[first:last].decode()
    becomes = (source[first:mutant.start] + mutant.text.encode() + source[mutant.end:last]).decode()
    return " ".join(was.split()), " ".join(becomes.split())


def key(mutant):
    """Names a mutant as long as its line stays: numbers change with every place that comes or goes."""
    return "\n".join([mutant.file, *changed_lines(mutant)])


def sample(mutants, args):
    chosen = [one for one in mutants if not args.folder or one.file.split("/")[1] in args.folder.split(",")]
    if args.file:
        chosen = [one for one in chosen if one.file.removeprefix("model/") in args.file.split(",")]
    if args.sample:
        by_folder = collections.defaultdict(list)
        for one in chosen:
            by_folder[one.file.split("/")[1]].append(one)
        chosen = []
        for folder in sorted(by_folder):
            every = by_folder[folder]
            random.Random(f"{args.seed} {folder}").shuffle(every)
            chosen += every[:args.sample]
    part, parts = (int(word) for word in args.shard.split("/"))
    return [one for at, one in enumerate(chosen) if at % parts == part]


class Tests:
    """Programs that can kill, cheapest first, and which places each of their tests passes."""

    def __init__(self, seed):
        self.environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"),
                            "RC_PARAMS": f"seed={seed} noshrink=1 max_success={CASES}"}
        self.tiers = []  # (name, [(test, milliseconds, {places})])
        for program in ("model_test", "property_test"):
            if (OUT / program).exists():
                self.tiers.append((program, self.record([OUT / program, "--gtest_brief=1"], program)))
        if (OUT / "chalk-sim").exists():
            scenarios = []
            for path in sorted((ROOT / "scenarios/fast").glob("*.yaml")):
                for _, spent, passed in self.record([OUT / "chalk-sim", "run", path], path.name):
                    scenarios.append((str(path), spent, passed))
            self.tiers.append(("scenarios", scenarios))

    def record(self, command, name):
        path = OUT / f"reached.{os.getpid()}"
        path.unlink(missing_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(command, env={**self.environment, "CHALK_MUTATION_REACHED": str(path)}, cwd=ROOT,
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"mutation: {name} fails without a mutant:\n{(done.stdout + done.stderr)[-3000:]}")
        spent = round(1000 * (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before))
        tests = []
        for line in path.read_text().splitlines():
            test, milliseconds, numbers = line.split("\t")
            tests.append((test, spent if test == "all" else int(milliseconds), set(map(int, numbers.split()))))
        path.unlink()
        return tests

    def batches(self, number):
        """(program, tests, command, expected milliseconds), cheapest first."""
        for program, tests in self.tiers:
            reaching = [one for one in tests if number in one[2]]
            if program == "scenarios":
                for path, spent, _ in sorted(reaching, key=lambda one: one[1]):
                    yield program, path, [OUT / "chalk-sim", "run", path], spent
                continue
            quick = [one for one in reaching if one[1] < QUICK_MS]
            slow = sorted((one for one in reaching if one[1] >= QUICK_MS), key=lambda one: one[1])
            for batch in [quick, *([one] for one in slow)]:
                if batch:
                    names = ":".join(one[0] for one in batch)
                    command = [OUT / program, "--gtest_brief=1", "--gtest_fail_fast", f"--gtest_filter={names}"]
                    yield program, names, command, sum(one[1] for one in batch)

    def kill(self, number):
        """Who killed the mutant and how, or None; and whether any test passes its place."""
        reached = False
        for program, names, command, expected in self.batches(number):
            reached = True
            seconds = int(SECONDS_MIN + SLOWER_MAX * expected / 1000)

            def limit():
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

            try:
                done = subprocess.run(command, env={**self.environment, "CHALK_MUTANT": str(number)}, cwd=ROOT,
                                      preexec_fn=limit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      errors="replace", timeout=20 * seconds)
            except subprocess.TimeoutExpired:
                return {"by": program, "how": "time", "test": names.split(":")[0]}, True
            if done.returncode != 0:
                failed = re.search(r"\[  FAILED  \] ([\w./]+)", done.stdout)
                how = ("time" if done.returncode in (-24, -9) else "invariant" if "broken invariant" in done.stdout
                       else "crash" if done.returncode < 0 else "failure")
                test = failed.group(1) if failed else pathlib.Path(names.split(":")[0]).name
                return {"by": program, "how": how, "test": test}, True
        return None, reached


def patch(mutant):
    was = (ROOT / mutant.file).read_text()
    return "".join(difflib.unified_diff(was.splitlines(True), build.places.applied(was, mutant).splitlines(True),
                                        f"a/{mutant.file}", f"b/{mutant.file}"))


def equivalents():
    listed = json.loads((build.HERE / "equivalent.json").read_text())
    return {"\n".join([one["file"], one["was"], one["becomes"]]): one["reason"] for one in listed}


def judge(mutants, args):
    """Runs the mutants; what came out goes to the file of results, one line each, as soon as it is known."""
    path = pathlib.Path(args.results)
    known = {}
    if (args.resume or args.retry) and path.exists():
        for line in path.read_text().splitlines():
            one = json.loads(line)
            known[one["key"]] = one
    reasons = equivalents()
    tests, results = Tests(args.seed), []
    started, left = time.time(), len(mutants)

    def one_result(mutant):
        name = key(mutant)
        before = known.get(name)
        if before and (args.resume or before["outcome"] == "killed"):
            return {**before, "number": mutant.number, "line": mutant.line}, False
        result = {"key": name, "number": mutant.number, "file": mutant.file, "line": mutant.line, "kind": mutant.kind}
        killed, reached = tests.kill(mutant.number)
        result["outcome"] = "killed" if killed else "survived" if reached else "not reached"
        result.update(killed or {})
        return result, True

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool, open(path, "a" if known else "w") as file:
        for done, (result, fresh) in enumerate(pool.map(one_result, mutants), 1):
            if fresh:
                file.write(json.dumps(result) + "\n")
                file.flush()
            if result["outcome"] != "killed" and result["key"] in reasons:
                result.update(outcome="equivalent", reason=reasons[result["key"]])
            results.append(result)
            if sys.stderr.isatty() or done % 25 == 0 or done == left:
                alive = sum(1 for one in results if one["outcome"] in ("survived", "not reached"))
                print(f"mutation: {done} of {left}, {alive} alive, {time.time() - started:.0f} s", file=sys.stderr,
                      end="\r" if sys.stderr.isatty() and done != left else "\n")
    return results


def report(results, args):
    if args.json:
        print(json.dumps(results, indent=1))
        return
    alive = [one for one in results if one["outcome"] in ("survived", "not reached")]
    for one in alive:
        _, was, becomes = one["key"].split("\n")
        print(f"{one['file']}:{one['line']}: {one['outcome']} {one['kind']} {one['number']}\n  - {was}\n  + {becomes}")
    print(f"{'folder':12}{'sample':>8}{'model_test':>12}{'property':>10}{'scenarios':>11}{'equivalent':>12}"
          f"{'alive':>7}{'killed':>9}")
    folders = collections.defaultdict(list)
    for one in results:
        folders[one["file"].split("/")[1]].append(one)
    for folder, every in sorted(folders.items()) + [("all", results)]:
        by = collections.Counter(one.get("by") for one in every if one["outcome"] == "killed")
        same = sum(1 for one in every if one["outcome"] == "equivalent")
        killed = sum(by.values())
        print(f"{folder:12}{len(every):>8}{by['model_test']:>12}{by['property_test']:>10}{by['scenarios']:>11}"
              f"{same:>12}{len(every) - same - killed:>7}{100 * killed / max(1, len(every) - same):>8.1f}%")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "show", "list", "build"])
    parser.add_argument("number", nargs="?", type=int)
    parser.add_argument("--folder", help="one or more of " + ",".join(build.FOLDERS))
    parser.add_argument("--file", help="only of these, such as scheduler/gangs.cc,sandbox/gangs.cc")
    parser.add_argument("--sample", type=int, help="so many of each folder; all where left out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", default="0/1", help="this part of so many")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", default=str(OUT / "results.jsonl"))
    parser.add_argument("--resume", action="store_true", help="what the file of results has is not run again")
    parser.add_argument("--retry", action="store_true", help="what the file of results has as killed is not run again")
    parser.add_argument("--least", type=float, default=0, help="fail where a folder has a lower percentage")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--built", action="store_true", help="take the programs as they are")
    args = parser.parse_args()
    for folder in (args.folder or "").split(","):
        if folder and folder not in build.FOLDERS:
            parser.error(f"--folder {folder}: expected one or more of {','.join(build.FOLDERS)}")
    mutants = build.known() if args.built else build.build()
    files = {one.file.removeprefix("model/") for one in mutants}
    for file in (args.file or "").split(","):
        if file and file not in files:
            parser.error(f"--file {file}: expected one or more of those with mutants, such as {sorted(files)[0]}")
    if args.what == "show":
        if args.number is None or not 1 <= args.number <= len(mutants):
            parser.error(f"show needs a number from 1 to {len(mutants)}")
        print(patch(mutants[args.number - 1]), end="")
        print(f"\n# repeat with: CHALK_MUTANT={args.number} build/mutation/model_test --gtest_brief=1")
        return 0
    chosen = sample(mutants, args)
    if args.what == "list":
        for one in chosen:
            print(f"{one.number} {one.file}:{one.line} {one.kind}: {' => '.join(changed_lines(one))}")
        return 0
    if args.what == "build":
        return 0
    results = judge(chosen, args)
    report(results, args)
    rates = collections.defaultdict(list)
    for one in results:
        if one["outcome"] != "equivalent":
            rates[one["file"].split("/")[1]].append(one["outcome"] == "killed")
    return 1 if any(100 * sum(one) < args.least * len(one) for one in rates.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
