"""First steps with the public client. Needs the environment that chalk-server's --env-file wrote:

    . chalk.env && python examples/first_steps.py
"""
from chalkcompute import Container, Sandbox

# A container that lives for ten minutes at most, in a gVisor sandbox of its own.
container = Container(image="python:3.12-slim-bookworm", name="first-steps", cpu="1", memory="512Mi",
                      lifetime="600s").run()
print("container:", container.info.id, container.info.status)

result = container.exec("python", "-c", "import platform; print('hello from', platform.platform())")
print(result.stdout_text.strip())
print("its kernel says:", container.exec("head", "-c", "40", "/proc/version").stdout_text.strip())
print("exit codes come through:", container.exec("sh", "-c", "exit 42").exit_code)
container.stop()

# The same by Sandbox, with output as it comes.
sandbox = Sandbox(image="busybox", cpu="1", memory="256Mi", lifetime="600s").run()
for event in sandbox.exec_stream("sh", "-c", "for i in 1 2 3; do echo step $i; sleep 0.2; done"):
    if event.stdout:
        print("stream:", event.stdout_text.strip() if hasattr(event, "stdout_text") else event.stdout)
sandbox.terminate()
