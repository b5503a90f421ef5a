"""Sandbox and SandboxClient."""
import signal
import time

import world
from chalkcompute import Sandbox, SandboxClient
from chalkcompute._sandbox import SandboxCreationError, SandboxNotFoundError, SandboxTerminatedError
from world import Case, wait_for


class Sandboxes(Case):
    def test_a_command_runs_inside_gvisor(self):
        sandbox = self.sandbox()
        self.assertEqual(sandbox.info.status, "running")
        self.assert_in_gvisor(self.output(sandbox))

    def test_exit_codes_signals_and_both_streams(self):
        sandbox = self.sandbox()
        done = sandbox.exec("sh", "-c", "echo out; echo err >&2; exit 9")
        self.assertEqual((done.stdout, done.stderr, done.exit_code, done.error), (b"out\n", b"err\n", 9, None))
        done = sandbox.exec("sh", "-c", "kill -15 $$")
        self.assertEqual((done.exit_code, done.signal), (None, signal.SIGTERM))

    def test_directory_and_variables_of_a_command(self):
        sandbox = self.sandbox(env={"A": "of the sandbox", "B": "kept"})
        done = sandbox.exec("sh", "-c", "pwd; echo $A; echo $B", workdir="/usr/lib", env={"A": "of the command"})
        self.assertEqual(done.stdout_text.splitlines(), ["/usr/lib", "of the command", "kept"])

    def test_a_stream_of_output_comes_as_it_is_written(self):
        sandbox = self.sandbox()
        process = sandbox.exec_start("sh", "-c", "echo first; cat; echo last >&2; exit 4")
        events = process.output()
        started = next(events)
        self.assertTrue(started.is_started)
        self.assertEqual(next(events).stdout, "first\n")  # while it still waits for its input
        process.write_stdin("through ")
        process.write_stdin(b"the pipe\n")
        self.assertEqual(next(events).stdout, "through the pipe\n".removesuffix("the pipe\n") + "the pipe\n")
        process.close_stdin()
        rest = list(events)
        self.assertEqual("".join(event.stderr or "" for event in rest), "last\n")
        self.assertEqual(rest[-1].exit_code, 4)

    def test_a_megabyte_of_input_and_output(self):
        sandbox = self.sandbox()
        process = sandbox.exec_start("sha256sum")
        block = bytes(range(256)) * 4096
        process.write_stdin(block * 5)
        process.close_stdin()
        done = process.wait()
        import hashlib
        self.assertEqual(done.stdout_text.split()[0], hashlib.sha256(block * 5).hexdigest())
        done = sandbox.exec("python3", "-c", "import sys; sys.stdout.write('x' * 3_000_000)")
        self.assertEqual((len(done.stdout), done.exit_code), (3_000_000, 0))

    def test_a_signal_reaches_the_process(self):
        sandbox = self.sandbox()
        process = sandbox.exec_start("sh", "-c", "trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.1; done")
        text = ""
        sent = False
        for event in process.output():
            text += event.stdout or ""
            if not sent and "ready" in text:
                process.send_signal(signal.SIGUSR1)
                sent = True
            code = event.exit_code
        self.assertEqual((text, code), ("ready\ncaught\n", 3))

    def test_a_command_over_its_timeout_is_told(self):
        done = self.sandbox().exec("sleep", "1000", timeout_secs=2)
        self.assertIn("timed_out", done.error)

    def test_exec_stream_yields_events(self):
        events = list(self.sandbox().exec_stream("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"))
        self.assertEqual("".join(event.stdout or "" for event in events), "1\n2\n3\n")
        self.assertEqual(events[-1].exit_code, 0)

    def test_found_by_id_and_by_name_and_in_the_list(self):
        name = self.name("box")
        sandbox = self.sandbox(name=name)
        by_id = Sandbox.from_id(sandbox.id)
        self.assertEqual((by_id.info.name, by_id.info.status), (name, "running"))
        by_name = Sandbox.from_name(name)
        self.assertEqual(by_name.id, sandbox.id)
        self.assertEqual(by_name.exec("hostname").stdout_text.strip(), name)
        self.assertIn(sandbox.id, [info.id for info in Sandbox.list_all()])
        with self.assertRaises(SandboxNotFoundError):
            Sandbox.from_name("nobody-has-this-name")
        with self.assertRaises(SandboxNotFoundError):
            Sandbox.from_id("sb-00000000ffffffff")

    def test_terminate_ends_it(self):
        sandbox = self.sandbox()
        sandbox.exec("sh", "-c", "echo something > /tmp/file")
        known = sandbox.id
        sandbox.terminate()
        ended = Sandbox.from_id(known)
        wait_for(lambda: ended.refresh().status == "terminated", "its end")
        with self.assertRaises(Exception) as caught:
            ended.exec("true")
        self.assertIn("does not run", str(caught.exception))

    def test_a_lifetime_ends_it(self):
        sandbox = self.sandbox(lifetime="5s")
        info = wait_for(lambda: (lambda now: now if now.status == "terminated" else None)(sandbox.refresh()),
                        "the end of its lifetime")
        self.assertIn("lifetime", info.status_message)

    def test_a_main_process_that_ends_is_told_with_its_code(self):
        sandbox = self.sandbox(entrypoint=["sh", "-c", "sleep 3; exit 5"])
        info = wait_for(lambda: (lambda now: now if now.status != "running" else None)(sandbox.refresh()), "its end")
        self.assertEqual(info.status, "failed")
        self.assertIn("exit code 5", info.status_message)
        sandbox = self.sandbox(entrypoint=["sh", "-c", "sleep 3"])
        wait_for(lambda: sandbox.refresh().status == "succeeded", "its end")

    def test_a_program_that_is_not_there_fails_the_start_with_words(self):
        with self.assertRaises(SandboxCreationError) as caught:
            self.sandbox(entrypoint=["/no/such/program"])
        self.assertIn("/no/such/program", str(caught.exception))

    def test_out_of_memory_is_told(self):
        sandbox = self.sandbox(memory="128Mi", entrypoint=[
            "python3", "-c", "import time; time.sleep(3); held = [bytearray(1 << 20) for _ in range(4096)]"])
        info = wait_for(lambda: (lambda now: now if now.status != "running" else None)(sandbox.refresh()), "its end")
        self.assertEqual(info.status, "failed", info)
        self.assertIn("memory", info.status_message)

    def test_a_client_object_does_it_all(self):
        with SandboxClient.from_env() as client:
            sandbox = client.create(world.IMAGE, **world.SMALL, timeout=world.PATIENCE)
            self.addCleanup(self.terminate, sandbox)
            self.assertEqual(sandbox.exec("echo", "hello").stdout_text, "hello\n")
            self.assertIn(sandbox.id, [info.id for info in client.list()])
            self.assertEqual(client.get(sandbox.id).exec("echo", "again").stdout_text, "again\n")
            sandbox.terminate()

    def test_without_waiting_the_first_command_waits(self):
        sandbox = Sandbox(image=world.IMAGE, **world.SMALL)
        self.addCleanup(self.terminate, sandbox)
        sandbox.run(wait=False)
        self.assertEqual(sandbox.exec("echo", "ran").stdout_text, "ran\n")
