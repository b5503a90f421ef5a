"""Container, the client's older class."""
import time
import urllib.request

import world
from chalkcompute import Container
from chalkcompute._container import ContainerError
from world import Case, wait_for


class Containers(Case):
    def test_a_command_runs_inside_gvisor(self):
        container = self.container()
        self.assertEqual(container.info.status, "Running")
        self.assertRegex(container.id, r"^sb-[0-9a-f]{16}$")
        self.assert_in_gvisor(self.output(container))

    def test_exit_codes_and_both_streams_come_back(self):
        container = self.container()
        done = container.exec("sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((done.stdout, done.stderr, done.exit_code), (b"out\n", b"err\n", 7))
        done = container.exec("sh", "-c", "kill -9 $$")
        self.assertEqual(done.exit_code, 128 + 9)
        done = container.exec("ls", "/does-not-exist")
        self.assertEqual(done.exit_code, 2)
        self.assertIn("/does-not-exist", done.stderr_text)

    def test_bytes_are_not_changed(self):
        done = self.container().exec(
            "python3", "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)")
        self.assertEqual(done.stdout, bytes(range(256)) * 4096)

    def test_a_program_that_is_not_there_is_an_error_that_names_it(self):
        done = self.container().exec("/no/such/program")
        self.assertEqual(done.exit_code, 127)
        self.assertIn("/no/such/program", done.stderr_text)

    def test_a_command_over_its_timeout_is_ended(self):
        container = self.container()
        begin = time.monotonic()
        with self.assertRaises(ContainerError) as caught:
            container.exec("sleep", "1000", timeout_secs=2)
        self.assertLess(time.monotonic() - begin, 60)
        self.assertIn("timeout", str(caught.exception))
        # It is gone, and the container goes on.
        self.assertEqual(container.exec("sh", "-c", "grep -al '^sleep.1000' /proc/[0-9]*/cmdline | wc -l")
                         .stdout_text.strip(), "0")

    def test_environment_entrypoint_and_image_settings(self):
        container = self.container(
            env={"COLOUR": "blue green", "EMPTY": ""},
            entrypoint=["python3", "-c", "import os, time\nopen('/tmp/began', 'w').write(os.environ['COLOUR'])\n"
                                         "time.sleep(1000)"])
        wait_for(lambda: container.exec("cat", "/tmp/began").stdout == b"blue green", "the entrypoint's file")
        lines = self.output(container)("env").splitlines()
        self.assertIn("COLOUR=blue green", lines)
        self.assertIn("EMPTY=", lines)
        self.assertTrue(any(line.startswith("PATH=/usr/local/bin") for line in lines), lines)

    def test_found_by_id_and_by_name_and_in_the_list(self):
        name = self.name("finds")
        container = self.container(name=name, tags={"team": "red"})
        by_id = Container.from_id(container.id)
        self.assertEqual((by_id.id, by_id.info.name), (container.id, name))
        by_name = Container.from_name(name)
        self.assertEqual(by_name.id, container.id)
        self.assertEqual(by_name.exec("echo", "same").stdout, b"same\n")
        listed = {info.id: info for info in Container.list_all()}
        self.assertEqual((listed[container.id].name, listed[container.id].status), (name, "Running"))

    def test_stop_ends_it(self):
        name = self.name("stops")
        container = self.container(name=name)
        known = container.id
        container.stop()
        again = Container.from_id(known)
        wait_for(lambda: again.refresh().status == "Stopped", "the container's end")
        self.assertNotIn(known, [info.id for info in Container.list_all()])
        with self.assertRaises(ContainerError):
            again.exec("true")
        with self.assertRaises(ContainerError):
            Container.from_name(name)

    def test_a_grace_period_lets_it_finish(self):
        container = self.container(entrypoint=["python3", "-c", (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
            "open('/tmp/ready', 'w').close()\n"
            "time.sleep(1000)")])
        wait_for(lambda: container.exec("test", "-e", "/tmp/ready").exit_code == 0, "the handler")
        known = container.id
        begin = time.monotonic()
        container.stop(grace_period_seconds=60)
        ended = Container.from_id(known)
        wait_for(lambda: ended.refresh().status == "Stopped", "the container's end")
        self.assertLess(time.monotonic() - begin, 55, "it ended by itself, long before it would be killed")

    def test_a_lifetime_ends_it(self):
        container = self.container(lifetime="5s")
        wait_for(lambda: container.refresh().status == "Succeeded", "the end of its lifetime")

    def test_a_main_process_that_fails_is_told(self):
        container = Container(image=world.IMAGE, **world.SMALL, entrypoint=["sh", "-c", "sleep 3; exit 3"])
        self.addCleanup(self.stop, container)
        container.run(ready_timeout=world.PATIENCE)
        wait_for(lambda: container.refresh().status == "Failed", "the failure")

    def test_a_published_port_answers(self):
        container = self.container(port=8000, entrypoint=["python3", "-m", "http.server", "8000", "--directory",
                                                          "/etc"])
        url = container.refresh().web_url
        self.assertRegex(url, r"^http://[0-9.]+:[0-9]+$")

        def fetched():
            try:
                return urllib.request.urlopen(url + "/hostname", timeout=10).read()
            except OSError:
                return None
        inside = self.output(container)("cat", "/etc/hostname")
        self.assertEqual(wait_for(fetched, "an answer from " + url).decode(), inside)
