#!/usr/bin/env python3
"""Runs every benchmark on one core and writes bench/results/NAME.md: ratios, with machine and spread.

bench/run.py [--name NAME] [--rounds N] [--core C] [--skip-day]: programs come from build/release/bin
(ci/build release), the peers SimFaaS and SimPy from PyPI (tests/peers/run_peers.sh installs them).
Programs that are compared run in turns, so a busy machine slows all of them alike.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = ROOT / "build/release/bin"


def run(words, core, good=(0,)):
    print("+", " ".join(str(word) for word in words), file=sys.stderr, flush=True)
    done = subprocess.run(["taskset", "-c", str(core)] + [str(word) for word in words], cwd=ROOT,
                          capture_output=True, text=True)
    if done.returncode not in good:
        raise SystemExit(f"{words[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def simulate(scenario, core, *more):
    with tempfile.TemporaryDirectory() as out:
        # 2: an assertion of the scenario does not hold; it is about its own number of calls.
        run([BIN / "chalk-sim", "run", scenario, "--quiet", "--out", out, *more], core, good=(0, 2))
        return json.loads((pathlib.Path(out) / "result.json").read_text())


def spread(values, digits=0):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def one_function(rounds, core):
    """Calls per second of CPU time, in turns with the bare loop and the peers."""
    chalk, bare, simfaas, simpy = [], [], [], []
    python = ROOT / "build/peers/bin/python"
    for _ in range(rounds):
        said = run([BIN / "one_function_bench", 1_000_000, 1], core)
        found = re.search(r"chalk (\d+) requests/s .*bare loop (\d+) requests/s", said)
        chalk.append(float(found.group(1)))
        bare.append(float(found.group(2)))
        if python.exists():
            simfaas.append(float(run([python, "bench/peers/simfaas_one_function.py", 50_000], core).split()[0]))
            simpy.append(float(run([python, "bench/peers/simpy_one_function.py", 100_000], core).split()[0]))
    rows = [("Chalk: machines, messages, policies, digests, checkers", chalk), ("bare loop: a heap, nothing else", bare),
            ("SimPy 4.1.2: a process per call", simpy), ("SimFaaS 0.2.2", simfaas)]
    lines = ["## One function (case 2), calls per second of CPU time", "",
             "| | calls/s: median (least to most) | Chalk is |", "|---|---|---|"]
    for name, values in rows:
        if values:
            lines.append(f"| {name} | {spread(values)} | {statistics.median(chalk) / statistics.median(values):,.2f} x |")
        else:
            lines.append(f"| {name} | not installed here | |")
    return lines + ["", "Targets: 1,000,000 calls/s and 20 times SimFaaS."]


def memory(core):
    lines = ["## Memory against the number of calls (case 2)", "", "| calls | peak memory, MB |", "|---|---|"]
    for calls in (100_000, 1_000_000, 10_000_000):
        result = simulate("scenarios/capacity/one_function.yaml", core, "--set", f"requests={calls}",
                          "--set", "output.event_log=false")
        lines.append(f"| {calls:,} | {result['peak_memory_bytes'] / 1e6:.1f} |")
    return lines


def google(program, core):
    said = run([BIN / program, "--benchmark_format=json", "--benchmark_repetitions=3", "--benchmark_min_time=0.5"], core)
    cases = {}
    for case in json.loads(said[: said.rindex("}") + 1])["benchmarks"]:
        if case["run_type"] == "iteration":
            cases.setdefault(case["run_name"], []).append(case)
    return cases


NANOS = {"ns": 1, "us": 1e3, "ms": 1e6}


def scheduler(core):
    cases = google("scheduler_bench", core)
    asks = ["all kinds of asks", "plain asks", "eight shapes"]
    scans = {name.split("/")[1]: statistics.median(c["items_per_second"] for c in cases[name]) for name in cases
             if name.startswith("NaiveScan")}
    lines = ["## Placements per second with churn, each with its release and its start, digest on", "",
             "| nodes | asks | full | millions/s: median (least to most) | times the linear scan |", "|---|---|---|---|---|"]
    for name, runs in cases.items():
        found = re.match(r"ReleaseAndPlace/nodes:(\d+)/asks:(\d)", name)
        if not found:
            continue
        rates = [case["items_per_second"] for case in runs]
        scan = scans[found.group(1)]
        lines.append(f"| {int(found.group(1)):,} | {asks[int(found.group(2))]} | {runs[0]['full_%']:.0f} % "
                     f"| {spread([rate / 1e6 for rate in rates], 2)} | {statistics.median(rates) / scan:,.0f} |")
    lines += ["", "The scan only chooses (on the cluster of all kinds of asks); ours also updates its index. Target:",
              "3 million/s at 10,000 nodes.", "", "| other | time |", "|---|---|"]
    for name, runs in cases.items():
        if name.startswith(("Refusal", "Fork")):
            nanos = [case["real_time"] * NANOS[case["time_unit"]] for case in runs]
            lines.append(f"| {name} | {spread([n / 1e3 for n in nanos], 2)} us |")
    return lines


def placement(rounds, core):
    """The program's own tables: each policy of placement on one workload."""
    return ["## Quality of placement", "", run([BIN / "placement_bench", "--seeds", max(5, rounds)], core).strip()]


