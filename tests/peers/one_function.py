"""One function, three ways: chalk-sim, SimFaaS and theory, printed side by side.

Usage: one_function.py CHALK_SIM SCENARIO [RUNS]
Needs the package simfaas (PyPI). Exits 1 when a mean differs by more than its statistical error:
five standard errors of the difference between independent runs.

SimFaaS as it is picks the idle instance that was created last; chalk-sim, as most platforms, the one
that fell idle last. The rule is one method there, so it is overridden here; its cold service is the
start and the call together, so a sum of both exponentials is passed.
"""
import json
import math
import statistics
import subprocess
import sys

import numpy as np
from simfaas.ServerlessSimulator import ServerlessSimulator
from simfaas.SimProcess import SimProcess

RATE, SERVICE, COLD, KEEP_ALIVE, REQUESTS = 10.0, 1.0, 2.0, 600.0, 100_000


class ColdService(SimProcess):
    def generate_trace(self):
        return np.random.exponential(COLD) + np.random.exponential(SERVICE)


class MostRecentlyIdle(ServerlessSimulator):
    def schedule_warm_instance(self, t):
        idle = [s for s in self.servers if s.is_ready()]
        return max(idle, key=lambda s: s.next_termination)


def simfaas(seed):
    np.random.seed(seed)
    sim = MostRecentlyIdle(arrival_rate=RATE, warm_service_rate=1 / SERVICE,
                           cold_service_process=ColdService(), expiration_threshold=KEEP_ALIVE,
                           max_time=REQUESTS / RATE)
    sim.generate_trace()
    return {"cold_starts": sim.total_cold_count, "replicas_mean": sim.get_average_server_count(),
            "busy_mean": sim.get_average_server_running_count()}


def chalk(program, scenario, seed):
    out = subprocess.run([program, "run", scenario, "--seed", str(seed), "--json", "--quiet"],
                         check=True, capture_output=True, text=True).stdout
    result = json.loads(out)
    assert result["requests"] == REQUESTS, result["requests"]
    # SimFaaS counts an instance as running while it starts; so do we for this comparison.
    return {"cold_starts": result["cold_starts"], "replicas_mean": result["replicas_mean"],
            "busy_mean": result["busy_mean"] + result["starting_mean"]}


def main():
    program, scenario = sys.argv[1], sys.argv[2]
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    ours = [chalk(program, scenario, seed) for seed in range(1, 4 * runs + 1)]
    peer = [simfaas(seed) for seed in range(1, runs + 1)]
    # M/G/infinity: the mean number in service is the rate times the mean time in service, in which
    # the calls that met a start also waited for it.
    cold_share = statistics.mean(run["cold_starts"] for run in ours) / REQUESTS
    theory = {"busy_mean": RATE * (SERVICE + cold_share * COLD)}
    print(f"{'':14} {'chalk-sim':>20} {'SimFaaS':>20} {'M/G/inf':>10} {'difference':>22}")
    bad = False
    for name in ("cold_starts", "replicas_mean", "busy_mean"):
        a, b = [run[name] for run in ours], [run[name] for run in peer]
        error_a = statistics.stdev(a) / math.sqrt(len(a))
        error_b = statistics.stdev(b) / math.sqrt(len(b))
        difference = statistics.mean(a) - statistics.mean(b)
        errors = abs(difference) / math.hypot(error_a, error_b)
        bad |= errors > 5
        known = theory.get(name)
        if known is not None:
            off = abs(statistics.mean(a) - known) / error_a
            bad |= off > 5
        print(f"{name:14} {statistics.mean(a):11.3f} ± {error_a:6.3f} {statistics.mean(b):11.3f} ± {error_b:6.3f} "
              f"{'' if known is None else format(known, '.3f'):>10} {difference:+9.3f} = {errors:.1f} errors")
    print(f"({len(ours)} seeds of chalk-sim, {len(peer)} of SimFaaS; ± is the standard error of the mean)")
    if bad:
        print("a mean differs by more than five standard errors")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
