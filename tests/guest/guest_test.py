"""What chalk-guest promises: run as guest_test.py PROGRAM [unittest's arguments]."""
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PROGRAM = ""
PATIENCE = 60  # seconds


def guest(*words, stdin=b""):
    done = subprocess.run([PROGRAM, *words], input=stdin, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix=f"chalk-guest-{os.getpid()}-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def make(self, name, content=b"content", mode=0o644):
        with open(self.path(name), "wb") as file:
            file.write(content)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def content(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def good(self, *words, stdin=b""):
        status, out, err = guest(*words, stdin=stdin)
        self.assertEqual((status, err), (0, b""), words)
        return out

    def lines(self, *words, stdin=b""):
        return [json.loads(line) for line in self.good(*words, stdin=stdin).decode().splitlines()]

    def bad(self, name, *words, stdin=b""):
        status, out, err = guest(*words, stdin=stdin)
        self.assertEqual(status, 1, (words, out, err))
        self.assertEqual(err.count(b"\n"), 1, "one line says what is wrong")
        error = json.loads(err)
        self.assertEqual(error["errno"], name, error)
        self.assertTrue(error["message"])
        return error["message"]

    def misused(self, *words):
        status, out, err = guest(*words)
        self.assertEqual((status, out), (2, b""), words)
        error = json.loads(err)
        self.assertEqual(error["errno"], "EINVAL")
        return error["message"]


class Misuse(Case):
    def test_every_misuse_exits_with_2_and_says_what_was_expected(self):
        self.assertIn("no command", self.misused())
        self.assertIn("expected one of read, write", self.misused("chmod", "x"))
        self.assertIn("usage: chalk-guest read", self.misused("read"))
        self.assertIn("found 2", self.misused("read", "a", "b"))
        self.assertIn("unknown option --fast", self.misused("read", "a", "--fast"))
        self.assertIn("needs a value", self.misused("read", "a", "--limit"))
        self.assertIn("takes no value", self.misused("list", "a", "--recursive=1"))
        self.assertIn("an empty place", self.misused("stat", ""))
        for value in ("-1", "1x", "", "99999999999999999999", " 1"):
            self.assertIn("expected a number", self.misused("read", "a", "--offset", value))
        self.assertIn("octal", self.misused("write", "a", "--mode", "888"))
        self.assertIn("octal", self.misused("write", "a", "--mode", "10000"))
        self.assertIn("expected a port", self.misused("wait-port", "65536"))
        self.assertIn("expected a port", self.misused("http-get", "0", "/"))
        self.assertIn("expected a path", self.misused("http-get", "80", "no-slash"))
        self.assertIn("expected a path", self.misused("http-get", "80", "/a\r\nHost: b"))


class Read(Case):
    def test_gives_the_bytes_as_they_are(self):
        content = bytes(range(256)) * 5000
        self.make("file", content)
        self.assertEqual(self.good("read", self.path("file")), content)
        self.assertEqual(self.good("read", self.path("file"), "--offset", "255", "--limit=3"), b"\xff\0\1")
        self.assertEqual(self.good("read", self.path("file"), "--offset", "9999999"), b"")
        self.assertEqual(self.good("read", self.path("file"), "--limit", "0"), b"")

    def test_a_name_may_start_with_dashes(self):
        os.chdir(self.folder)
        self.addCleanup(os.chdir, "/")
        self.make("--limit")
        self.assertEqual(self.good("read", "--", "--limit"), b"content")

    def test_refuses_what_is_not_a_regular_file(self):
        self.bad("ENOENT", "read", self.path("missing"))
        self.bad("EISDIR", "read", self.folder)
        os.mkfifo(self.path("pipe"))
        self.assertIn("not a regular file", self.bad("EINVAL", "read", self.path("pipe")))
        self.bad("EINVAL", "read", "/dev/zero")
        self.bad("ENOTDIR", "read", self.make("file") + "/below")
        self.bad("ENAMETOOLONG", "read", "/" + "x" * 5000)

    def test_says_when_nobody_reads(self):
        self.make("file", b"x" * 4_000_000)
        process = subprocess.Popen([PROGRAM, "read", self.path("file")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(PATIENCE), 1)
        self.assertEqual(json.loads(error)["errno"], "EPIPE")


class Write(Case):
    def test_makes_and_replaces_files(self):
        content = bytes(range(256)) * 3000
        self.assertEqual(self.lines("write", self.path("file"), stdin=content), [{"size": len(content)}])
        self.assertEqual(self.content("file"), content)
        self.assertEqual(self.lines("write", self.path("file")), [{"size": 0}])
        self.assertEqual(self.content("file"), b"")
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_keeps_the_mode_and_owner_of_a_file_that_exists(self):
        path = self.make("file", mode=0o741)
        if os.getuid() == 0:
            os.chown(path, 1000, 1001)
        before = os.stat(path)
        self.good("write", path, stdin=b"new")
        after = os.stat(path)
        self.assertEqual((after.st_mode, after.st_uid, after.st_gid), (before.st_mode, before.st_uid, before.st_gid))
        self.assertNotEqual(after.st_ino, before.st_ino, "replaced, not overwritten")

    def test_sets_the_mode_that_is_asked_for(self):
        self.good("write", self.path("file"), "--mode", "0705", stdin=b"x")
        self.assertEqual(stat.S_IMODE(os.stat(self.path("file")).st_mode), 0o705)
        self.good("write", self.path("file"), "--mode=600", stdin=b"x")
        self.assertEqual(stat.S_IMODE(os.stat(self.path("file")).st_mode), 0o600)

    def test_appends(self):
        path = self.make("file", b"one")
        self.good("write", path, "--append", stdin=b"two")
        self.good("write", self.path("other"), "--append", stdin=b"x")
        self.assertEqual((self.content("file"), self.content("other")), (b"onetwo", b"x"))

    def test_makes_parents_only_when_asked_to(self):
        self.bad("ENOENT", "write", self.path("a/b/c"), stdin=b"x")
        self.good("write", self.path("a/b/c"), "--parents", stdin=b"x")
        self.assertEqual(self.content("a/b/c"), b"x")
        self.bad("ENOTDIR", "write", self.path("a/b/c/d/e"), "--parents", stdin=b"x")

    def test_goes_through_a_symbolic_link(self):
        self.make("target")
        os.symlink("target", self.path("link"))
        self.good("write", self.path("link"), stdin=b"new")
        self.assertTrue(os.path.islink(self.path("link")))
        self.assertEqual(self.content("target"), b"new")
        os.symlink("not-yet", self.path("dangling"))
        self.good("write", self.path("dangling"), stdin=b"made")
        self.assertEqual(self.content("not-yet"), b"made")
        os.symlink("loop", self.path("loop"))
        self.bad("ELOOP", "write", self.path("loop"), stdin=b"x")

    def test_input_that_ends_early_changes_nothing(self):
        path = self.make("file", b"old")
        self.assertIn("expected 9 bytes, found 5", self.bad("EPIPE", "write", path, "--size", "9", stdin=b"12345"))
        self.assertEqual(self.content("file"), b"old")
        self.bad("EPIPE", "write", self.path("new"), "--size", "9", stdin=b"12345")
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_refuses_what_is_not_a_regular_file(self):
        self.bad("EISDIR", "write", self.folder, stdin=b"x")
        self.bad("EISDIR", "write", self.path("new/"), stdin=b"x")
        os.mkfifo(self.path("pipe"))
        self.bad("EINVAL", "write", self.path("pipe"), stdin=b"x")

    @unittest.skipIf(os.getuid() != 0, "needs root to become somebody else")
    def test_has_no_more_rights_than_its_user(self):
        os.chmod(self.folder, 0o755)
        closed = self.make("closed", b"old", 0o644)
        opened = self.make("opened", b"old", 0o666)

        def as_nobody(*words):
            done = subprocess.run([PROGRAM, *words], input=b"new", capture_output=True, user=65534, group=65534,
                                  extra_groups=[], timeout=PATIENCE)
            return done.returncode, done.stderr
        status, error = as_nobody("write", closed)
        self.assertEqual((status, json.loads(error)["errno"]), (1, "EACCES"))
        status, error = as_nobody("write", self.path("new"))
        self.assertEqual((status, json.loads(error)["errno"]), (1, "EACCES"))
        # The directory takes no new file, but this file may be written.
        self.assertEqual(as_nobody("write", opened), (0, b""))
        self.assertEqual((self.content("closed"), self.content("opened")), (b"old", b"new"))


class Names(Case):
    def test_stat_describes_links_themselves(self):
        path = self.make("file", b"12345", 0o640)
        os.utime(path, ns=(0, 1_700_000_000_123_456_789))
        os.symlink("file", self.path("link"))
        [found] = self.lines("stat", path)
        self.assertEqual((found["name"], found["type"], found["size"], found["mode"]), (path, "file", 5, 0o640))
        self.assertEqual(found["mtime_ns"], 1_700_000_000_123_456_789)
        self.assertEqual((found["uid"], found["gid"]), (os.getuid(), os.getgid()))
        [link] = self.lines("stat", self.path("link"))
        self.assertEqual((link["type"], link["target"]), ("symlink", "file"))
        [followed] = self.lines("stat", self.path("link"), "--follow")
        self.assertEqual((followed["type"], followed["size"]), ("file", 5))
        self.bad("ENOENT", "stat", self.path("missing"))

    def test_list_is_sorted_and_does_not_follow_links(self):
        os.makedirs(self.path("b/inner"))
        self.make("b/inner/deep")
        self.make("a")
        os.symlink("b", self.path("c"))
        os.mkfifo(self.path("d"))
        found = self.lines("list", self.folder)
        self.assertEqual([(entry["name"], entry["type"]) for entry in found],
                         [("a", "file"), ("b", "directory"), ("c", "symlink"), ("d", "fifo")])
        self.assertEqual(found[2]["target"], "b")
        found = self.lines("list", self.folder, "--recursive")
        self.assertEqual([entry["name"] for entry in found], ["a", "b", "b/inner", "b/inner/deep", "c", "d"])
        # The place itself may be a link.
        self.assertEqual([entry["name"] for entry in self.lines("list", self.path("c"))], ["inner"])

    def test_list_says_when_it_left_something_out(self):
        for number in range(5):
            self.make(f"{number}")
        self.assertEqual(len(self.lines("list", self.folder, "--max", "5")), 5)
        found = self.lines("list", self.folder, "--max", "3")
        self.assertEqual((len(found), found[-1]), (4, {"truncated": True}))

    def test_list_refuses_what_is_no_directory(self):
        self.bad("ENOTDIR", "list", self.make("file"))
        self.bad("ENOENT", "list", self.path("missing"))
        os.mkdir(self.path("empty"))
        self.assertEqual(self.good("list", self.path("empty")), b"")

    def test_names_of_any_bytes_come_as_json(self):
        names = ['quote"back\\slash', "new\nline\ttab\x01", "größe ☃ 𝄞"]
        for name in names:
            self.make(name)
        self.assertEqual(sorted(entry["name"] for entry in self.lines("list", self.folder)), sorted(names))

    def test_names_that_are_not_utf8_also_come_in_hexadecimal(self):
        for name in (b"a\xff\xfeb", b"\xc0\xaf", b"\xed\xa0\x80", b"cut\xe2\x98"):
            with open(os.path.join(os.fsencode(self.folder), name), "wb"):
                pass
        found = self.lines("list", self.folder)
        self.assertEqual(sorted(bytes.fromhex(entry["name_hex"]) for entry in found),
                         sorted([b"a\xff\xfeb", b"\xc0\xaf", b"\xed\xa0\x80", b"cut\xe2\x98"]))
        self.assertIn("a\ufffd\ufffdb", [entry["name"] for entry in found])

    def test_remove_takes_a_tree_only_when_asked_to(self):
        self.make("outside")
        os.makedirs(self.path("tree/a/b"))
        self.make("tree/a/file")
        os.symlink(self.folder, self.path("tree/link"))
        self.bad("ENOTEMPTY", "remove", self.path("tree"))
        self.good("remove", self.path("tree") + "/", "--recursive")
        self.assertEqual(os.listdir(self.folder), ["outside"], "links are removed, not followed")
        self.good("remove", self.path("outside"))
        os.mkdir(self.path("empty"))
        self.good("remove", self.path("empty"))
        self.assertEqual(os.listdir(self.folder), [])
        self.bad("ENOENT", "remove", self.path("missing"))
        self.bad("ENOENT", "remove", self.path("missing"), "--recursive")
        for place in ("/", "//", ".", self.folder + "/."):
            self.bad("EINVAL", "remove", place, "--recursive")

    def test_a_tree_too_deep_is_refused_not_followed(self):
        current = os.open(self.folder, os.O_RDONLY)
        for _ in range(300):
            os.mkdir("d", dir_fd=current)
            below = os.open("d", os.O_RDONLY, dir_fd=current)
            os.close(current)
            current = below
        os.close(current)
        found = self.lines("list", self.folder, "--recursive")
        self.assertEqual(found[-1]["error"], "ELOOP")
        self.bad("ELOOP", "remove", self.path("d"), "--recursive")

    def test_mkdir(self):
        self.good("mkdir", self.path("a"))
        self.bad("EEXIST", "mkdir", self.path("a"))
        self.good("mkdir", self.path("a"), "--parents")
        self.bad("ENOENT", "mkdir", self.path("b/c/d"))
        self.good("mkdir", self.path("b/c/d/"), "--parents", "--mode", "1777")
        self.assertEqual(stat.S_IMODE(os.stat(self.path("b/c/d")).st_mode), 0o1777)
        self.make("file")
        self.bad("EEXIST", "mkdir", self.path("file"), "--parents")
        self.bad("ENOTDIR", "mkdir", self.path("file/below"), "--parents")

    def test_rename(self):
        self.make("a", b"a")
        self.make("b", b"b")
        self.good("rename", self.path("a"), self.path("b"))
        self.assertEqual((os.listdir(self.folder), self.content("b")), (["b"], b"a"))
        self.bad("ENOENT", "rename", self.path("a"), self.path("c"))
        os.mkdir(self.path("folder"))
        self.bad("EISDIR", "rename", self.path("b"), self.path("folder"))


class Killed(Case):
    def test_a_write_that_is_killed_leaves_nothing(self):
        for old in (None, b"old"):
            if old:
                self.make("file", old)
            before = os.listdir(self.folder)
            process = subprocess.Popen([PROGRAM, "write", self.path("file")], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE)
            self.addCleanup(process.stdout.close)
            process.stdin.write(b"half")
            process.stdin.flush()
            self.until(lambda: len(os.listdir(self.folder)) == len(before) + 1)
            process.kill()
            self.assertEqual(process.stdout.read(), b"", "nobody holds its output")
            process.stdin.close()
            process.wait()
            self.until(lambda: os.listdir(self.folder) == before)
            if old:
                self.assertEqual(self.content("file"), old)

    def until(self, done):
        deadline = time.monotonic() + PATIENCE
        while not done():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)


class Watching:
    """A running watch and the events it has told of."""

    def __init__(self, case, *words):
        self.process = subprocess.Popen([PROGRAM, "watch", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        case.addCleanup(self.process.stdout.close)
        case.addCleanup(self.process.wait)
        case.addCleanup(self.process.kill)
        self.buffer = b""
        self.case = case
        self.start = self.next()
        case.assertEqual(self.start["event"], "watching")

    def next(self):
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                self.case.fail("no event came")
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                self.case.fail("watch ended")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def until(self, **wanted):
        while True:
            event = self.next()
            if all(event.get(key) == value for key, value in wanted.items()):
                return event

    def end(self):
        self.process.stdin.close()
        return self.process.wait(PATIENCE)


class Watch(Case):
    def test_tells_what_happens_until_input_closes(self):
        watching = Watching(self, self.folder)
        self.assertEqual(watching.start["directories"], 1)
        path = self.make("file", b"x")
        self.assertEqual(watching.next(), {"event": "created", "name": "file", "type": "file"})
        watching.until(event="modified", name="file")
        os.rename(path, self.path("new"))
        watching.until(event="renamed", name="new", **{"from": "file"})
        os.unlink(self.path("new"))
        watching.until(event="removed", name="new", type="other")
        os.mkdir(self.path("folder"))
        watching.until(event="created", name="folder", type="directory")
        os.symlink("folder", self.path("link"))
        watching.until(event="created", name="link", type="symlink")
        self.assertEqual(watching.end(), 0)

    def test_a_write_by_the_guest_is_one_change(self):
        self.make("old")
        watching = Watching(self, self.folder)
        self.good("write", self.path("new"), stdin=b"x")
        self.assertEqual(watching.next(), {"event": "created", "name": "new", "type": "file"})
        self.good("write", self.path("old"), stdin=b"x")
        self.assertEqual(watching.next(), {"event": "modified", "name": "old", "type": "file"})
        self.assertEqual(watching.end(), 0)

    def test_follows_new_and_renamed_directories(self):
        os.mkdir(self.path("a"))
        watching = Watching(self, self.folder, "--recursive")
        self.assertEqual(watching.start["directories"], 2)
        os.makedirs(self.path("b/c"))
        watching.until(event="created", name="b/c", type="directory")
        self.make("b/c/file")
        watching.until(event="created", name="b/c/file")
        os.rename(self.path("b"), self.path("z"))
        watching.until(event="renamed", name="z", **{"from": "b"})
        self.make("z/c/second")
        watching.until(event="created", name="z/c/second")
        shutil.rmtree(self.path("z"))
        watching.until(event="removed", name="z/c", type="directory")
        self.assertEqual(watching.end(), 0)

    def test_moving_out_is_a_removal_and_moving_in_a_creation(self):
        os.makedirs(self.path("seen/folder/below"))
        watching = Watching(self, self.path("seen"), "--recursive")
        os.rename(self.path("seen/folder"), self.path("folder"))
        watching.until(event="removed", name="folder", type="directory")
        self.make("folder/below/unseen")
        os.rename(self.path("folder"), self.path("seen/again"))
        self.assertEqual(watching.next()["name"], "again")
        watching.until(event="created", name="again/below/unseen")
        self.assertEqual(watching.end(), 0)

    def test_ends_when_its_place_is_removed(self):
        os.mkdir(self.path("place"))
        watching = Watching(self, self.path("place"))
        os.rmdir(self.path("place"))
        watching.until(event="removed", name="")
        self.assertEqual(watching.process.wait(PATIENCE), 0)
        watching.process.stdin.close()

    def test_says_when_it_cannot_watch_everything(self):
        for number in range(5):
            os.mkdir(self.path(f"{number}"))
        self.assertIn({"event": "overflow"}, self.lines("watch", self.folder, "--recursive", "--max", "3"))
        self.bad("ENOENT", "watch", self.path("missing"))


class Ports(Case):
    def test_wait_port_waits_until_somebody_listens(self):
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = str(listening.getsockname()[1])
            self.assertIn("last ECONNREFUSED", self.bad("ETIMEDOUT", "wait-port", port, "--timeout-ms", "50"))
            self.bad("ETIMEDOUT", "wait-port", port, "--timeout-ms", "0")
            process = subprocess.Popen([PROGRAM, "wait-port", port, "--timeout-ms", "60000"])
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(0.2)
            listening.listen()
            self.assertEqual(process.wait(PATIENCE), 0)
            self.good("wait-port", port, "--timeout-ms", "0")

    def server(self, answer):
        """The port of a server that gives `answer` to whoever asks."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        self.asked = b""

        def serve():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                while b"\r\n\r\n" not in self.asked:
                    got = connection.recv(4096)
                    if not got:
                        return
                    self.asked += got
                if answer is None:
                    connection.recv(1)
                else:
                    connection.sendall(answer)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return str(listening.getsockname()[1])

    def test_http_get_takes_200_to_399(self):
        for status in (200, 204, 302, 399):
            port = self.server(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)
            self.assertEqual(self.lines("http-get", port, "/health?a=1"), [{"status": status}])
            self.assertTrue(self.asked.startswith(b"GET /health?a=1 HTTP/1.1\r\nHost: localhost:"))

    def test_http_get_refuses_everything_else(self):
        for status in (400, 404, 500, 199):
            port = self.server(b"HTTP/1.1 %d Whatever\r\n\r\n" % status)
            self.assertIn(f"found {status}", self.bad("EPROTO", "http-get", port, "/"))
        for answer in (b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n", b"HTTP/1.1\r\n", b"x" * 9000, b"HTTP/1.1 200"):
            self.bad("EPROTO", "http-get", self.server(answer), "/")
        self.bad("ETIMEDOUT", "http-get", self.server(None), "/", "--timeout-ms", "100")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.bad("ECONNREFUSED", "http-get", str(unused.getsockname()[1]), "/")


class Sleep(Case):
    def test_sleeps_until_it_is_alone(self):
        process = subprocess.Popen([PROGRAM, "sleep", "--alone-ms", "100"])
        self.addCleanup(process.kill)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(1)  # it is not alone on this machine
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)
        namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
        if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
            self.skipTest("no namespace of processes to be had")
        began = time.monotonic()
        subprocess.run([*namespace, "sh", "-c", f"sleep 1 & exec {PROGRAM} sleep --alone-ms 500"], check=True,
                       timeout=PATIENCE)
        self.assertGreaterEqual(time.monotonic() - began, 1.5)

    def test_sleeps_until_it_is_told_to_end(self):
        process = subprocess.Popen([PROGRAM, "sleep"])
        self.addCleanup(process.kill)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_takes_the_exit_statuses_of_its_children(self):
        # The shell starts a child and becomes the guest, which so inherits it. The child ends with its input.
        process = subprocess.Popen(["sh", "-c", f"exec 3<&0; cat <&3 & exec '{PROGRAM}' sleep"], stdin=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)

        def children_become(some):
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                found = subprocess.run(["ps", "-o", "stat=", "--ppid", str(process.pid)], capture_output=True, text=True)
                if bool(found.stdout.split()) == some:
                    return
                time.sleep(0.05)
            self.fail(f"children: {found.stdout!r}")
        children_become(True)
        process.stdin.close()
        children_become(False)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