def steps(core):
    lines = ["## Cost of a step, with the digest of event and effects", "", "| what | ns: median (least to most) |", "|---|---|"]
    for name, runs in google("step_bench", core).items():
        label = runs[0].get("label", "")
        lines.append(f"| {name}{', ' + label if label else ''} | {spread([case['real_time'] * NANOS[case['time_unit']] for case in runs])} |")
    return lines


def idle_nodes(core):
    """The same work on fleets of different sizes: what an event costs beside idle nodes."""
    lines = ["## Events per second beside idle nodes: heartbeats only", "", "| nodes | millions of events/s |", "|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for nodes in (100, 1_000, 10_000, 100_000):
            scenario = pathlib.Path(folder) / "idle.yaml"
            scenario.write_text(f"""shows: idle nodes
seed: 1
duration: {max(60, 20_000_000 // nodes)}s
run_until_done: false
control: {{heartbeat: 10s, node_timeout: 40s}}
pools: [{{name: cpu, nodes: {nodes}, price_per_hour: 1, node: {{cpu: "16", memory: 64Gi}}}}]
workload: [{{kind: poisson, of: sandboxes, per_second: 0.01, runs: 60s}}]
output: {{event_log: false}}
""")
            rates = [simulate(scenario, core)["events_per_second"] / 1e6 for _ in range(3)]
            lines.append(f"| {nodes:,} | {spread(rates, 2)} |")
    return lines


def keep_alive(core):
    """The bench prints its own tables: all policies in one pass over each seed's calls."""
    return ["## Keep-alive policies on the shape of Azure Functions 2019, a week, 5 seeds", "",
            run([BIN / "keep_alive_bench", "--seeds", 5], core).strip()]


def day(core, rounds):
    results = [simulate("scenarios/capacity/ten_thousand_nodes.yaml", core) for _ in range(rounds)]
    first = results[0]
    return ["## A day of 10,000 nodes and 100,000 sandboxes (case 7)", "",
            f"{first['simulated_seconds'] / 3600:.0f} h, {first['requests']:,} sandboxes, {first['events']:,} events: "
            f"{spread([r['wall_seconds'] for r in results], 1)} s of wall time, "
            f"{first['peak_memory_bytes'] / 1e6:.0f} MB, digests {'equal' if len({r['digest'] for r in results}) == 1 else 'DIFFER'}.",
            "Target: 60 s."]


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--name", default="latest")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--core", type=int, default=0)
    words.add_argument("--skip-day", action="store_true")
    options = words.parse_args()
    model = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    load = open("/proc/loadavg").read().split()[0]
    parts = [[f"# Benchmarks: {options.name}", "", f"Commit {commit}; {model}; one core of "
              f"{subprocess.run(['nproc'], capture_output=True, text=True).stdout.strip()}, a virtual machine whose host is shared; "
              f"load {load} at the start. Command: `bench/run.py --name {options.name} --rounds {options.rounds}`."]]
    parts.append(one_function(options.rounds, options.core))
    parts.append(memory(options.core))
    parts.append(scheduler(options.core))
    parts.append(placement(options.rounds, options.core))
    parts.append(steps(options.core))
    parts.append(idle_nodes(options.core))
    parts.append(keep_alive(options.core))
    if not options.skip_day:
        parts.append(day(options.core, min(3, options.rounds)))
    out = ROOT / f"bench/results/{options.name}.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    main()
