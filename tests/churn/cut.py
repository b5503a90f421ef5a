#!/usr/bin/env python3
"""A server that is cut off from its node for a minute, and one whose disk is full for a while.

    cut.py BIN_DIR [--seconds 60]

While it is cut off: the server answers and says that the node is away, the node goes on alone and keeps
lifetimes. Afterwards: the node joins anew, nothing of before runs on unknown, new work is taken, and both
logs replay. A full disk: nothing that was acknowledged is lost, and work goes on when there is room again.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]
import stack as support  # noqa: E402
from churn import check, runsc_ids  # noqa: E402

RUN = ("--detach", "--cpu", "100m", "--memory", "64Mi", "--json")


def rows(stack, *flags):
    return {row["id"]: row for row in json.loads(stack.chalk("compute", "ls", "--json", *flags).stdout)}


def until(done, seconds):
    end = time.time() + seconds
    while time.time() < end:
        if done():
            return True
        time.sleep(0.5)
    return done()


def create(stack, *flags, check=True):
    out = stack.chalk("compute", "run", "busybox", *RUN, *flags, "--", "sleep", "1000", check=check)
    return json.loads(out.stdout)["id"] if out.returncode == 0 else None


def cut(options, failures):
    with support.Stack(options.bin, split=True, wired=True) as stack:
        lasting = [create(stack) for _ in range(3)]
        limited = create(stack, "--lifetime", "20s")
        stack.wire.cut()
        began = time.time()
        check(until(lambda: limited not in runsc_ids([stack.node_data]), 60),
              "the node keeps a lifetime alone", failures)
        check(set(lasting) <= runsc_ids([stack.node_data]), "the others go on", failures)
        known = rows(stack, "--all")
        check(all(one in known for one in lasting), "the server answers meanwhile", failures)
        out = stack.chalk("compute", "exec", lasting[0], "--", "true", check=False)
        check(out.returncode != 0 and out.stderr.strip() != "", f"and says what it cannot do ({out.stderr.strip()[:120]})",
              failures)
        time.sleep(max(0, options.seconds - (time.time() - began)))
        stack.wire.heal()
        stack.wait_node()
        check(until(lambda: runsc_ids([stack.node_data]) == set(rows(stack)), 120),
              "afterwards runs what the server says and nothing else", failures)
        fresh = create(stack)
        check(stack.chalk("compute", "exec", fresh, "--", "echo", "here").stdout == "here\n", "new work is taken", failures)
        stack.remove_sandboxes()
        check(stack.settle(120), "all can be ended", failures)
        stack.stop(stack.node)
        stack.stop(stack.server)
        for log in stack.export_logs(stack.scratch / "logs"):
            check(stack.replay(log).returncode == 0, f"{log.name} replays", failures)


def full_disk(options, failures):
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="chalk-stack-"))
    (scratch / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "chalk-test", scratch / "data"], check=True)
    try:
        with support.Stack(options.bin, split=True, scratch=scratch) as stack:
            made = [create(stack) for _ in range(2)]
            ballast = scratch / "data" / "ballast"
            with open(ballast, "wb") as file:
                try:
                    while True:
                        file.write(b"x" * 65536)
                except OSError:
                    pass
            refused = create(stack, check=False)
            check(refused is None, "a full disk takes no new work", failures)
            check(set(made) <= set(rows(stack)), "what was acknowledged is still there", failures)
            ballast.unlink()
            check(until(lambda: create(stack, check=False) is not None, 90), "with room again it goes on", failures)
            stack.kill_server()
            stack.start_server()
            check(set(made) <= set(rows(stack, "--all")), "nothing acknowledged is lost by a kill after it", failures)
    finally:
        subprocess.run(["umount", "-l", scratch / "data"], check=False)
        subprocess.run(["rm", "-rf", scratch], check=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    failures = []
    cut(options, failures)
    full_disk(options, failures)
    print(f"{len(failures)} of these failed; repeat with: python3 tests/churn/cut.py {options.bin}" if failures else "all good")
    print(f"{0 if failures else 1} passed, {1 if failures else 0} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
