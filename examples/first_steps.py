"""First steps with the public client. Needs the environment that chalk-server's --env-file wrote:

    . chalk.env && python examples/first_steps.py
"""
from chalkcompute import Sandbox

# Lives for ten minutes at most, in a gVisor sandbox of its own.
sandbox = Sandbox(image="python:3.12-slim-bookworm", name="first-steps", cpu="1", memory="512Mi",
                  lifetime="600s").run()
print("sandbox:", sandbox.info.id, sandbox.info.status)

result = sandbox.exec("python", "-c", "import platform; print('hello from', platform.platform())")
print(result.stdout_text.strip())
print("its kernel says:", sandbox.exec("sh", "-c", "cut -d' ' -f1-4 /proc/version").stdout_text.strip())
print("exit codes come through:", sandbox.exec("sh", "-c", "exit 42").exit_code)

# Output as it comes.
for event in sandbox.exec_stream("sh", "-c", "for i in 1 2 3; do echo step $i; sleep 0.2; done"):
    if event.stdout:
        print("stream:", event.stdout.strip())
sandbox.terminate()
