#!/usr/bin/env python3
"""A real run, with server and node killed in the middle, replays in the simulator to the same digests.

    replay.py BIN_DIR [--record FOLDER]      also keeps the logs, for tests/replay/recorded
"""
import argparse
import gzip
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import stack as support  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def work(stack, names):
    """Sandboxes that run, end by themselves, are ended, and cannot start."""
    ids = []
    for name in names:
        out = stack.chalk("compute", "run", "busybox", "--detach", "--name", name, "--cpu", "100m",
                          "--memory", "64Mi", "--json", "--", "sleep", "600")
        ids.append(json.loads(out.stdout)["id"])
    out = stack.chalk("compute", "exec", ids[0], "--", "sh", "-c", "cat /proc/version")
    assert "gvisor" in out.stdout.lower(), out.stdout
    assert stack.chalk("compute", "run", "busybox", "--rm", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert stack.chalk("compute", "run", "no-such-image-anywhere:1", "--", "true", check=False).returncode != 0
    stack.chalk("compute", "stop", ids[1], "--grace", "0s")
    return ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--record")
    options = parser.parse_args()
    failed = 0
    with support.Stack(options.bin, split=True) as stack:
        work(stack, ["a", "b", "c"])
        stack.kill_server()
        stack.start_server()
        stack.wait_node()
        work(stack, ["d", "e"])
        stack.kill_node()
        stack.start_node()
        stack.wait_node()
        work(stack, ["f", "g"])
        stack.remove_sandboxes()
        assert stack.settle(120), "sandboxes did not end"
        stack.stop(stack.node)
        stack.stop(stack.server)
        logs = stack.export_logs(stack.scratch / "logs")
        for log in logs:
            out = stack.replay(log)
            report = json.loads(out.stdout) if out.stdout else {"same": False}
            good = out.returncode == 0 and report["same"] and report["events"] > 20
            print(f"{'ok' if good else 'FAILED'}: {log.name}: {out.stdout or out.stderr}")
            failed += not good
            # A log that was tampered with is found out.
            bytes_ = bytearray(log.read_bytes())
            bytes_[len(bytes_) // 2] ^= 1
            bad = log.with_suffix(".bad")
            bad.write_bytes(bytes_)
            found = stack.replay(bad).returncode != 0
            print(f"{'ok' if found else 'FAILED'}: a flipped bit in {log.name} is found")
            failed += not found
        if options.record:
            for log in logs:
                target = pathlib.Path(options.record) / (log.name + ".gz")
                with open(log, "rb") as source, gzip.GzipFile(target, "wb", mtime=0) as out:
                    shutil.copyfileobj(source, out)
                print(f"recorded {target}")
    print(f"{4 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
