"""Sessions that outlive the stream they were begun on."""
import os
import subprocess
import sys

from chalkcompute._container import ContainerSession
from chalkcompute._gen.chalk.sandbox.v2 import process_service_pb as wire
from protobuf import Oneof
from world import Case, wait_for


def text_of(session, count):
    """Output until there are `count` lines."""
    text = ""
    for event in session.events():
        if isinstance(event, ContainerSession.OutputEvent):
            text += event.text
        if text.count("\n") >= count:
            return text
    return text


class Sessions(Case):
    def test_a_session_takes_input_and_tells_its_end(self):
        session = self.container().new_session("sh", "-c", "read line; echo got $line; exit 3")
        self.assertTrue(session.id)
        session.write("words\n")
        result = session.wait()
        self.assertEqual((result.exit_code, result.session_id), (3, session.id))

    def test_a_session_goes_on_after_detaching(self):
        container = self.container()
        session = container.new_session("sh", "-c", "echo one; read line; echo two $line; exit 6")
        self.assertEqual(text_of(session, 1), "one\n")
        session.detach()
        about = container.get_session(session.id)
        self.assertEqual(about.status.state, ContainerSession.Status.State.RUNNING)
        self.assertIn(session.id, [one.id for one in container.list_sessions()])
        again = container.attach_session(session.id)
        again.write("more\n")
        text, code = "", None
        for event in again.events():
            if isinstance(event, ContainerSession.OutputEvent):
                text += event.text
            if isinstance(event, ContainerSession.ExitedEvent):
                code = event.status.exit_code
        self.assertTrue(text.endswith("two more\n"), text)
        self.assertEqual(code, 6)

    def test_a_terminal_has_a_size(self):
        container = self.container()
        session = container.new_session("sh", "-c", "stty size; read line; stty size", pty=(100, 30))
        text = ""
        for event in session.events():
            if isinstance(event, ContainerSession.OutputEvent):
                self.assertEqual(event.stream, ContainerSession.OutputEvent.Stream.PTY_OUTPUT)
                text += event.text
                if text.count("30 100") == 1 and "resized" not in text:
                    session.resize(120, 40)
                    session.write("resized\n")
        self.assertIn("30 100", text)
        self.assertIn("40 120", text)

    def test_a_signal_ends_a_session(self):
        session = self.container().new_session("sleep", "1000")
        session.signal(9)
        self.assertEqual(session.wait().signal, 9)

    def test_who_comes_back_gets_what_it_missed_once(self):
        sandbox = self.sandbox()
        process = sandbox.exec_start("sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; sleep 2; echo end")
        seen = []
        for response in process._response_iterator:
            seen.append(response.seq)
            if response.event.field == "session_attached":
                session = response.event.value.session_id
            if response.event.field == "output_data":
                break
        after = seen[-1]
        requests = iter([wire.OpenSessionRequest(command=Oneof("attach_session", wire.AttachSession(
            sandbox_id=sandbox.id, session_id=session, after_seq=after)))])
        client = sandbox._require_client()
        rest, code = [], None
        for response in client._process_stub.open_session(requests, headers=client._headers):
            if response.seq:
                rest.append(response.seq)
            if response.event.field == "process_exited":
                code = response.event.value.exit_code
                break
        self.assertEqual(rest, list(range(after + 1, after + 1 + len(rest))), "each once and in order")
        self.assertEqual(code, 0)

    def test_a_client_that_dies_leaves_its_process_running(self):
        sandbox = self.sandbox()
        script = (
            "import os, sys\n"
            "from chalkcompute import Sandbox\n"
            "process = Sandbox.from_id(sys.argv[1]).exec_start('sh', '-c', "
            "'echo began; for i in 1 2 3 4 5 6; do sleep 1; done; echo done > /tmp/survived')\n"
            "for event in process.output():\n"
            "    if event.stdout: os._exit(0)\n")
        subprocess.run([sys.executable, "-c", script, sandbox.id], env=dict(os.environ), check=True, timeout=120)
        wait_for(lambda: sandbox.exec("cat", "/tmp/survived").stdout == b"done\n", "the process' last word")

    def test_sessions_end_with_their_sandbox(self):
        container = self.container()
        watched = container.new_session("sleep", "1000")
        terminal = container.new_session("cat", pty=True)
        container.new_session("cat").detach()
        terminal.write("some\n")
        terminal.resize(99, 33)
        container.stop()
        for session in (watched, terminal):
            result = session.wait()
            self.assertNotEqual(result.exit_code, 0, result)

    def test_who_attaches_last_has_the_session(self):
        container = self.container()
        first = container.new_session("cat")
        second = container.attach_session(first.id)
        self.assertIn("another client", first.wait().error)
        second.write("mine\n")
        self.assertEqual(text_of(second, 1), "mine\n")
        second.close_stdin()
        self.assertEqual(second.wait().exit_code, 0)

    def test_an_unknown_session_is_told(self):
        container = self.container()
        with self.assertRaises(Exception) as caught:
            container.attach_session("no-such-session")
        self.assertIn("no-such-session", str(caught.exception))
