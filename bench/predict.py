#!/usr/bin/env python3
"""Does the simulator predict this machine? Predicted against measured start latency and throughput.

    bench/predict.py BIN_DIR [--rounds 10] [--at-once 1,4,8] [--runs 3] [--json]

Makes the same bursts of sandboxes on a real server and node several times. From each run's log
`chalk-sim calibrate` makes a platform, and `chalk-sim run` says on that platform what the OTHER runs' bursts
would take. Its error stands beside the spread between the real runs: the difference that one run has to
another is the least that any prediction can have. Latency: from the request to the server until the server
knows that the sandbox runs. Throughput: size of a burst over the time until all of it runs. Needs root,
ci/tools and ci/base-image, and the public client (build/tools/venv).
"""
import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import stack as support  # noqa: E402

FIGURES = ("p50_ms", "p90_ms", "p99_ms", "starts_per_second")
SEEDS = range(1, 6)


def quantile(values, share):
    values = sorted(values)
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def record(options, folder, progress):
    """One real run; the folder then holds its logs and its calibration."""
    with support.Stack(options.bin, server_args=["--cpu", "16"]) as stack:
        stack.use()
        from chalkcompute import SandboxClient
        client = SandboxClient.from_env()

        def create(_):
            return client.create(image="busybox", cpu="1", memory="134217728", lifetime="600s",
                                 entrypoint=["/bin/sleep", "1000"])

        create(0).terminate()  # the image comes
        with concurrent.futures.ThreadPoolExecutor(max(options.levels)) as pool:
            for level in options.levels:
                for number in range(options.rounds):
                    time.sleep(1.0)
                    boxes = list(pool.map(create, range(level)))
                    list(pool.map(lambda box: box.terminate(), boxes))
                    print(f"\r{progress}: {level} at once, {number + 1} of {options.rounds} ", end="", file=sys.stderr)
        assert stack.settle(60), "sandboxes did not end"
        stack.stop(stack.server)
        control, node = stack.export_logs(folder)
        subprocess.run([stack.bin / "chalk-sim", "calibrate", control, node, "--out", folder], check=True,
                       stdout=subprocess.DEVNULL)
    print(file=sys.stderr)


class Run:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        starts = json.loads((folder / "measured.json").read_text())["starts_ms"][1:]
        lines = (folder / "workload.jsonl").read_text().splitlines()
        asks = [line for line in lines if "at_ns" in line][1:]
        self.head = [line for line in lines if "at_ns" not in line]
        self.bursts = {}  # by level: [(asks, latencies)]
        at = 0
        for level in options.levels:
            self.bursts[level] = []
            for _ in range(options.rounds):
                part = slice(at, at + level)
                self.bursts[level].append(([json.loads(ask) for ask in asks[part]], [took for _, took in starts[part]],
                                           [when for when, _ in starts[part]]))
                at += level
        assert at == len(asks) == len(starts), (at, len(asks), len(starts))

    def measured(self, level):
        latencies = [took for _, all_, _ in self.bursts[level] for took in all_]
        spans = [max(w + t for w, t in zip(when, took)) - min(when) for _, took, when in self.bursts[level]]
        return figures(latencies, [level / span * 1e3 for span in spans])

    def predicts(self, other, level):
        """What this run's platform says of the other's bursts; medians over seeds."""
        bursts = [asks for asks, _, _ in other.bursts[level]]
        by_seed = []
        for seed in SEEDS:
            whole = self.simulate([ask for asks in bursts for ask in asks], seed)
            rates = []
            for number, asks in enumerate(bursts):
                first = min(ask["at_ns"] for ask in asks)
                late = (max(ask["at_ns"] for ask in asks) - first) / 1e6
                rates.append(level / max(late, self.simulate(asks, seed * 1000 + number)["max"]) * 1e3)
            by_seed.append({"p50_ms": whole["p50"], "p90_ms": whole["p90"], "p99_ms": whole["p99"],
                            "starts_per_second": statistics.median(rates)})
        return {figure: statistics.median(one[figure] for one in by_seed) for figure in FIGURES}

    def simulate(self, asks, seed):
        first = min(ask["at_ns"] for ask in asks)
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=self.folder) as trace:
            trace.write("\n".join(self.head + [json.dumps(ask | {"at_ns": ask["at_ns"] - first}) for ask in asks]) + "\n")
            trace.flush()
            out = subprocess.run([pathlib.Path(self.options.bin) / "chalk-sim", "run", self.folder / "platform.yaml",
                                  "--trace", f"jsonl:{trace.name}", "--set", "images.0.prewarmed=true", "--seed", str(seed),
                                  "--json", "--quiet"], capture_output=True, text=True, check=True)
        return json.loads(out.stdout)["wait_ms"]


def figures(latencies, rates):
    return {"p50_ms": quantile(latencies, 0.5), "p90_ms": quantile(latencies, 0.9), "p99_ms": quantile(latencies, 0.99),
            "starts_per_second": statistics.median(rates)}


def difference(a, b):
    return abs(a - b) / ((a + b) / 2) * 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("--rounds", type=int, default=10, help="bursts of each size")
    parser.add_argument("--at-once", default="1,4,8")
    parser.add_argument("--runs", type=int, default=3, help="real runs; at least 2")
    parser.add_argument("--keep", help="folder for logs and calibrations")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.levels = [int(level) for level in options.at_once.split(",")]
    if options.runs < 2:
        parser.error("--runs: expected at least 2: a run is predicted from another one")
    with tempfile.TemporaryDirectory() as scratch:
        base = pathlib.Path(options.keep or scratch)
        runs = []
        for number in range(options.runs):
            folder = base / str(number + 1)
            folder.mkdir(parents=True)
            record(options, folder, f"run {number + 1} of {options.runs}")
            runs.append(Run(options, folder))
        rows = []
        for level in options.levels:
            real = [run.measured(level) for run in runs]
            pairs = list(itertools.permutations(range(len(runs)), 2))
            predicted = [(runs[a].predicts(runs[b], level), real[b]) for a, b in pairs]
            for figure in FIGURES:
                rows.append({"at_once": level, "figure": figure,
                             "measured": [one[figure] for one in real],
                             "predicted": [one[figure] for one, _ in predicted],
                             "error_percent": statistics.mean(difference(one[figure], truth[figure]) for one, truth in predicted),
                             "spread_percent": statistics.mean(difference(real[a][figure], real[b][figure]) for a, b in pairs)})
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"
    if options.json:
        print(json.dumps({"machine": machine, "rounds": options.rounds, "runs": options.runs, "rows": rows}, indent=2))
        return
    print(f"{machine}; {options.runs} runs of {options.rounds} bursts of each size; each run predicted from each other one")
    print(f"{'at once':>7}  {'':<18} {'measured':>9} {'(least':>8} {'most)':>8} {'predicted':>10} {'error':>7} {'spread of real runs':>20}")
    for row in rows:
        print(f"{row['at_once']:>7}  {row['figure']:<18} {statistics.mean(row['measured']):>9.1f} {min(row['measured']):>8.1f} "
              f"{max(row['measured']):>8.1f} {statistics.mean(row['predicted']):>10.1f} {row['error_percent']:>6.1f}% "
              f"{row['spread_percent']:>19.1f}%")


if __name__ == "__main__":
    main()
