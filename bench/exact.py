#!/usr/bin/env python3
"""How far each policy of placement is from the optimum, on small instances that HiGHS solves exactly.

bench/exact.py [--instances N] [--nodes MAX] [--seconds S]: needs build/release/bin/placement_bench and
`highspy` from PyPI: python3 -m venv build/exact && build/exact/bin/pip install highspy, then run it with
build/exact/bin/python. Two questions, each of an integer program that knows all requests beforehand
while the policies see one at a time: on a fleet that is too small, the most GPU thousandths that can be
placed; and the fewest of the nodes that hold all. Where the time is up first, the proven bound counts as
the optimum, so a gap is never shown smaller than it is.
"""
import argparse
import pathlib
import random
import statistics
import subprocess
import tempfile

import highspy
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[1]
BENCH = ROOT / "build/release/bin/placement_bench"
POLICIES = ["best_fit (ours)", "least_allocated", "first_fit", "power_of_two", "fgd", "frag_fit (ours)"]
# cpu in millicores, GPUs, thousandths of each, weight: as in bench/openb_shape.h, fewer kinds.
GPU_KINDS = [(3200, 1, 810, 22), (8000, 1, 470, 14), (12000, 1, 470, 14), (6000, 1, 460, 9), (4000, 1, 320, 9),
             (8000, 1, 220, 6), (4000, 1, 160, 5), (11400, 1, 1000, 22), (12000, 1, 1000, 16), (16000, 1, 1000, 16),
             (18700, 1, 1000, 12), (17400, 2, 1000, 2), (64200, 8, 1000, 2)]
CPU_KINDS = [(100, 7), (200, 7), (400, 7), (800, 7), (1600, 7), (3200, 7), (6400, 7), (16000, 7)]


def draw(rng, kinds):
    return rng.choices(kinds, [kind[-1] for kind in kinds])[0]


