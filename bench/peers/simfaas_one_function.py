"""The work of one_function.yaml in SimFaaS 0.2.2. Prints calls per second of CPU time."""
import sys
import time

import numpy as np
from simfaas.ServerlessSimulator import ServerlessSimulator

requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
np.random.seed(7)
sim = ServerlessSimulator(arrival_rate=10, warm_service_rate=1, cold_service_rate=1 / 3,
                          expiration_threshold=600, max_time=requests / 10)
started = time.process_time()
sim.generate_trace()
spent = time.process_time() - started
print(f"{sim.total_req_count / spent:.0f} {sim.total_cold_count}")
