#!/usr/bin/python3
"""A test of the mutation tool: on a small source it finds the places that are there, each mutant chosen by its
number does what the mutant written out does, and those that no test notices are the ones known."""
import concurrent.futures
import pathlib
import subprocess
import sys
import tempfile

import build
from build import HERE, ROOT, places

FARE = "tests/mutation/example/fare.cc"
SURVIVE = {  # line and what it becomes: nothing tests a ride of 13 minutes; price() of no ride is nothing anyway
    (8, "<"), (8, ";"), (17, "14"), (17, ";"),
}
KINDS = {"comparison", "condition", "constant", "statement"}


def compile_program(folder, source, name):
    program = folder / name
    subprocess.run(["g++", *build.FLAGS.split(), f"-I{ROOT}", source, ROOT / "tests/mutation/example/fare_test.cc",
                    HERE / "runtime.cc", "-o", program], check=True)
    return program


def passes(program, number=0):
    return subprocess.run([program], env={"CHALK_MUTANT": str(number)}, timeout=20, stderr=subprocess.DEVNULL).returncode == 0


def main():
    mutants, text = places.find(ROOT / FARE, [f"-I{ROOT}"])
    wrong = []
    with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(2) as pool:
        folder = pathlib.Path(name)
        (folder / "fare.cc").write_text(text)
        every = compile_program(folder, folder / "fare.cc", "every")
        if not passes(every):
            wrong.append("the rewritten source fails its test with no mutant chosen")

        def alone(mutant):
            source = folder / f"{mutant.number}.cc"
            source.write_text(places.applied((ROOT / FARE).read_text(), mutant))
            return passes(compile_program(folder, source, f"alone{mutant.number}"))

        apart = list(pool.map(alone, mutants))
        for mutant, survives_alone in zip(mutants, apart):
            survives = passes(every, mutant.number)
            label = f"{FARE}:{mutant.line} becomes {mutant.text!r}"
            if survives != survives_alone:
                wrong.append(f"{label}: chosen by number it {'passes' if survives else 'fails'}, written out it does not")
            if survives != ((mutant.line, mutant.text) in SURVIVE):
                wrong.append(f"{label}: {'survived' if survives else 'was killed'}, expected the opposite")
    if {one.kind for one in mutants} != KINDS:
        wrong.append(f"kinds found: {sorted({one.kind for one in mutants})}, expected {sorted(KINDS)}")
    for line in wrong:
        print(f"FAILED {line}")
    print(f"mutation self-test: {len(mutants)} mutants, {sum(apart)} survive, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
