"""Checks the Indexed Job of a sweep as far as that goes without a cluster, and writes its command.

Usage: check_manifest.py MANIFEST SCRIPT, with a Python that has PyYAML, as build/tools/venv has.
"""
import pathlib
import sys

import yaml


def fields(text):
    job = yaml.safe_load(text)
    assert job["apiVersion"] == "batch/v1" and job["kind"] == "Job", "expected a Job of batch/v1"
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}, "expected every mount to be a volume"
    assert container["command"] == ["/bin/sh", "-c"] and len(container["args"]) == 1
    env = {one["name"]: one["value"] for one in container["env"]}
    return {"mode": job["spec"]["completionMode"], "completions": job["spec"]["completions"],
            "restart": pod["restartPolicy"], "shards": int(env["SHARDS"]), "command": container["args"][0]}


def main():
    text = pathlib.Path(sys.argv[1]).read_text()
    found = fields(text)
    wrong = [name for name, good in {
        "completionMode": found["mode"] == "Indexed",
        "restartPolicy": found["restart"] in ("OnFailure", "Never"),
        "SHARDS": found["shards"] == found["completions"],
        "--shard": '"$JOB_COMPLETION_INDEX/$SHARDS"' in found["command"]}.items() if not good]
    if wrong:
        raise SystemExit(f"{sys.argv[1]}: {', '.join(wrong)}: not as an Indexed Job of shards needs it")
    pathlib.Path(sys.argv[2]).write_text(found["command"] + "\n")


if __name__ == "__main__":
    main()
