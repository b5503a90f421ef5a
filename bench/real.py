#!/usr/bin/env python3
"""What Chalk adds to gVisor: our sandboxes against bare `runsc` in the same kind of cgroup and namespace.

    bench/real.py BIN_DIR [--rounds N] [--at-once 1,4,8] [--json]

In turns on one machine, so that its speed that drifts meets both alike. Bare: a script that has the same
bundle, a namespace and a cgroup ready and calls `runsc run --detach`, then `runsc exec`. Ours: the public
client creates a sandbox, then begins a process in it. Images are cached. First output: from the call that
creates to the first byte of that process. Then one more process, twice: at once, while others still start
(exec beside starts), and in all at once when all run (exec). Stop: until the sandbox has ended. Prints a table
and the ratios; --json for scripts. Needs root, ci/tools and ci/base-image.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import stack as support  # noqa: E402

RUNSC = ROOT / "build/tools/bin/runsc"
MEMORY = 256 << 20
TIMES = ("first_output_ms", "exec_beside_starts_ms", "exec_ms", "stop_ms")


def quantile(values, share):
    values = sorted(values)
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


class Bare:
    """runsc by hand, on the bundle of one of our sandboxes. Prepared beforehand, as our agent does: what lies
    on disk, the control group, and a namespace with an address."""

    def __init__(self, bundle):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chalk-bare-"))
        self.config = json.loads((bundle / "config.json").read_text())
        for mount in self.config["mounts"]:  # ours goes with its sandbox
            source = pathlib.Path(mount["source"])
            if source.parent == bundle:
                shutil.copy(source, self.folder)
                mount["source"] = str(self.folder / source.name)
        self.name = "bare%d" % os.getpid()
        self.count = 0

    def prepare(self):
        self.count += 1
        name = f"{self.name}-{self.count}"
        inside, outside = f"10.88.{self.count // 60}.{self.count % 60 * 4 + 2}", f"10.88.{self.count // 60}.{self.count % 60 * 4 + 1}"
        near = "chb%x" % ((os.getpid() << 12 | self.count) & 0xFFFFFFFF)
        for command in (f"netns add {name}", f"link add {near} type veth peer name eth0 netns {name}",
                        f"addr add {outside}/30 dev {near}", f"link set {near} up", f"-n {name} link set lo up",
                        f"-n {name} addr add {inside}/30 dev eth0", f"-n {name} link set eth0 up",
                        f"-n {name} route add default via {outside}"):
            subprocess.run(["ip", *command.split()], check=True)
        bundle = self.folder / name
        (bundle / "upper").mkdir(parents=True)
        cgroup = pathlib.Path("/sys/fs/cgroup")
        for controller in ("cpu", "memory", "pids"):
            (cgroup / controller / self.name / name).mkdir(parents=True)
        (cgroup / "memory" / self.name / name / "memory.limit_in_bytes").write_text(str(MEMORY))
        (cgroup / "cpu" / self.name / name / "cpu.cfs_quota_us").write_text("100000")
        config = self.config
        config["hostname"] = name
        config["linux"]["cgroupsPath"] = f"/{self.name}/{name}"
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{name}"
        (bundle / "config.json").write_text(json.dumps(config))
        return name

    def command(self, name):
        return [RUNSC, f"--root={self.folder}/run", "--platform=systrap", "--network=sandbox"]

    def start(self, name):
        log = open(self.folder / name / "out", "wb")
        subprocess.run([*self.command(name), f"--overlay2=root:dir={self.folder}/{name}/upper,size=1g", "run", "--detach",
                        f"--bundle={self.folder}/{name}", name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)

    def exec(self, name):
        out = subprocess.run([*self.command(name), "exec", name, "/bin/echo", "here"], stdin=subprocess.DEVNULL,
                             capture_output=True, check=True)
        assert out.stdout == b"here\n", out

    def stop(self, name):
        subprocess.run([*self.command(name), "kill", name, "KILL"], check=True, capture_output=True)
        subprocess.run([*self.command(name), "wait", name], capture_output=True)

    def remove(self, name):
        subprocess.run([*self.command(name), "delete", "--force", name], capture_output=True)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def close(self):
        for cgroup in pathlib.Path("/sys/fs/cgroup").glob(f"*/{self.name}"):
            for folder in [*cgroup.iterdir(), cgroup]:
                if folder.is_dir():
                    try:
                        folder.rmdir()
                    except OSError:
                        pass
        for line in open("/proc/self/mountinfo"):
            if str(self.folder) in line:
                subprocess.run(["umount", "-l", line.split()[4]], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Ours:
    def __init__(self, stack):
        from chalkcompute import SandboxClient
        self.client = SandboxClient.from_env()
        self.stack = stack
        self.boxes = {}
        self.count = 0

    def prepare(self):
        self.count += 1
        return f"ours-{self.count}"

    def start(self, name):
        self.boxes[name] = self.client.create(image="busybox", cpu="1", memory=str(MEMORY), lifetime="600s",
                                              entrypoint=["/bin/sleep", "1000"])

    def exec(self, name):
        out = self.boxes[name].exec("/bin/echo", "here")
        assert out.stdout_text == "here\n", out

    def stop(self, name):
        self.boxes[name].terminate()

    def remove(self, name):
        self.boxes.pop(name)


def measure(arm, at_once, pool):
    """One round: at_once sandboxes at the same time; seconds to the first output, of a second exec beside
    other starts, of one when all run, of the stop."""
    names = [arm.prepare() for _ in range(at_once)]
    time.sleep(0.3)

    def exec_one(name):
        began = time.perf_counter()
        arm.exec(name)
        return time.perf_counter() - began

    def one(name):
        began = time.perf_counter()
        arm.start(name)
        arm.exec(name)
        return time.perf_counter() - began, exec_one(name)

    began = time.perf_counter()
    times = list(pool.map(one, names))
    span = time.perf_counter() - began
    execs = list(pool.map(exec_one, names))
    stops = []
    for name in names:
        begun = time.perf_counter()
        arm.stop(name)
        stops.append(time.perf_counter() - begun)
    for name in names:
        arm.remove(name)
    return [t[0] for t in times], [t[1] for t in times], execs, stops, at_once / span


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--at-once", default="1,4,8")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
              "load": os.getloadavg()[0], "rounds": options.rounds, "cases": []}
    with support.Stack(options.bin, server_args=["--cpu", "16"]) as stack:
        stack.use()
        ours = Ours(stack)
        name = ours.prepare()
        ours.start(name)  # the image comes, and stays mounted
        bare = Bare(stack.data / "node/runsc/bundles" / ours.boxes[name].id)
        try:
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                for at_once in map(int, options.at_once.split(",")):
                    seen = {"bare": ([], [], [], [], []), "ours": ([], [], [], [], [])}
                    for round_ in range(options.rounds + 1):
                        arms = (("bare", bare), ("ours", ours))
                        for label, arm in arms if round_ % 2 else reversed(arms):
                            *times, speed = measure(arm, at_once, pool)
                            if round_ == 0:
                                continue  # warm
                            for into, values in zip(seen[label], (*times, [speed])):
                                into.extend(values)
                        print(f"\r{at_once} at once: round {round_} of {options.rounds}", end="", file=sys.stderr)
                    print(file=sys.stderr)
                    case = {"at_once": at_once}
                    for index, what in enumerate(TIMES):
                        for label in ("bare", "ours"):
                            values = [value * 1e3 for value in seen[label][index]]
                            case[f"{what}_{label}"] = {"min": min(values), "p50": quantile(values, 0.5),
                                                       "p95": quantile(values, 0.95), "n": len(values)}
                    for label in ("bare", "ours"):
                        case[f"starts_per_second_{label}"] = statistics.median(seen[label][-1])
                    result["cases"].append(case)
            result["idle_memory"] = memory_of_idle(stack, ours)
        finally:
            bare.close()
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['machine']}, load {result['load']:.1f}, {result['rounds']} rounds")
    print(f"{'at once':>7}  {'what':<22} {'bare p50':>9} {'ours p50':>9} {'':>7} {'bare p95':>9} {'ours p95':>9}")
    for case in result["cases"]:
        for what in TIMES:
            b, o = case[what + "_bare"], case[what + "_ours"]
            print(f"{case['at_once']:>7}  {what:<22} {b['p50']:>9.1f} {o['p50']:>9.1f} {(o['p50'] / b['p50'] - 1) * 100:>+6.0f}% "
                  f"{b['p95']:>9.1f} {o['p95']:>9.1f} {(o['p95'] / b['p95'] - 1) * 100:>+6.0f}%")
        print(f"{case['at_once']:>7}  {'starts per second':<22} {case['starts_per_second_bare']:>9.2f} "
              f"{case['starts_per_second_ours']:>9.2f}")
    memory = result["idle_memory"]
    print(f"{memory['sandboxes']} idle sandboxes: {memory['pss_mib_each']:.1f} MiB each (proportional set size of their "
          f"processes), server and agent together {memory['server_mib']:.0f} MiB")


def pss(pid):
    try:
        for line in open(f"/proc/{pid}/smaps_rollup"):
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def memory_of_idle(stack, ours, count=8):
    names = [ours.prepare() for _ in range(count - len(ours.boxes))]
    for name in names:
        ours.start(name)
    time.sleep(2)
    pids = set()
    for procs in pathlib.Path("/sys/fs/cgroup/pids", "chalk-" + stack.prefix).rglob("cgroup.procs"):
        pids.update(procs.read_text().split())
    total = sum(pss(pid) for pid in pids)
    server = pss(stack.server.pid)
    for name in names:
        ours.stop(name)
        ours.remove(name)
    return {"sandboxes": count, "pss_mib_each": total / count, "server_mib": server}


if __name__ == "__main__":
    main()
