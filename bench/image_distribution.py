#!/usr/bin/env python3
"""How soon 10,000 sandboxes of one image start on 1,000 nodes that lack it, by way of distribution.

bench/image_distribution.py [--seeds N] [--svg FILE]: runs scenarios/capacity/image_burst.yaml and prints
a table with the bound of each. Program: build/release/bin/chalk-sim (ci/build release chalk-sim).
Nothing here depends on the speed of the machine.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCENARIO = "scenarios/capacity/image_burst.yaml"
# As the scenario says them.
NODES, BYTES, RATE, DISK = 1000, 1e9, 1.25e9, 10e9
CHUNK, LATENCY, START, MESSAGE = 512 * 1024, 200e-6, 0.150, 1e-3


def after_the_image():
    """Messages to control and to the node, unpacking, the sandbox's own start."""
    return 2 * MESSAGE + BYTES / DISK + START


def tree_bound(fan_out):
    """Store and forward in chunks: a chunk and a latency for each level, then all the bytes on the slowest link.

    A node of the last level but one sends all of the image `fan_out` times once it has its first chunk.
    """
    depth = NODES - 1 if fan_out == 1 else math.ceil(math.log(NODES * (fan_out - 1) + 1, fan_out)) - 1
    share = RATE / fan_out
    first_chunk_above = LATENCY + CHUNK / RATE + (depth - 1) * (CHUNK / RATE + LATENCY)
    return first_chunk_above + LATENCY + BYTES / share + after_the_image()


def any_bound():
    """No way at all is faster: each node takes all bytes over its link, a chunk doubles its holders at best."""
    return BYTES / RATE + (math.ceil(math.log2(NODES)) - 1) * CHUNK / RATE + LATENCY + after_the_image()


def registry_bound():
    return NODES * BYTES / RATE + LATENCY + after_the_image()


def simulate(seed, sets):
    with tempfile.TemporaryDirectory() as out:
        words = [ROOT / "build/release/bin/chalk-sim", "run", SCENARIO, "--quiet", "--seed", str(seed), "--out", out,
                 "--set", "output.event_log=false"]
        for one in sets:
            words += ["--set", one]
        done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True)
        if done.returncode not in (0, 2):  # 2: the scenario's assertions are about the tree
            raise SystemExit(done.stdout + done.stderr)
        return json.loads((pathlib.Path(out) / "result.json").read_text())


def spread(values, digits=2):
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def rows(seeds):
    cases = [("registry", "registry", 2, registry_bound(), ""), ("peer", "peer", 2, None, "")]
    cases += [(f"tree, fan-out {d}", "tree", d, tree_bound(d), "") for d in (1, 2, 3, 4)]
    broken = "[{kind: agent_restart, from: 1s, lasts: 1s, count: 20}]"
    cases += [("fan-out 2, 20 agents away", "tree", 2, tree_bound(2), broken)]
    for name, way, fan_out, bound, faults in cases:
        sets = [f"control.image_distribution={way}", f"control.image_fan_out={fan_out}"]
        sets += [f"faults={faults}"] if faults else []
        results = [simulate(seed, sets) for seed in range(1, seeds + 1)]
        for result in results:
            assert result["completed"] == 10000 and not result["broken"], (name, result)
        yield name, bound, results


def svg(lines, path):
    """Share of the sandboxes that run, over seconds since they were asked for; logarithmic."""
    width, height, left, legend, low, high = 800, 320, 60, 230, 0.1, 2000.0
    def x(seconds):
        return left + (width - left - legend) * math.log(max(seconds, low) / low) / math.log(high / low)
    colours = ["#888888", "#c06000", "#4080c0", "#004080", "#40a060", "#a040a0", "#c02040"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 50}" font-family="sans-serif" font-size="12">']
    for tick in (0.1, 1, 10, 100, 1000):
        out.append(f'<line x1="{x(tick):.1f}" y1="10" x2="{x(tick):.1f}" y2="{height}" stroke="#dddddd"/>'
                   f'<text x="{x(tick):.1f}" y="{height + 18}" text-anchor="middle">{tick:g} s</text>')
    for share in (0, 0.5, 1):
        y = height - (height - 10) * share
        out.append(f'<line x1="{left}" y1="{y}" x2="{width - legend}" y2="{y}" stroke="#dddddd"/>'
                   f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
    for at, (name, points) in enumerate(lines):
        path_points = " ".join(f"{x(ms / 1000):.1f},{height - (height - 10) * share:.1f}" for ms, share in points)
        # Where no peer has the image yet this line lies on the registry's, which shows through its gaps.
        out.append(f'<polyline points="{path_points}" fill="none" stroke="{colours[at]}" stroke-width="2" '
                   f'stroke-dasharray="{"8 3" if name == "peer" else "none"}"/>'
                   f'<text x="{width - legend + 10}" y="{24 + 18 * at}" fill="{colours[at]}">{name}</text>')
    out.append(f'<text x="{left}" y="{height + 40}">sandboxes that run, by the time since they were asked for</text></svg>')
    pathlib.Path(path).write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--svg")
    options = parser.parse_args()
    print(f"{options.seeds} seeds: median (least to most). No way at all is faster than {any_bound():.2f} s.\n")
    print("| distribution | last of 10,000 runs after, s | bound of this way, s | above it, ms | half run after, s "
          "| GB from the registry | GB asked of peers |\n|---|---|---|---|---|---|---|")
    curves = []
    for name, bound, results in rows(options.seeds):
        last = [one["wait_ms"]["max"] / 1000 for one in results]
        half = [one["wait_ms"]["p50"] / 1000 for one in results]
        print(f"| {name} | {spread(last)} | {'' if bound is None else f'{bound:.2f}'} "
              f"| {'' if bound is None else spread([1000 * (one - bound) for one in last], 1)} | {spread(half)} "
              f"| {spread([one['image_bytes_pulled'] / 1e9 for one in results], 1)} "
              f"| {spread([one['image_bytes_from_peers'] / 1e9 for one in results], 1)} |", flush=True)
        curves.append((name, results[0]["wait_ms"].get("cumulative", [])))
    if options.svg:
        svg(curves, options.svg)


if __name__ == "__main__":
    main()
