"""Builds the programs that hold every mutant: a rewritten copy of model/ in the folder of the build, compiled
with the tests as they are. The simulator's own objects come from the release build."""
import json
import pathlib
import shlex
import subprocess
import sys

sys.path.append("/usr/lib/python3/dist-packages")
import places  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
OUT = ROOT / "build/mutation"
FOLDERS = ["scheduler", "tenancy", "autoscaler", "functions", "images", "sandbox", "node", "fleet", "control"]
FLAGS = "-std=c++23 -g0 -w -Wno-narrowing -ffp-contract=off"


def sources(folder):
    return sorted(path for path in (ROOT / "model" / folder).iterdir() if path.suffix in (".h", ".cc"))


def write(path, text):
    """Leaves a file alone that is right already: ninja goes by its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def rewrite():
    """Finds all mutants, writes the copy of model/; returns the mutants, numbered in a fixed order."""
    found = []
    copied = OUT / "source"
    for path in sorted((ROOT / "model").rglob("*")):
        if path.suffix not in (".h", ".cc"):
            continue
        name = path.relative_to(ROOT)
        if path.parent.name not in FOLDERS:
            write(copied / name, path.read_text())
            continue
        mutants, text = places.find(path, [f"-I{ROOT}"], len(found) + 1, str(name))
        found += mutants
        write(copied / name, text)
    for path in copied.rglob("*"):
        if path.is_file() and not (ROOT / path.relative_to(copied)).exists():
            path.unlink()
    write(OUT / "mutants.json", json.dumps([vars(one) for one in found], indent=0))
    return found


def ninja_file(found):
    """One file for ninja. model_test is made of the rewritten model and its own sources."""
    model = sorted(path.relative_to(OUT / "source") for path in (OUT / "source/model").rglob("*.cc"))
    tests = sorted(path.relative_to(ROOT) for path in (ROOT / "tests/model").rglob("*.cc"))
    lines = [f"flags = {FLAGS} -I{OUT}/source -I{ROOT}", "launcher = ccache" if ccache() else "launcher =",
             "optimise = -O1", "rule compile",
             "  command = $launcher g++ $flags $optimise -MMD -MF $out.d -c $in -o $out",
             "  depfile = $out.d", "  deps = gcc", "rule link", "  command = g++ $in -lgtest_main -lgtest -lrapidcheck -o $out",
             "rule relink", f"  command = cd {ROOT}/build/release && $words"]
    objects = {}
    own = [pathlib.Path("tests/mutation") / name for name in ("runtime.cc", "listener.cc")]
    for kind, folder, names in (("model", OUT / "source", model), ("tests", ROOT, tests), ("runtime", ROOT, own)):
        objects[kind] = []
        for name in names:
            target = f"object/{name}.o"
            lines.append(f"build {target}: compile {folder / name}")
            if kind == "tests":  # most of the time of a build is theirs
                lines.append("  optimise = -O0")
            objects[kind].append(target)
    runtime, listener = objects["runtime"]
    lines.append(f"build model_test: link {' '.join([runtime, listener, *objects['model'], *objects['tests']])}")
    release = ROOT / "build/release"
    for program in ("property_test", "chalk-sim"):
        if not (release / "bin" / program).exists():
            continue
        said = subprocess.run(["ninja", "-C", release, "-t", "commands", program], check=True,
                              capture_output=True, text=True)
        words = shlex.split(said.stdout.splitlines()[-1].removeprefix(": && ").removesuffix(" && :"))
        words[words.index("-o") + 1] = str(OUT / program)
        first = 1 if words[0].endswith("g++") or words[0].endswith("c++") else 2
        own = [runtime, *([listener] if program == "property_test" else []), *objects["model"]]
        command = " ".join([shlex.join(words[:first]), *(f"{OUT}/{one}" for one in own), shlex.join(words[first:])])
        lines += [f"build {program}: relink {' '.join(own)} | {release}/bin/{program}", f"  words = {command}"]
    write(OUT / "build.ninja", "\n".join(lines) + "\n")


def known():
    """The mutants of the last build."""
    return [places.Mutant(**one) for one in json.loads((OUT / "mutants.json").read_text())]


def ccache():
    return subprocess.run(["which", "ccache"], capture_output=True).returncode == 0


def build():
    found = rewrite()
    ninja_file(found)
    print(f"mutation: {len(found)} mutants are compiled into one program", file=sys.stderr)
    made = subprocess.run(["ninja", "-C", str(OUT), "-k", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    if made.returncode != 0:
        print("\n".join(line for line in made.stdout.splitlines() if not line.startswith("[")), file=sys.stderr)
        raise SystemExit(f"mutation: the mutated sources do not compile; repeat with: ninja -C {OUT}")
    return found
