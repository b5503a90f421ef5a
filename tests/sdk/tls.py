"""Over https: run_tls.sh gives the server a certificate and this process its root, as SSL_CERT_FILE."""
import os
import subprocess
import sys

import world
from chalkcompute import Container
from chalkcompute._container import ContainerSession
from world import Case, wait_for

LIST = "from chalkcompute import Container; print(len(Container.list_all()))"


def said_by(words, **environment):
    """A client of its own: the one of this process has read its roots already. None takes a name away."""
    changed = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    return subprocess.run(words, env=changed, capture_output=True, text=True, timeout=world.PATIENCE)


class Tls(Case):
    def setUp(self):
        super().setUp()
        self.assertTrue(os.environ["CHALK_API_SERVER"].startswith("https://"))

    def test_a_container_from_run_to_stop(self):
        name = self.name("secret")
        container = self.container(name=name)
        self.assert_in_gvisor(self.output(container))
        session = container.new_session("sh", "-c", "while read line; do echo got $line; done; dmesg; exit 3")
        text, code = "", None
        session.write("first\n")
        for event in session.events():
            if isinstance(event, ContainerSession.OutputEvent):
                if not text:
                    self.assertEqual(event.text, "got first\n")  # while it still waits for more
                    session.write("second\n")
                    session.close_stdin()
                text += event.text
            if isinstance(event, ContainerSession.ExitedEvent):
                code = event.status.exit_code
        self.assertTrue(text.startswith("got first\ngot second\n"), text)
        self.assertIn("gVisor", text)
        self.assertEqual(code, 3)
        known = container.id
        self.assertEqual({info.id: info.name for info in Container.list_all()}[known], name)
        by_name = Container.from_name(name)
        self.assertEqual(by_name.id, known)
        self.assert_in_gvisor(self.output(by_name))
        container.stop()
        wait_for(lambda: Container.from_id(known).refresh().status == "Stopped", "the container's end")
        self.assertNotIn(known, [info.id for info in Container.list_all()])

    def test_the_command_line(self):
        done = world.stack.chalk("compute", "run", "-i", world.IMAGE, "--", "sh", "-c", "cat; dmesg; exit 5", check=False,
                                 input="words\n")
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertTrue(done.stdout.startswith("words\n"), done.stdout)
        self.assertIn("gVisor", done.stdout)

    def test_by_a_name_of_the_certificate(self):
        url = os.environ["CHALK_API_SERVER"].replace("127.0.0.1", "localhost")
        for words in ([sys.executable, "-c", LIST], [world.stack.bin / "chalk", "compute", "ls"]):
            done = said_by(words, CHALK_API_SERVER=url)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_plain_http_is_not_answered(self):
        url = os.environ["CHALK_API_SERVER"].replace("https://", "http://")
        for words in ([sys.executable, "-c", LIST], [world.stack.bin / "chalk", "compute", "ls"]):
            done = said_by(words, CHALK_API_SERVER=url)
            self.assertNotEqual(done.returncode, 0, done.stdout)

    def test_without_the_root_a_client_refuses_the_server(self):
        for words, says in (([sys.executable, "-c", LIST], "UnknownIssuer"),
                            ([world.stack.bin / "chalk", "compute", "ls"], "SSL_CERT_FILE")):
            self.assertEqual(said_by(words).returncode, 0, "the same with the root")
            done = said_by(words, SSL_CERT_FILE=None)
            self.assertNotEqual(done.returncode, 0, done.stdout)
            self.assertIn(says, done.stderr)
