#!/usr/bin/env python3
"""Kills the server and the agent at random moments while clients create and terminate sandboxes.

    churn.py BIN_DIR [--kills N] [--clients N] [--seed N]

At the end: what was acknowledged is there, no id was given twice, what was terminated is gone, nothing
runs that the server does not know, lifetimes were kept, and both logs replay to the same digests.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import stack as support  # noqa: E402

SETTLE_SECONDS = 180
LIFETIME_SECONDS = 20
LIFETIME_SLACK_SECONDS = 60


class Client(threading.Thread):
    """Creates sandboxes, ends some, and writes down what was acknowledged."""

    def __init__(self, number, stack, seed, done):
        super().__init__(daemon=True)
        self.number, self.stack, self.done = number, stack, done
        self.random = random.Random(seed * 1000 + number)
        self.created, self.terminated, self.limited = {}, set(), {}
        self.unknown, self.errors = 0, set()

    def run(self):
        from chalkcompute import SandboxClient
        mine = []
        client = None
        while not self.done.is_set():
            try:
                if client is None:
                    client = SandboxClient.from_env()
                if mine and (len(mine) >= 4 or self.random.random() < 0.4):
                    sandbox = mine.pop(self.random.randrange(len(mine)))
                    name = sandbox.id  # which it forgets with its end
                    sandbox.terminate()
                    self.terminated.add(name)
                    continue
                limited = self.random.random() < 0.2
                began = time.time()
                sandbox = client.create(image="busybox", cpu="50m", memory="64Mi",
                                        lifetime=f"{LIFETIME_SECONDS if limited else 90}s")
                if sandbox.id in self.created:
                    self.created[sandbox.id] += 1
                else:
                    self.created[sandbox.id] = 1
                if limited:
                    self.limited[sandbox.id] = (began, time.time())
                else:
                    mine.append(sandbox)
            except Exception as error:  # the server or its node is away: the answer is not known
                self.unknown += 1
                self.errors.add(f"{type(error).__name__}: {error}"[:300])
                client = None
                time.sleep(0.2)


def runsc_ids(data):
    """The sandboxes that runsc knows on this host under these roots, running ones only."""
    ids = set()
    for root in data:
        found = list(pathlib.Path(root).rglob("*.state"))
        for state in found:
            try:
                ids.add(json.loads(state.read_text())["id"])
            except (OSError, ValueError, KeyError):
                continue
    return ids


def check(good, what, failures):
    print(("ok      " if good else "FAILED  ") + what, flush=True)
    if not good:
        failures.append(what)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    repeat = f"tests/churn/churn.sh {options.bin} --kills {options.kills} --seed {options.seed}"
    print(f"churn: {options.kills} kills, {options.clients} clients, seed {options.seed}")
    failures = []
    dice = random.Random(options.seed)
    with support.Stack(options.bin, split=True,
                       node_args=["--cpu", "64", "--memory", "64Gi", "--disk", "400Gi"]) as stack:
        stack.use()
        done = threading.Event()
        clients = [Client(i, stack, options.seed, done) for i in range(options.clients)]
        for client in clients:
            client.start()
        for kill in range(options.kills):
            time.sleep(dice.uniform(1.0, 6.0))
            which = "server" if dice.random() < 0.6 else "agent"
            print(f"kill {kill + 1}: {which}, {sum(len(c.created) for c in clients)} created so far", flush=True)
            if which == "server":
                stack.kill_server()
                time.sleep(dice.uniform(0, 1.0))
                stack.start_server()
            else:
                stack.kill_node()
                time.sleep(dice.uniform(0, 1.0))
                stack.start_node()
        time.sleep(5)
        done.set()
        for client in clients:
            client.join(180)
        stack.wait_node()

        created, terminated, limited = {}, set(), {}
        for client in clients:
            for one, times in client.created.items():
                created[one] = created.get(one, 0) + times
            terminated |= client.terminated
            limited |= client.limited
        print(f"{len(created)} acknowledged, {len(terminated)} ended, {sum(c.unknown for c in clients)} calls "
              "whose answer was lost")
        for error in sorted(set().union(*(client.errors for client in clients)))[:10]:
            print(f"  {error}")
        check(len(created) > options.kills, "sandboxes were created between the kills", failures)
        check(all(times == 1 for times in created.values()), "no id was given twice", failures)

        rows = {}
        until = time.time() + SETTLE_SECONDS
        ended = ("terminated", "succeeded", "failed", "error", "stopped")
        while time.time() < until:
            rows = {row["id"]: row for row in json.loads(stack.chalk("compute", "ls", "--all", "--limit", "1000000", "--json").stdout)}
            overdue = [one for one in limited if rows.get(one, {}).get("status", "").lower() not in ended
                       and time.time() > limited[one][1] + LIFETIME_SECONDS + LIFETIME_SLACK_SECONDS]
            waiting = [one for one in terminated | set(limited)
                       if rows.get(one, {}).get("status", "").lower() not in ended]
            if not waiting or overdue:
                break
            time.sleep(1)
        missing = [one for one in created if one not in rows]
        check(not missing, f"everything acknowledged is known (missing: {missing[:3]})", failures)
        alive = [one for one in terminated if rows.get(one, {}).get("status", "").lower() not in ended]
        check(not alive, f"everything terminated has ended (alive: {alive[:3]})", failures)
        late = [one for one in limited if rows.get(one, {}).get("status", "").lower() not in ended]
        check(not late, f"lifetimes were kept (alive: {late[:3]})", failures)

        until = time.time() + SETTLE_SECONDS
        known, real = set(), set()
        while time.time() < until:
            listed = json.loads(stack.chalk("compute", "ls", "--json").stdout)
            known = {row["id"] for row in listed}
            real = runsc_ids([stack.node_data])
            if known == real:
                break
            time.sleep(1)
        check(not real - known, f"nothing runs that the server does not know ({sorted(real - known)[:3]})", failures)
        check(not known - real, f"everything that the server says runs does ({sorted(known - real)[:3]})", failures)

        # One of the survivors still works.
        survivor = next((one for one in known if one in created), None)
        if survivor:
            out = stack.chalk("compute", "exec", survivor, "--", "sh", "-c", "echo alive", check=False)
            check(out.stdout.strip() == "alive", f"a survivor answers ({out.stderr.strip()[:200]})", failures)

        stack.remove_sandboxes()
        check(stack.settle(120), "all can be ended", failures)
        stack.stop(stack.node)
        stack.stop(stack.server)
        for log in stack.export_logs(stack.scratch / "logs"):
            out = stack.replay(log)
            same = out.returncode == 0 and json.loads(out.stdout)["same"]
            check(same, f"{log.name} replays: {out.stdout.strip() or out.stderr.strip()}"[:300], failures)
        if failures:
            print(stack.tails())
    if failures:
        print(f"FAILED; repeat with: {repeat}")
    print(f"{'0 passed, 1' if failures else '1 passed, 0'} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
