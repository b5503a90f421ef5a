"""Runs the cases of this folder against one server with two environments: main.py BINDIR [names...]"""
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import world  # noqa: E402

MODULES = ["calls", "networks", "neighbours", "insides", "raw_bytes", "images"]


class Result(unittest.TextTestResult):
    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.stream.writeln(f"    {time.monotonic() - self.began:.1f}s")


def main() -> int:
    begin = time.monotonic()
    with world.World(sys.argv[1]) as made:
        world.world = made
        suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[2:] or MODULES)
        result = unittest.TextTestRunner(verbosity=2, resultclass=Result, stream=sys.stdout).run(suite)
        bad = len(result.failures) + len(result.errors)
        if bad:
            print("---- the end of the server's log\n" + made.stack.tails())
    print(f"in {time.monotonic() - begin:.0f}s, {len(result.skipped)} skipped")
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed")
    return 1 if bad or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