def gpu_instance(rng, nodes):
    """A fleet that is asked for 1.2 times its GPUs: (cpu, memory in MiB, GPUs) and the same with thousandths."""
    shapes = [(96000, 393216, 8), (64000, 262144, 2), (96000, 393216, 4)]
    fleet = [rng.choice(shapes) for _ in range(nodes)]
    asks, asked = [], 0
    while asked < 1.2 * 1000 * sum(node[2] for node in fleet):
        cpu, gpus, millis, _ = draw(rng, GPU_KINDS)
        asks.append((cpu, cpu * 4096 // 1000, gpus, millis))
        asked += gpus * millis
    return fleet, asks


def cpu_instance(rng, nodes):
    """Sandboxes worth 0.6 of the fleet's cpu on equal nodes."""
    fleet = [(32000, 131072, 0)] * nodes
    asks, cpu = [], 0
    while cpu < 0.6 * 32000 * nodes:
        asks.append((draw(rng, CPU_KINDS)[0], 0, 0, 0))
        cpu += asks[-1][0]
        asks[-1] = (asks[-1][0], asks[-1][0] * rng.choice([2, 3, 4, 5, 6]) * 1024 // 1000, 0, 0)
    return fleet, asks


def ask_policies(fleet, asks):
    """By policy: how many were placed, GPU thousandths, nodes used."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines("node %d %d %d\n" % node for node in fleet)
        file.writelines("ask %d %d %d %d\n" % ask for ask in asks)
        file.flush()
        said = subprocess.run([BENCH, "--instance", file.name], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]): tuple(int(word) for word in line.split()[1:]) for line in said.splitlines()}


class Program:
    """An integer program, built row by row."""

    def __init__(self, seconds):
        self.solver = highspy.Highs()
        self.solver.setOptionValue("output_flag", False)
        self.solver.setOptionValue("time_limit", float(seconds))
        self.solver.setOptionValue("mip_rel_gap", 0.0)
        self.columns = 0

    def variable(self, cost, upper):
        self.solver.addCol(float(cost), 0.0, float(upper), 0, numpy.array([], dtype=numpy.int32), numpy.array([]))
        self.solver.changeColIntegrality(self.columns, highspy.HighsVarType.kInteger)
        self.columns += 1
        return self.columns - 1

    def row(self, low, high, terms):
        if terms:
            self.solver.addRow(float(low), float(high), len(terms), numpy.array([at for at, _ in terms], dtype=numpy.int32),
                               numpy.array([float(value) for _, value in terms]))

    def solve(self):
        self.solver.run()
        info = self.solver.getInfo()
        return info.objective_function_value, info.mip_dual_bound


def groups_of(items):
    """Equal items once each, with how many there are."""
    counts = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return list(counts.items())


def most_gpu(fleet, asks, seconds):
    """The bound on thousandths placed. Shares stand on a GPU each, so there is a variable for each of them."""
    program, kinds = Program(seconds), groups_of(asks)
    placed = [[] for _ in kinds]  # terms by kind
    for cpu, memory, gpus in fleet:
        use_cpu, use_memory, use_gpus = [], [], []
        shares = [[] for _ in range(gpus)]
        for number, ((ask_cpu, ask_memory, count, millis), many) in enumerate(kinds):
            if count > gpus:
                continue
            for gpu in range(gpus if millis < 1000 else 1):
                at = program.variable(-count * millis, many)
                placed[number].append((at, 1))
                use_cpu.append((at, ask_cpu))
                use_memory.append((at, ask_memory))
                (shares[gpu] if millis < 1000 else use_gpus).append((at, millis if millis < 1000 else count))
        for terms in shares:  # a GPU is whole, or shared when its variable is 1
            shared = program.variable(0, 1)
            use_gpus.append((shared, 1))
            program.row(-1e30, 0, terms + [(shared, -1000)])
        program.row(-1e30, cpu, use_cpu)
        program.row(-1e30, memory, use_memory)
        program.row(-1e30, gpus, use_gpus)
    for terms, (_, many) in zip(placed, kinds):
        program.row(-1e30, many, terms)
    value, bound = program.solve()
    return -value, -bound


def fewest_nodes(fleet, asks, seconds):
    """The bound on nodes that hold all; nodes are equal, so they are opened in order."""
    program, kinds = Program(seconds), groups_of(asks)
    placed = [[] for _ in kinds]
    last = None
    for cpu, memory, _ in fleet:
        opened = program.variable(1, 1)
        use_cpu, use_memory = [(opened, -cpu)], [(opened, -memory)]
        for number, ((ask_cpu, ask_memory, _, _), many) in enumerate(kinds):
            at = program.variable(0, many)
            placed[number].append((at, 1))
            use_cpu.append((at, ask_cpu))
            use_memory.append((at, ask_memory))
        program.row(-1e30, 0, use_cpu)
        program.row(-1e30, 0, use_memory)
        if last is not None:
            program.row(0, 1, [(last, 1), (opened, -1)])
        last = opened
    for terms, (_, many) in zip(placed, kinds):
        program.row(many, many, terms)
    return program.solve()


def show(title, gaps, proven, instances):
    print(f"\n### {title}\n\nProven optimal in {proven} of {instances} instances.\n")
    print("| policy | gap, %: median (least to most) |\n|---|---|")
    for number in [0, 5, 4, 2, 3, 1]:
        values = gaps[number]
        print(f"| {POLICIES[number]} | {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) |")


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--instances", type=int, default=5)
    words.add_argument("--nodes", type=int, default=60, help="of the largest instance")
    words.add_argument("--seconds", type=float, default=20, help="for each solution")
    options = words.parse_args()
    for title, make, optimum, of_policy in [
            ("GPU thousandths not placed that could be", gpu_instance, most_gpu, lambda said: said[1]),
            ("Nodes used beyond the fewest", cpu_instance, fewest_nodes, lambda said: said[2])]:
        gaps, proven = {number: [] for number in range(len(POLICIES))}, 0
        for seed in range(options.instances):
            rng = random.Random(seed)
            nodes = max(3, options.nodes * (seed + 1) // options.instances)
            fleet, asks = make(rng, nodes)
            value, bound = optimum(fleet, asks, options.seconds)
            bound = round(bound) if abs(bound - round(bound)) < 1e-6 else bound
            proven += abs(value - bound) < 1e-6 * max(1, abs(bound))
            said = ask_policies(fleet, asks)
            for number in gaps:
                gaps[number].append(100 * abs(of_policy(said[number]) - bound) / bound)
            print(f"{title}: {nodes} nodes, {len(asks)} requests: solver {value:.0f}, bound {bound:.1f}, ours "
                  f"{of_policy(said[0])}", flush=True)
        show(title, gaps, proven, options.instances)


if __name__ == "__main__":
    main()
