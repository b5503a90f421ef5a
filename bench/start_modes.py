#!/usr/bin/env python3
"""How long runsc takes to a program's first output: from nothing, in a sandbox that is ready, restored.

bench/start_modes.py RUNSC [--rounds N] [--heap MIB] [--json]

The three are run in turn, one at a time, and each figure is the time from the call of runsc until the
program has written its first line. The program takes --heap of memory, touches all of it
first (its init); a restored one has done so before it was saved. These are the figures
behind `start`, `shells.start`, `snapshots` and `init` of a scenario (docs/scenarios.md). Needs root and
the image that ci/base-image has made.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAM = """
import time
heap = bytearray({heap} << 20)
for at in range(0, len(heap), 4096): heap[at] = at % 251
while True:
    with open('/mnt/ticks', 'a') as out: out.write('t')
    time.sleep(0.002)
"""


def bundle(path, rootfs, args, out=None, annotations=None):
    os.makedirs(path, exist_ok=True)
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    if out:
        os.makedirs(out, exist_ok=True)
        mounts.append({"destination": "/mnt", "type": "bind", "source": out, "options": ["rbind", "rw"]})
    spec = {
        "ociVersion": "1.0.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "env": ["PATH=/usr/bin:/bin"]},
        "root": {"path": rootfs, "readonly": False},
        "mounts": mounts,
        "annotations": annotations or {},
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }
    with open(os.path.join(path, "config.json"), "w") as config:
        json.dump(spec, config)


class Runsc:
    def __init__(self, program, scratch):
        self.base = [program, "--root", os.path.join(scratch, "root"), "--network", "none", "--ignore-cgroups",
                     "--overlay2", "root:memory"]
        self.scratch = scratch

    def __call__(self, *args, good=True):
        """Detached children keep what they are given, so output goes to a file."""
        with open(os.path.join(self.scratch, "said"), "w+") as said:
            done = subprocess.run(self.base + list(args), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            if good and done.returncode != 0:
                said.seek(0)
                sys.exit(f"start_modes: {' '.join(args)}: status {done.returncode}\n{said.read()[-2000:]}")
        return done.returncode

    def end(self, name):
        self("kill", name, "KILL", good=False)
        deadline = time.monotonic() + 10
        while self("delete", "-force", name, good=False) != 0 and time.monotonic() < deadline:
            time.sleep(0.01)


def unpack(layout, rootfs):
    """The largest layer there is: that of Python."""
    blobs = os.path.join(layout, "blobs", "sha256")
    largest = max((os.path.join(blobs, name) for name in os.listdir(blobs)), key=os.path.getsize)
    os.makedirs(rootfs)
    subprocess.run(["tar", "-xf", largest, "-C", rootfs], check=True)


def first_tick(out, begin):
    path = os.path.join(out, "ticks")
    before = os.path.getsize(path) if os.path.exists(path) else 0
    begun = time.perf_counter()
    begin()
    while not os.path.exists(path) or os.path.getsize(path) <= before:
        time.sleep(0.001)
        if time.perf_counter() - begun > 60:
            sys.exit("start_modes: no output within 60 s")
    return (time.perf_counter() - begun) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runsc")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--heap", type=int, default=64, help="MiB")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="chalk-start-modes-")
    runsc = Runsc(os.path.abspath(options.runsc), scratch)
    at = lambda *parts: os.path.join(scratch, *parts)
    unpack(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "images"), at("rootfs"))
    args = ["/usr/bin/python3", "-c", PROGRAM.format(heap=options.heap)]
    figures = {"cold": [], "shell": [], "restore": [], "make a shell": [], "save": []}
    size = 0
    try:
        for i in range(options.rounds):
            bundle(at("cold"), at("rootfs"), args, at("out"))
            figures["cold"].append(
                first_tick(at("out"), lambda: runsc("run", "-detach", "-bundle", at("cold"), f"cold{i}")))

            shutil.rmtree(at("image"), ignore_errors=True)
            os.makedirs(at("image"))
            begun = time.perf_counter()
            runsc("checkpoint", "-compression=none", "-image-path", at("image"), f"cold{i}")
            figures["save"].append((time.perf_counter() - begun) * 1e3)
            size = sum(os.path.getsize(at("image", name)) for name in os.listdir(at("image")))
            runsc.end(f"cold{i}")
            figures["restore"].append(first_tick(
                at("out"), lambda: runsc("restore", "-detach", "-bundle", at("cold"), "-image-path", at("image"),
                                         f"restored{i}")))
            runsc.end(f"restored{i}")

            kind = "io.kubernetes.cri.container-type"
            bundle(at("empty"), at("rootfs"), ["/usr/bin/sleep", "10000"], None, {kind: "sandbox"})
            begun = time.perf_counter()
            runsc("run", "-detach", "-bundle", at("empty"), f"shell{i}")
            figures["make a shell"].append((time.perf_counter() - begun) * 1e3)
            bundle(at("inside"), at("rootfs"), args, at("inner"),
                   {kind: "container", "io.kubernetes.cri.sandbox-id": f"shell{i}"})
            figures["shell"].append(
                first_tick(at("inner"), lambda: runsc("run", "-detach", "-bundle", at("inside"), f"inside{i}")))
            runsc.end(f"inside{i}")
            runsc.end(f"shell{i}")
    finally:
        subprocess.run(["umount", at("root", "null-netns")], stderr=subprocess.DEVNULL)
        shutil.rmtree(scratch, ignore_errors=True)
    summary = {name: {"p50_ms": statistics.median(values), "min_ms": min(values), "max_ms": max(values)}
               for name, values in figures.items()}
    if options.json:
        print(json.dumps({"rounds": options.rounds, "heap_mib": options.heap, "snapshot_bytes": size,
                          "figures": summary}))
        return
    print(f"{options.rounds} rounds, one at a time; heap {options.heap} MiB, snapshot {size / 2**20:.0f} MiB")
    cold = summary["cold"]["p50_ms"]
    for name, one in summary.items():
        print(f"{name:14} p50 {one['p50_ms']:6.0f} ms  ({one['min_ms']:.0f} to {one['max_ms']:.0f})  "
              f"{one['p50_ms'] / cold:.2f} of cold")


if __name__ == "__main__":
    main()
