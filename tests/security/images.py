"""Images that nobody should make: none of them writes outside the store of layers, and who asks for one is told why."""
import gzip
import os
import pathlib
import shutil
import socket
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor

import world
from evil_registry import HOST, entry, layer
from world import Case


class Images(Case):
    def setUp(self):
        super().setUp()
        # What a way out would reach: a folder of the host beside the store.
        self.outside = world.world.stack.scratch / f"outside-{self._testMethodName[:20]}"
        self.outside.mkdir(exist_ok=True)
        (self.outside / "kept").write_text("kept")

    def ask(self, image, *words, timeout=world.PATIENCE):
        words = words or ("/bin/true",)
        out = world.world.attacker.chalk("compute", "run", "--json", "--memory", "128Mi", "--cpu", "200m", "--disk",
                                         "64Mi", image, "--", *words, check=False, timeout=timeout)
        return out.returncode, out.stdout + out.stderr

    def untouched(self):
        self.assertEqual([path.name for path in self.outside.iterdir()], ["kept"])
        self.assertEqual((self.outside / "kept").read_text(), "kept")

    def all_asked(self, images):
        """What became of each, in order. A node pulls a bad image several times before it gives up, so all at once."""
        with ThreadPoolExecutor(12) as pool:
            said = list(pool.map(self.ask, images))
        for status, text in said:
            for kept in (world.world.stack.data, world.world.stack.node_data):  # not what the image itself names
                self.assertNotIn(str(kept), text, "where the host keeps things")
            self.assertNotEqual(status, 0, text)  # these images hold no program: none can end well
        self.assertEqual([path.name for path in self.outside.iterdir()], ["kept"])
        self.assertEqual((self.outside / "kept").read_text(), "kept")
        self.assertFalse((world.world.node_data / "escaped").exists())
        self.assert_alive()
        return said

    def refused(self, images, *reasons):
        """None is pulled; the client hears so, and the node's log says why."""
        log = world.world.stack.scratch / "node.log"
        before = log.stat().st_size
        for status, text in self.all_asked(images):
            self.assertEqual(status, 125, text)
            self.assertRegex(text, "image (cannot|could not) be pulled")
        said = log.read_bytes()[before:].decode(errors="replace")
        for reason in reasons:
            self.assertIn(reason, said)

    def test_names_that_lead_out_of_the_layer(self):
        push, away = world.world.evil.push, str(self.outside)
        self.refused([push(layer(entry(name, content=b"x"))) for name in (
            "../escaped", "../" * 20 + away.lstrip("/") + "/escaped", "a/../../escaped", "./../escaped")], "a path with")
        self.all_asked([push(layer(entry(away + "/escaped", content=b"x")))])

    def test_links_that_lead_out_of_the_layer(self):
        push, away = world.world.evil.push, str(self.outside)
        images = []
        for target in (away, "../" * 20 + away.lstrip("/"), "/proc/self/root" + away):
            way = entry("way", tarfile.SYMTYPE, link=target)
            images += [
                push(layer(way, entry("way/escaped", content=b"x"))),
                # Across two layers: the first brings the link, the second goes through it.
                push(layer(way), layer(entry("way/escaped", content=b"x"), entry("way/.wh.kept"))),
                push(layer(way), layer(entry("way/.wh..wh..opq"))),
                push(layer(entry("hard", tarfile.LNKTYPE, link=target + "/kept"), entry("hard", content=b"changed")))]
        images.append(push(layer(entry("a", tarfile.SYMTYPE, link="b"), entry("b", tarfile.SYMTYPE, link="a"),
                                 entry("a/escaped", content=b"x"))))
        self.all_asked(images)

    def test_what_the_sandbox_mounts_does_not_follow_links(self):
        """/etc, /tmp, /proc and the helper's folder as links to the host: mounts must not land there."""
        images = []
        for name in ("etc", "tmp", "proc", ".chalk", "dev", "sys", "etc/resolv.conf", "etc/hosts", "etc/passwd"):
            folders = [entry("etc", tarfile.DIRTYPE)] if "/" in name else []
            images.append(world.world.evil.push(layer(entry("bin", tarfile.DIRTYPE), *folders, entry(
                name, tarfile.SYMTYPE, link="../" * 20 + str(self.outside).lstrip("/")))))
        self.all_asked(images)

    def test_devices_in_layers_open_nothing(self):
        program = pathlib.Path("/bin/busybox")
        if not program.exists():
            self.skipTest("/bin/busybox is not there")
        image = world.world.evil.push(layer(
            entry("bin", tarfile.DIRTYPE), entry("bin/busybox", content=program.read_bytes()), entry("bin/sleep", tarfile.SYMTYPE, link="busybox"),
            entry("mem", tarfile.CHRTYPE, device=(1, 1), mode=0o666), entry("disk", tarfile.BLKTYPE, device=(254, 0), mode=0o666),
            entry("pipe", tarfile.FIFOTYPE), entry("plain", content=b"can be opened", mode=0o644)))
        status, said = self.ask(image, "/bin/busybox", "sh", "-c",
                                "for one in /plain /mem /disk; do /bin/busybox head -c 16 $one && echo OPENED $one; done; exit 0")
        # The ordinary file shows that the sandbox ran and would have said so.
        self.assertEqual((status, said.count("OPENED /plain"), said.count("OPENED")), (0, 1, 1), said)
        self.assert_alive()

    def test_bytes_that_are_not_what_their_digest_says(self):
        evil, images = world.world.evil, []
        for spoil in (lambda raw: raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:], lambda raw: raw + b"more"):
            images.append(evil.push(layer(entry("a", content=os.urandom(5000)))))
            stored = evil.stored(evil.last["layers"][0]["digest"])
            stored.write_bytes(spoil(stored.read_bytes()))
        # Another tar inside than the configuration says.
        images.append(evil.push(layer(entry("c", content=os.urandom(10))), diff_ids=["sha256:" + "0" * 64]))
        self.refused(images, "expected sha256:" + "0" * 64)

    def test_layers_that_are_none(self):
        push = world.world.evil.push
        self.all_asked([push(raw, compress=lambda one: one) for raw in (
            b"", b"not a tar", os.urandom(10_000), layer(entry("a", content=b"x" * 9000))[:700])] +
            [push(layer(entry("x" * 5000, content=b"x"))), push(layer(entry("a/" * 500 + "b", content=b"x")))])

    def test_a_layer_that_unpacks_to_far_more(self):
        free = [shutil.disk_usage(world.world.node_data).free]
        over = threading.Event()

        def watch():
            while not over.wait(0.05):
                free.append(shutil.disk_usage(world.world.node_data).free)
        watching = threading.Thread(target=watch)
        watching.start()
        header = tarfile.TarInfo("bomb")
        header.size = 16 << 30  # there is room for it
        # 16 GiB of zeros would be 16 MiB; what is here ends after 4 GiB.
        bomb = gzip.compress(header.tobuf(tarfile.GNU_FORMAT)) + gzip.compress(bytes(64 << 20), 9) * 64
        try:
            self.refused([world.world.evil.push(bomb, compress=lambda one: one, diff_ids=["sha256:" + "1" * 64])],
                         "times as many")
        finally:
            over.set()
            watching.join()
        self.assertLess(free[0] - min(free), 3 << 30)

    def test_configurations_that_are_none(self):
        good = layer(entry("a", content=b"x"))
        self.all_asked([world.world.evil.push(good, config=config) for config in (
            {"User": "../../root"}, {"User": "no-such-user"}, {"User": "99999999999999"}, {"WorkingDir": "../../.."},
            {"Env": ["=x", "A" * 100_000, "LD_PRELOAD=/x"]}, {"Env": "x"}, {"Cmd": 7}, {"Entrypoint": [""]},
            {"Cmd": ["a\0b"]}, {"Env": ["A\0B=c"]})])

    def test_images_of_places_that_nobody_may_ask(self):
        """The server fetches for whoever asks: not from its own loopback, its network, or the cloud's metadata."""
        came, listener = [], socket.create_server(("", 0))
        port = listener.getsockname()[1]

        def accept():
            while True:
                try:
                    one, peer = listener.accept()
                except OSError:
                    return
                came.append(peer)
                one.close()
        threading.Thread(target=accept, daemon=True).start()
        self.addCleanup(listener.close)
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        world.wait_for(lambda: came, "the test's own connection")
        came.clear()
        private = "its address is private or local"
        unusual = {"127.0.0.1.": "is no host or host:port", "user@127.0.0.1": "the digest must be sha256:"}
        for host in ("127.0.0.1", "localhost", "0.0.0.0", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]",
                     "127.0.0.1.", "LOCALHOST", "user@127.0.0.1", "017700000001", "[::]", "0"):
            status, said = self.ask(f"{host}:{port}/a/b:c")
            self.assertEqual(status, 125, (host, said))
            self.assertIn(unusual.get(host, private), said, host)
        for host in ("169.254.169.254", "10.0.0.1", "192.168.0.1", "172.16.0.1", "[fd00::1]", "[fe80::1]"):
            status, said = self.ask(f"{host}/a/b:c")
            self.assertEqual(status, 125, (host, said))
            self.assertIn(private, said, host)
        self.assertEqual(came, [])

    def test_names_of_images_are_no_paths(self):
        for name in (f"{HOST}/../../x", f"{HOST}/a/../../b", f"{HOST}/a:../../x", f"{HOST}/a@sha256:../x", "..", "/etc/passwd",
                     f"{HOST}/a b", f"{HOST}/a\nb", f"{HOST}/a?x=y", f"{HOST}/a#b", f"{HOST}/%2e%2e/x", "docker.io"):
            status, said = self.ask(name)
            self.assertEqual(status, 125, (name, said))
        self.assert_alive()
