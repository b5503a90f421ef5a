"""What the cases share: the server that main.py started, and sandboxes that end with their case."""
import os
import platform
import time
import unittest

from chalkcompute import Container, Sandbox

IMAGE = "python:3.12-slim-bookworm"
SMALL = {"cpu": "100m", "memory": "256Mi"}
PATIENCE = 120  # seconds; the machine may be slow and busy
stack = None    # set by main.py


def wait_for(condition, what, seconds=PATIENCE):
    """The first true value of condition()."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come within {seconds} s")


class Case(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        ended = stack.server.poll()
        if ended is not None:
            self.fail(f"the server ended with {ended} before this case")

    def name(self, word):
        return f"{word}-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"

    def container(self, **wanted):
        made = Container(**{"image": IMAGE, **SMALL, **wanted})
        self.addCleanup(self.stop, made)
        return made.run(ready_timeout=PATIENCE)

    def stop(self, container):
        if container.id is not None:
            container.stop()

    def sandbox(self, **wanted):
        made = Sandbox(**{"image": IMAGE, **SMALL, **wanted})
        self.addCleanup(self.terminate, made)
        return made.run(timeout=PATIENCE)

    def terminate(self, sandbox):
        if sandbox.id is not None:
            sandbox.terminate()

    def assert_in_gvisor(self, run):
        """`run(*words)` gives what a command writes: its kernel must be gVisor's, its host not ours."""
        self.assertIn("gVisor", run("dmesg"))
        self.assertNotEqual(run("cat", "/proc/sys/kernel/osrelease").strip(), platform.release())
        self.assertNotEqual(run("cat", "/proc/sys/kernel/hostname").strip(), platform.node())
        self.assertNotIn("chalk-server", run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))

    def output(self, where):
        def run(*words):
            done = where.exec(*words)
            self.assertEqual(done.exit_code, 0, (words, done.stdout, done.stderr))
            return done.stdout_text
        return run
