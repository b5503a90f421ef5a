"""The work of one_function.yaml in SimPy: a process per call. Prints calls per second of CPU time."""
import random
import sys
import time

import simpy

REQUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000


def main():
    env = simpy.Environment()
    rng = random.Random(7)
    idle = []  # time since idle; the last is the most recent
    counts = {"cold": 0, "done": 0}

    def call():
        while idle and idle[0] + 600 <= env.now:
            idle.pop(0)
        if idle:
            idle.pop()
        else:
            counts["cold"] += 1
            yield env.timeout(rng.expovariate(0.5))
        yield env.timeout(rng.expovariate(1.0))
        counts["done"] += 1
        idle.append(env.now)

    def arrivals():
        for _ in range(REQUESTS):
            yield env.timeout(rng.expovariate(10.0))
            env.process(call())

    env.process(arrivals())
    started = time.process_time()
    env.run()
    spent = time.process_time() - started
    print(f"{REQUESTS / spent:.0f} {counts['cold']}")


main()
