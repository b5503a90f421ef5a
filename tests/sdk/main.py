"""Runs the cases of this folder against one server: main.py BINDIR [--certificate PEM --key PEM] [names of cases...]"""
import argparse
import pathlib
import sys
import time
import unittest
import warnings

import world
from stack import Stack

# A node of many small sandboxes, whatever the machine: nothing here measures.
NODE = ["--cpu", "64", "--memory", "32Gi", "--disk", "200Gi", "--start-slots", "4"]
MODULES = ["containers", "sandboxes", "sessions", "files", "refusals", "access", "many", "restarts", "examples"]


class Result(unittest.TextTestResult):
    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.stream.writeln(f"    {time.monotonic() - self.began:.1f}s")


def main() -> int:
    warnings.simplefilter("ignore", DeprecationWarning)  # Container is an older name, and is tested
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    for option in ("--certificate", "--key"):
        parser.add_argument(option)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_intermixed_args()
    https = ["--certificate", asked.certificate, "--key", asked.key] if asked.certificate else []
    begin = time.monotonic()
    with Stack(asked.bin, server_args=NODE + https) as stack:
        stack.use()
        world.stack = stack
        names = asked.names or MODULES
        suite = unittest.defaultTestLoader.loadTestsFromNames(names)
        result = unittest.TextTestRunner(verbosity=2, resultclass=Result, stream=sys.stdout).run(suite)
        bad = len(result.failures) + len(result.errors)
        if bad:
            print("---- the end of the server's log\n" + stack.tails())
    skipped = len(result.skipped)
    print(f"{result.testsRun - bad - skipped} passed, {bad} failed, {skipped} skipped "
          f"in {time.monotonic() - begin:.0f}s")
    return 1 if bad or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
