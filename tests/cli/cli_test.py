"""What chalk promises: run as cli_test.py BIN_DIR [words of test names]."""
import fcntl
import gzip
import hashlib
import io
import json
import os
import pathlib
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import termios
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import stack as support  # noqa: E402

PATIENCE = 120  # seconds, for anything: the machine may be loaded
IMAGE = "busybox"
STACK = None
CHALK = ""


def chalk(*words, stdin=b"", environment=None, timeout=PATIENCE):
    done = subprocess.run([CHALK, *map(str, words)], input=stdin, capture_output=True,
                          env=environment or STACK.environment(), timeout=timeout)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def start(*words, environment=None, **options):
    """A chalk that runs beside the test; whoever starts it ends it."""
    options.setdefault("stdin", subprocess.DEVNULL)
    # What a script began in the background ignores SIGINT, and so does all that it begins.
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen([CHALK, *map(str, words)], env=environment or STACK.environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)


def until(what, done, patience=PATIENCE):
    """Waits for a condition; returns what it said."""
    end = time.time() + patience
    while time.time() < end:
        value = done()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"within {patience} s: {what}")


def read_until(descriptor, text, patience=PATIENCE):
    """What comes from a descriptor until it holds `text`."""
    seen = b""
    end = time.time() + patience
    while text not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(0, end - time.time()))
        piece = b""
        if ready:
            try:
                piece = os.read(descriptor, 65536)
            except OSError:  # the other side of a pty has gone
                pass
        if not piece:
            raise AssertionError(f"expected {text!r} within {patience} s, found {seen!r}")
        seen += piece
    return seen


class Case(unittest.TestCase):
    def good(self, *words, **options):
        status, out, err = chalk(*words, **options)
        self.assertEqual(status, 0, (words, out, err))
        return out

    def read_json(self, *words, **options):
        return json.loads(self.good(*words, "--json", **options))

    def bad(self, *words, says="", code=125, **options):
        status, out, err = chalk(*words, **options)
        self.assertEqual(status, code, (words, out, err))
        self.assertIn(says, err, words)
        self.assertTrue(err.startswith("chalk: "), err)
        return err

    def sandbox(self, *more, command=("sleep", "1000"), name=""):
        """A detached sandbox that ends with the test."""
        name = name or f"t-{os.getpid()}-{time.time_ns() % 10**9}"
        about = json.loads(self.good("compute", "run", "--detach", "--json", "--name", name, "--lifetime", "10m",
                                     *more, IMAGE, "--", *command))
        self.addCleanup(chalk, "compute", "stop", about["id"], "--grace", "0")
        return about["id"], name

    def status(self, sandbox):
        return self.read_json("compute", "inspect", sandbox)["status"]


class Waits(Case):
    """Sandboxes that find no room."""

    def test_it_is_said_why_and_a_run_that_is_killed_leaves_none(self):
        cores = self.read_json("compute", "nodes")[0]["cpu_millicores"]
        self.sandbox("--cpu", "100m", "--memory", "64Mi")
        name = f"w-{os.getpid()}-{time.time_ns() % 10**9}"
        run = start("compute", "run", "--name", name, "--cpu", f"{cores}m", IMAGE, "--", "true")
        self.addCleanup(run.kill)

        def why():
            mine = [one for one in self.read_json("compute", "ls") if one["name"] == name]
            return mine and mine[0]["status_message"]
        self.assertIn("it waits for a node: cpu", until("the reason", why))
        read_until(run.stderr.fileno(), b"it waits for a node: cpu")
        rows = [one for one in self.read_json("admin", "sandboxes") if one["name"] == name]
        self.assertIn("it waits for a node: cpu", rows[0]["status_message"])
        run.kill()
        run.communicate()
        until("its end", lambda: self.status(name) == "terminated")


class Words(Case):
    """The command line itself, without a server's help."""

    def test_every_command_has_help_with_an_example(self):
        compute = ["run", "exec", "ls", "inspect", "logs", "stop", "cp", "nodes", "drain", "undrain"]
        files = ["ls", "stat", "cat", "rm", "mkdir", "mv", "watch"]
        leaves = [["compute", word] for word in compute] + [["compute", "files", word] for word in files]
        leaves += [["admin", *words] for words in (["env", "create"], ["env", "ls"], ["client", "create"],
                                                   ["client", "ls"], ["client", "revoke"], ["node-token"],
                                                   ["status"], ["sandboxes"])]
        for words in leaves:
            out = self.good(*words, "--help")
            self.assertIn("Example", out, words)
            self.assertIn("--json", out, words)
            self.assertIn("JSON:", out, words)

    def test_a_mistyped_word_gets_its_nearest(self):
        self.bad("compute", "rnu", says="did you mean run?")
        self.bad("compte", "run", says="did you mean compute?")
        self.bad("compute", "run", "--memroy", "1Gi", IMAGE, says="did you mean --memory?")
        self.bad("admin", "client", "rvoke", "x", says="did you mean revoke?")
        self.bad("compute", says="expected a command")
        self.bad("compute", "run", says="image is required")
        self.bad("compute", "exec", "x", says="no command")
        self.bad("compute", "ls", "--", "x", says="x")

    def test_bad_amounts_are_told_before_anything_is_asked(self):
        nobody = {"PATH": os.environ["PATH"]}
        for option, value in (("--cpu", "many"), ("--cpu", "0"), ("--memory", "1Qi"), ("--disk", "-1"),
                              ("--lifetime", "soon"), ("--timeout", "0s"), ("--port", "70000"),
                              ("--tag", "x"), ("--priority", "1001"), ("--gang", "pair"),
                              ("--env", "=x"), ("--env", "NOT_SET_HERE")):
            self.bad("compute", "run", option, value, IMAGE, "--", "true", says=option, environment=nobody)
        self.bad("compute", "run", "--detach", "-i", IMAGE, "--", "true", says="--detach", environment=nobody)
        self.bad("compute", "run", "-it", IMAGE, "--", "true", says="terminal", environment=nobody)
        self.bad("compute", "run", "--restart", IMAGE, "--", "true", says="--detach", environment=nobody)
        self.bad("compute", "cp", "a", "b", says="in a sandbox", environment=nobody)
        self.bad("compute", "cp", "a", "web:relative", says="begins with /", environment=nobody)

    def test_empty_values_and_numbers_of_nothing_are_refused(self):
        for words in (["--cpu=", IMAGE, "--", "true"], ["--lifetime", "", IMAGE, "--", "true"],
                      ["-w", "", IMAGE, "--", "true"], ["--name=", IMAGE]):
            self.bad("compute", "run", *words, says="found an empty value")
        self.bad("admin", "node-token", "--uses", "0", says="--uses")
        self.bad("admin", "sandboxes", "--limit", "0", says="--limit")
        self.bad("compute", "ls", "--limit", "0", says="--limit")
        self.bad("compute", "run", "-w", "tmp", IMAGE, "--", "true", says="begins with /")
        self.bad("compute", "exec", "-w", "tmp", "x", "--", "true", says="begins with /")

    def test_who_is_not_logged_in_is_told_how(self):
        nobody = {"PATH": os.environ["PATH"]}
        err = self.bad("compute", "ls", environment=nobody, says="not logged in: set CHALK_API_SERVER")
        self.assertIn("--env-file", err)
        good = STACK.environment()
        self.bad("compute", "ls", environment={**good, "CHALK_CLIENT_SECRET": "wrong"},
                 says="does not accept this client")
        self.bad("compute", "ls", environment={**good, "CHALK_API_SERVER": "ftp://x"}, says="http://HOST:PORT")
        port = support.free_port()
        self.bad("compute", "ls", environment={**good, "CHALK_API_SERVER": f"http://127.0.0.1:{port}"},
                 says="is chalk-server running")
        self.bad("compute", "ls", environment={**good, "CHALK_ENVIRONMENT": "no-such"}, says="no-such")


class Run(Case):
    def test_the_exit_status_is_the_commands(self):
        for code in (0, 1, 42, 255):
            status, _, err = chalk("compute", "run", IMAGE, "--", "sh", "-c", f"exit {code}")
            self.assertEqual(status, code, err)

    def test_output_and_error_stay_apart(self):
        status, out, err = chalk("compute", "run", IMAGE, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
        self.assertEqual((status, out, err), (3, "out\n", "err\n"))

    def test_json_holds_what_was_written(self):
        status, out, _ = chalk("compute", "run", "--json", IMAGE, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
        said = json.loads(out)
        self.assertEqual(status, 3)
        self.assertEqual((said["exit_code"], said["stdout"], said["stderr"]), (3, "out\n", "err\n"))
        self.assertEqual((said["signal"], said["timed_out"], said["truncated"]), (0, False, False))

    def test_the_sandbox_ends_with_its_command_unless_it_is_kept(self):
        said = json.loads(chalk("compute", "run", "--rm", "--json", IMAGE, "--", "true")[1])
        until("it has ended", lambda: self.status(said["id"]) == "terminated")
        said = json.loads(chalk("compute", "run", "--keep", "--lifetime", "10m", "--json", IMAGE, "--", "true")[1])
        self.addCleanup(chalk, "compute", "stop", said["id"], "--grace", "0")
        self.assertEqual(self.status(said["id"]), "running")
        self.assertEqual(self.good("compute", "exec", said["id"], "--", "echo", "still here"), "still here\n")

    def test_input_goes_to_the_command(self):
        data = bytes(range(256)) * 4096
        status, out, err = chalk("compute", "run", "-i", IMAGE, "--", "sh", "-c", "cat | md5sum", stdin=data)
        self.assertEqual((status, out.split()[0]), (0, hashlib.md5(data).hexdigest()), err)
        status, out, _ = chalk("compute", "run", IMAGE, "--", "cat", stdin=b"not for it")
        self.assertEqual((status, out), (0, ""), "without -i there is no input")

    def test_input_that_nobody_reads_or_that_is_shut(self):
        _, name = self.sandbox()
        for line in (f"head -c 100000000 /dev/zero | {CHALK} compute exec -i {name} -- true",
                     f"yes | {CHALK} compute exec -i {name} -- head -c 4",
                     f"{CHALK} compute exec -i {name} -- cat <&-",
                     f"{CHALK} compute exec {name} -- echo x >&-"):
            done = subprocess.run(["bash", "-c", line], env=STACK.environment(), capture_output=True, timeout=PATIENCE)
            self.assertEqual((done.returncode, done.stderr), (0, b""), line)

    def test_environment_and_directory(self):
        here = {**STACK.environment(), "FROM_HERE": "c"}
        out = self.good("compute", "run", "-e", "A=1", "--env", "B=two words", "-e", "FROM_HERE", "-w", "/tmp",
                        IMAGE, "--", "sh", "-c", 'echo "$A,$B,$FROM_HERE,$PWD"', environment=here)
        self.assertEqual(out, "1,two words,c,/tmp\n")
        sandbox, _ = self.sandbox("--workdir", "/tmp", command=("sh", "-c", "pwd; sleep 1000"))
        until("its log", lambda: chalk("compute", "logs", sandbox)[1] == "/tmp\n")

    def test_amounts_are_those_that_were_asked_for(self):
        sandbox, _ = self.sandbox("--cpu", "250m", "--memory", "192Mi", "--disk", "2Gi")
        about = self.read_json("compute", "inspect", sandbox)
        self.assertEqual((about["cpu_millicores"], about["memory_bytes"], about["disk_bytes"]),
                         (250, 192 << 20, 2 << 30))
        self.assertEqual(about["lifetime_seconds"], 600)

    def test_a_command_that_takes_too_long_is_124(self):
        status, _, err = chalk("compute", "run", "--timeout", "2s", IMAGE, "--", "sleep", "1000")
        self.assertEqual(status, 124, err)
        self.assertIn("--timeout", err)

    def test_a_command_that_is_not_there_is_127_and_one_that_may_not_run_is_126(self):
        self.bad("compute", "run", IMAGE, "--", "no-such-command", code=127, says="no-such-command")
        self.bad("compute", "run", IMAGE, "--", "/etc", code=126)

    def test_an_image_that_is_not_there_says_so(self):
        self.bad("compute", "run", "no/such-image:1", "--", "true", says="no/such-image")
        self.bad("compute", "run", "::bad::", "--", "true", says="::bad::")

    def test_more_than_there_is_is_refused_with_the_numbers(self):
        err = self.bad("compute", "run", "--cpu", "100000", IMAGE, "--", "true")
        self.assertNotIn("Exception", err)

    def test_the_images_own_command_runs_without_one(self):
        status, out, err = chalk("compute", "run", "--timeout", "60s", IMAGE, timeout=PATIENCE * 2)
        self.assertIn(status, (0, 124), err)

    def test_detached_prints_the_id_and_its_log_is_kept(self):
        name = f"t-log-{os.getpid()}"
        sandbox, _ = self.sandbox(name=name, command=("sh", "-c", "echo one; echo two >&2; sleep 1000"))
        self.assertRegex(sandbox, r"^[\w-]+$")
        until("both lines", lambda: chalk("compute", "logs", name)[1:] == ("one\n", "two\n"))
        said = self.read_json("compute", "logs", name)
        self.assertEqual((said["stdout"], said["stderr"]), ("one\n", "two\n"))
        self.assertEqual(self.good("compute", "logs", name, "--tail", "2"), "e\n")

    def test_a_detached_command_is_begun_again(self):
        name = f"t-again-{os.getpid()}"
        self.good("compute", "run", "--detach", "--restart", "--name", name, "--lifetime", "5m", IMAGE, "--",
                  "sh", "-c", "echo run; sleep 1; exit 3")
        self.addCleanup(chalk, "compute", "stop", name, "--grace", "0")
        until("a second run", lambda: self.read_json("compute", "inspect", name)["restarts"] > 0)
        until("its output", lambda: chalk("compute", "logs", name)[1].startswith("run\nrun\n"))
        self.assertIn("Restarts", self.good("compute", "inspect", name))

    def test_signals_reach_the_command(self):
        process = start("compute", "run", IMAGE, "--", "sh", "-c",
                        "trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
        self.addCleanup(process.kill)
        read_until(process.stdout.fileno(), b"ready\n")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out), (7, b"got\n"), err)

    def test_a_command_that_a_signal_ends_is_128_and_its_number(self):
        status, out, _ = chalk("compute", "run", "--json", IMAGE, "--", "sh", "-c", "kill -9 $$")
        self.assertEqual((status, json.loads(out)["exit_code"]), (137, 137))

    def test_a_sandbox_that_ends_under_its_command_says_why(self):
        for words, code, why in ((("--memory", "128Mi", IMAGE, "--", "sh", "-c", "head -c 1000000000 /dev/zero | tail"),
                                  137, "it ran out of memory"),
                                 (("--lifetime", "4s", IMAGE, "--", "sleep", "1000"), 137, "its lifetime was reached")):
            err = self.bad("compute", "run", *words, code=code, says=why)
            self.assertEqual(err.count("\n"), 1, err)
        status, _, err = chalk("compute", "run", "--lifetime", "1ms", IMAGE, "--", "true")
        self.assertIn(status, (125, 137), "it ends before its command begins, or under it")
        self.assertIn("its lifetime was reached", err)
        sandbox, _ = self.sandbox()
        self.assertEqual(chalk("compute", "exec", sandbox, "--", "sh", "-c", "kill -9 $$"), (137, "", ""))

    def test_three_interrupts_end_a_command_that_ignores_them(self):
        process = start("compute", "run", IMAGE, "--", "sh", "-c", "trap '' INT; echo ready; sleep 1000")
        self.addCleanup(process.kill)
        read_until(process.stdout.fileno(), b"ready\n")
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        self.assertEqual(process.wait(PATIENCE), 137, process.stderr.read())

    def test_a_reader_that_leaves_ends_the_command(self):
        line = f"{CHALK} compute run {IMAGE} -- yes | head -n 3"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", line], env=STACK.environment(), capture_output=True,
                              timeout=PATIENCE)
        self.assertEqual((done.stdout, done.returncode), (b"y\n" * 3, 141), done.stderr)

    def test_much_output_arrives_whole(self):
        done = subprocess.run([CHALK, "compute", "run", IMAGE, "--", "sh", "-c",
                               "head -c 20000000 /dev/zero | tr '\\0' x"], env=STACK.environment(),
                              capture_output=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, len(done.stdout)), (0, 20_000_000), done.stderr)


    def test_an_image_of_one_program_runs_it(self):
        image = push_image_of(pathlib.Path(CHALK).parent / "chalk-guest")
        status, out, err = chalk("compute", "run", "--json", image, "/program", "stat", "/program")
        said = json.loads(out)
        self.assertEqual((status, json.loads(said["stdout"])["type"]), (0, "file"), (said, err))
        about = self.read_json("compute", "inspect", said["id"])
        self.assertIn("--alone-ms", about["argv"], "it would end without us, too")
        made = self.good("compute", "run", "-d", "--lifetime", "10m", "-w", "/some/where", image, "/program",
                         "sleep").strip()
        self.addCleanup(chalk, "compute", "stop", made, "--grace", "0")
        self.assertEqual(self.read_json("compute", "inspect", made)["argv"], ["/program", "sleep"])
        self.good("compute", "files", "stat", made, "/some/where")


def push_image_of(program):
    """An image in the registry of the tests that holds one program and nothing else; its name."""
    address = STACK.mirror.removeprefix("docker.io=http://")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as layer:
        entry = tarfile.TarInfo("program")
        entry.size, entry.mode = program.stat().st_size, 0o755
        with open(program, "rb") as file:
            layer.addfile(entry, file)
    tar = packed.getvalue()
    kind = "application/vnd.oci.image."

    def ask(method, path, body, media="application/octet-stream"):
        request = urllib.request.Request(path if "://" in path else f"http://{address}{path}", body,
                                         {"content-type": media}, method=method)
        return urllib.request.urlopen(request, timeout=PATIENCE)

    def push(body, media):
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        place = ask("POST", "/v2/test/program/blobs/uploads/", b"").headers["location"]
        ask("PUT", place + ("&" if "?" in place else "?") + "digest=" + digest, body).close()
        return {"mediaType": kind + media, "size": len(body), "digest": digest}
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest()]}}
    layers = [push(gzip.compress(tar, mtime=0), "layer.v1.tar+gzip")]
    manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
                "config": push(json.dumps(config).encode(), "config.v1+json"), "layers": layers}
    ask("PUT", "/v2/test/program/manifests/1", json.dumps(manifest).encode(), kind + "manifest.v1+json").close()
    return "test/program:1"


class OnTerminal(Case):
    def pty(self, *words, columns=100, rows=30):
        """chalk on a terminal of its own: (process, our side)."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen([CHALK, *words], env={**STACK.environment(), "TERM": "xterm"}, stdin=theirs,
                                   stdout=theirs, stderr=theirs, start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.addCleanup(os.close, ours)
        self.addCleanup(process.kill)
        before = termios.tcgetattr(theirs)
        return process, ours, theirs, before


class Terminal(OnTerminal):
    def test_a_shell_on_a_terminal(self):
        sandbox, _ = self.sandbox()
        process, ours, theirs, before = self.pty("compute", "exec", "-it", sandbox, "--", "sh")
        read_until(ours, b"#")
        os.write(ours, b"tty; stty size; echo $((6*7))\r")
        seen = read_until(ours, b"42\r\n")
        self.assertIn(b"30 100", seen)
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 132, 0, 0))
        process.send_signal(signal.SIGWINCH)
        for _ in range(200):
            os.write(ours, b"stty size\r")
            if b"41 132" in read_until(ours, b"# "):
                break
            time.sleep(0.1)
        else:
            self.fail("the new size did not arrive")
        os.write(ours, b"sleep 1000\r")
        read_until(ours, b"sleep 1000")
        time.sleep(0.5)
        os.write(ours, b"\x03")  # to the shell's sleep, not to chalk
        os.write(ours, b"exit 9\r")
        read_until(ours, b"exit 9")
        self.assertEqual(until("its end", lambda: process.poll() is not None and [process.returncode])[0], 9)
        self.assertEqual(termios.tcgetattr(theirs), before, "the terminal is as it was")
        os.close(theirs)

    def test_tables_have_colours_on_a_terminal_only(self):
        self.sandbox()
        process, ours, theirs, _ = self.pty("compute", "ls")
        os.close(theirs)
        self.assertIn(b"\x1b[32mrunning\x1b[0m", read_until(ours, b"running\x1b[0m"))
        process.wait(PATIENCE)
        self.assertNotIn("\x1b", self.good("compute", "ls"))


class Exec(Case):
    def test_by_id_and_by_name(self):
        sandbox, name = self.sandbox()
        for one in (sandbox, name):
            self.assertEqual(self.good("compute", "exec", one, "--", "echo", "-n", "--json"), "--json")
        status, out, err = chalk("compute", "exec", name, "--", "sh", "-c", "echo e >&2; exit 5")
        self.assertEqual((status, out, err), (5, "", "e\n"))
        said = json.loads(chalk("compute", "exec", name, "--json", "--", "sh", "-c", "echo o; exit 5")[1])
        self.assertEqual((said["id"], said["stdout"], said["exit_code"]), (sandbox, "o\n", 5))

    def test_the_words_of_a_command_are_its_own(self):
        sandbox, _ = self.sandbox()
        self.assertEqual(self.good("compute", "exec", "-iw", "/etc", sandbox, "env", "-i", "pwd"), "/etc\n")
        self.assertEqual(self.good("compute", "exec", sandbox, "-i", "grep", "-e", "foo", stdin=b"foo\nbar\n"), "foo\n")
        self.assertEqual(self.good("compute", "exec", sandbox, "echo", "--json", "--", "-t"), "--json -- -t\n")
        self.assertEqual(self.good("compute", "run", IMAGE, "ls", "-d", "/"), "/\n")

    def test_input_environment_directory_and_timeout(self):
        sandbox, _ = self.sandbox()
        self.assertEqual(self.good("compute", "exec", "-i", sandbox, "--", "cat", stdin=b"abc"), "abc")
        self.assertEqual(self.good("compute", "exec", "-e", "X=y z", "-w", "/etc", sandbox, "--", "sh", "-c",
                                   'echo "$X $PWD"'), "y z /etc\n")
        status, _, err = chalk("compute", "exec", "--timeout", "1s", sandbox, "--", "sleep", "1000")
        self.assertEqual(status, 124, err)
        self.bad("compute", "exec", sandbox, "--", "no-such-command", code=127)

    def test_a_sandbox_that_is_not_there_or_has_ended(self):
        self.bad("compute", "exec", "no-such", "--", "true", says="no-such")
        sandbox, _ = self.sandbox()
        self.good("compute", "stop", sandbox, "--grace", "0")
        self.bad("compute", "exec", sandbox, "--", "true", says="not running")


class Sandboxes(Case):
    def test_ls_shows_what_lives_and_with_all_what_has_ended(self):
        sandbox, name = self.sandbox()
        row = [one for one in self.read_json("compute", "ls") if one["id"] == sandbox][0]
        self.assertEqual((row["name"], row["status"]), (name, "running"))
        self.assertIn("busybox", row["image"])
        self.assertIn(sandbox, self.good("compute", "ls"))
        self.good("compute", "stop", name, "--grace", "0")
        self.assertNotIn(sandbox, self.good("compute", "ls"))
        row = [one for one in self.read_json("compute", "ls", "--all") if one["id"] == sandbox][0]
        self.assertEqual(row["status"], "terminated")
        self.sandbox()  # so that there are two
        status, out, err = chalk("compute", "ls", "--all", "--limit", "1", "--json")
        self.assertEqual((status, len(json.loads(out))), (0, 1), err)
        self.assertIn("these are the newest 1; --limit shows more", err)
        self.assertNotIn("newest", chalk("compute", "ls", "--all")[2])

    def test_inspect_tells_the_timeline_in_order(self):
        sandbox, _ = self.sandbox()
        about = self.read_json("compute", "inspect", sandbox)
        phases = [entry["phase"] for entry in about["timeline"]]
        for phase in ("asked", "placed", "accepted", "layers ready", "started", "running"):
            self.assertIn(phase, phases)
        for clock in ("node", "server"):
            times = [entry["at"] for entry in about["timeline"] if entry["clock"] == clock]
            self.assertEqual(times, sorted(times), about["timeline"])
        self.assertIsNone(about["exit_code"])
        self.assertEqual(about["argv"], ["sleep", "1000"])
        self.assertTrue(about["image_digest"].startswith("sha256:"))
        self.assertIn("Timeline", self.good("compute", "inspect", sandbox))
        self.bad("compute", "inspect", "no-such", says="no-such")

    def test_a_name_of_several_is_not_guessed(self):
        first, name = self.sandbox()
        second, _ = self.sandbox(name=name)
        for words in (["inspect", name], ["exec", name, "--", "true"], ["logs", name], ["stop", name],
                      ["files", "ls", name, "/"]):
            err = self.bad("compute", *words, says="several sandboxes")
            self.assertTrue(first in err and second in err, err)
        self.good("compute", "stop", second, "--grace", "0")
        self.assertEqual(self.read_json("compute", "inspect", name)["id"], first)

    def test_stop_waits_for_the_end(self):
        sandbox, _ = self.sandbox(command=("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"))
        self.assertEqual(self.read_json("compute", "stop", sandbox, "--grace", "30s"),
                         [{"id": sandbox, "status": "terminated"}])
        self.good("compute", "stop", sandbox)  # again is fine
        self.bad("compute", "stop", "no-such", says="no-such")

    def test_a_failed_process_says_its_exit_code(self):
        sandbox, _ = self.sandbox(command=("sh", "-c", "echo last words; exit 3"))
        until("its end", lambda: self.status(sandbox) == "failed")
        about = self.read_json("compute", "inspect", sandbox)
        self.assertEqual(about["exit_code"], 3)
        self.assertEqual(about["timeline"][-1]["phase"], "ended")
        self.assertEqual(self.good("compute", "logs", sandbox), "last words\n", "kept for a while")

    def test_logs_follow_until_the_end(self):
        sandbox, name = self.sandbox(command=(
            "sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.3; done; until [ -e /tmp/go ]; do sleep 0.1; done; "
            "echo last"))
        process = start("compute", "logs", "-f", name)
        self.addCleanup(process.kill)
        read_until(process.stdout.fileno(), b"line 3\n")
        self.good("compute", "exec", name, "--", "touch", "/tmp/go")
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out), (0, b"last\n"), err)

    def test_what_is_not_kept_of_a_log_is_said(self):
        sandbox, _ = self.sandbox(command=("sh", "-c", "head -c 25000000 /dev/zero | tr '\\0' x; echo end; exec sleep 1000"))
        until("all of it", lambda: chalk("compute", "logs", sandbox, "--tail", "4")[1] == "end\n")
        status, out, err = chalk("compute", "logs", sandbox, "--json")
        said = json.loads(out)
        self.assertEqual((status, len(said["stdout"]), said["truncated"]), (0, 16 << 20, True))
        self.assertIn(f"the first {25_000_004 - (16 << 20)} bytes of standard output are not kept", err)
        status, out, err = chalk("compute", "logs", sandbox, "--tail", "1Ki", "--json")
        self.assertEqual((json.loads(out)["truncated"], err), (False, ""))

    def test_an_interrupt_ends_following(self):
        _, name = self.sandbox(command=("sh", "-c", "echo ready; sleep 1000"))
        process = start("compute", "logs", "-f", name)
        self.addCleanup(process.kill)
        read_until(process.stdout.fileno(), b"ready\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE), 130)


class Files(Case):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"chalk-cli-{os.getpid()}-"))
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.folder)])

    def test_copy_both_ways(self):
        sandbox, name = self.sandbox()
        content = os.urandom(3_000_000)
        local = self.folder / "data.bin"
        local.write_bytes(content)
        local.chmod(0o750)
        said = self.read_json("compute", "cp", local, f"{name}:/tmp/deep/er/data.bin")
        self.assertEqual(said, {"files": 1, "bytes": len(content), "skipped": 0})
        self.assertIn("750", self.good("compute", "exec", name, "--", "stat", "-c", "%a", "/tmp/deep/er/data.bin"))
        self.good("compute", "cp", local, f"{sandbox}:/tmp")  # into the directory
        self.good("compute", "cp", f"{name}:/tmp/data.bin", self.folder / "back.bin")
        self.assertEqual((self.folder / "back.bin").read_bytes(), content)
        self.assertEqual((self.folder / "back.bin").stat().st_mode & 0o777, 0o750 & ~current_umask())
        self.good("compute", "cp", "-", f"{name}:/tmp/in", stdin=b"from a pipe")
        self.assertEqual(self.good("compute", "cp", f"{name}:/tmp/in", "-"), "from a pipe")
        (self.folder / "-dash").write_text("dashed")
        done = subprocess.run([CHALK, "compute", "cp", "--", "-dash", f"{name}:/tmp/"], env=STACK.environment(),
                              cwd=self.folder, capture_output=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(self.good("compute", "files", "cat", name, "/tmp/-dash"), "dashed")
        empty = self.folder / "empty"
        empty.write_bytes(b"")
        self.good("compute", "cp", empty, f"{name}:/tmp/")
        self.assertEqual(self.good("compute", "files", "cat", name, "/tmp/empty"), "")

    def test_copy_of_directories(self):
        _, name = self.sandbox()
        tree = self.folder / "tree"
        (tree / "a" / "b").mkdir(parents=True)
        (tree / "a" / "one").write_text("1")
        (tree / "a" / "b" / "two words").write_text("2")
        (tree / "link").symlink_to("/etc/passwd")
        self.bad("compute", "cp", tree, f"{name}:/tmp/t", says="--recursive")
        said = json.loads(chalk("compute", "cp", "-r", tree, f"{name}:/tmp/t", "--json")[1])
        self.assertEqual((said["files"], said["skipped"]), (2, 1))
        self.good("compute", "exec", name, "--", "ln", "-s", "/etc", "/tmp/t/out")
        self.good("compute", "cp", "-r", f"{name}:/tmp/t", self.folder / "back")
        self.assertEqual((self.folder / "back" / "a" / "b" / "two words").read_text(), "2")
        self.assertFalse((self.folder / "back" / "out").exists(), "links are left out")

    def test_a_copy_that_is_interrupted_leaves_nothing(self):
        _, name = self.sandbox()
        down = self.folder / "down"
        down.mkdir()
        self.good("compute", "exec", name, "--", "sh", "-c", "head -c 200000000 /dev/zero > /tmp/big; mkdir /tmp/up")
        for number in (signal.SIGINT, signal.SIGTERM):
            process = start("compute", "cp", f"{name}:/tmp/big", down)
            self.addCleanup(process.kill)
            until("it has begun", lambda: any(self.size(one) for one in down.iterdir()))
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE), -number)
            self.assertEqual(list(down.iterdir()), [])
        process = start("compute", "cp", "-", f"{name}:/tmp/up/x", stdin=subprocess.PIPE)
        self.addCleanup(process.kill)
        process.stdin.write(b"half")
        process.stdin.flush()
        there = lambda: self.good("compute", "exec", name, "--", "ls", "-A", "/tmp/up")  # noqa: E731
        until("it has begun", lambda: ".chalk-create" in there())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE), -signal.SIGINT)
        process.stdin.close()
        until("nothing is left", lambda: there() == "")

    @staticmethod
    def size(path):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    def test_names_that_are_no_text_are_left_out_and_said(self):
        _, name = self.sandbox()
        tree = self.folder / "tree"
        tree.mkdir()
        (tree / "good").write_text("1")
        odd = os.fsencode(tree) + b"/bad\xff"
        os.mkdir(odd)
        with open(odd + b"/below", "w"):
            pass
        status, out, err = chalk("compute", "cp", "-r", tree, f"{name}:/tmp/t", "--json")
        self.assertEqual((status, json.loads(out)), (125, {"files": 1, "bytes": 1, "skipped": 1}), err)
        self.assertIn("left out, its name is no UTF-8", err)
        self.good("compute", "exec", name, "--", "sh", "-c", "touch /tmp/t/$(printf 'b\\377')")
        status, out, err = chalk("compute", "cp", "-r", f"{name}:/tmp/t", self.folder / "back", "--json")
        self.assertEqual((status, json.loads(out)), (125, {"files": 1, "bytes": 1, "skipped": 1}), err)
        self.assertEqual(os.listdir(self.folder / "back"), ["good"])
        for words in (["compute", "exec", name, "--", "echo", b"\xff"], ["compute", "inspect", b"\xff"],
                      ["compute", "run", b"\xff", "--", "true"], ["compute", "cp", "-", os.fsencode(name) + b":/\xff"],
                      ["compute", "cp", odd + b"/below", os.fsencode(name) + b":/\xff"]):
            done = subprocess.run([CHALK, *words], env=STACK.environment(), stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 125)
            self.assertIn(b"expected UTF-8", done.stderr)
        self.bad("compute", "exec", "-e", "ODD", name, "--", "true", says="ODD: its value is no UTF-8",
                 environment={**STACK.environment(), "ODD": os.fsdecode(b"\xff")})

    def test_a_local_link_is_never_written_through(self):
        _, name = self.sandbox(command=("sh", "-c", "mkdir -p /tmp/t/d; echo x > /tmp/t/d/f; sleep 1000"))
        until("the file", lambda: chalk("compute", "files", "stat", name, "/tmp/t/d/f")[0] == 0)
        outside = self.folder / "outside"
        outside.mkdir()
        (self.folder / "back").mkdir()
        (self.folder / "back" / "t").mkdir()
        (self.folder / "back" / "t" / "d").symlink_to(outside)
        self.bad("compute", "cp", "-r", f"{name}:/tmp/t", self.folder / "back")
        self.assertEqual(list(outside.iterdir()), [])

    def test_copies_that_cannot_be(self):
        _, name = self.sandbox()
        self.bad("compute", "cp", self.folder / "missing", f"{name}:/tmp/x", says="No such file")
        self.bad("compute", "cp", f"{name}:/tmp/missing", self.folder, says="No such file")
        self.bad("compute", "cp", f"{name}:/etc", self.folder, says="--recursive")
        self.bad("compute", "cp", f"{name}:/tmp/a", f"{name}:/tmp/b", says="from one sandbox to another")
        self.bad("compute", "cp", "no-such:/tmp/a", self.folder, says="no-such")

    def test_list_stat_cat_mkdir_mv_rm(self):
        _, name = self.sandbox()
        self.good("compute", "files", "mkdir", name, "/tmp/f/g", "-p")
        self.good("compute", "cp", "-", f"{name}:/tmp/f/x", stdin=b"content")
        rows = self.read_json("compute", "files", "ls", name, "/tmp/f")
        self.assertEqual([(row["name"], row["type"]) for row in rows], [("g", "directory"), ("x", "file")])
        self.assertIn("drwx", self.good("compute", "files", "ls", name, "/tmp/f"))
        self.assertEqual(self.read_json("compute", "files", "stat", name, "/tmp/f/x")["size"], 7)
        self.assertEqual(self.read_json("compute", "files", "cat", name, "/tmp/f/x")["content"], "content")
        self.good("compute", "files", "mv", name, "/tmp/f/x", "/tmp/f/g/y")
        rows = self.read_json("compute", "files", "ls", "-r", name, "/tmp/f")
        self.assertEqual([row["name"] for row in rows], ["g", "g/y"])
        self.bad("compute", "files", "rm", name, "/tmp/f", says="--recursive")
        self.good("compute", "files", "rm", "-r", name, "/tmp/f")
        self.bad("compute", "files", "ls", name, "/tmp/f", says="No such file")
        self.bad("compute", "files", "cat", name, "relative", says="begins with /")

    def test_names_cannot_steer_the_terminal(self):
        _, name = self.sandbox()
        self.good("compute", "exec", name, "--", "sh", "-c", "mkdir /tmp/n; touch \"/tmp/n/$(printf 'a\\033[31mb')\"")
        self.assertIn("a\\x1b[31mb", self.good("compute", "files", "ls", name, "/tmp/n"))

    def test_watch_tells_changes_until_interrupted(self):
        _, name = self.sandbox()
        self.good("compute", "files", "mkdir", name, "/tmp/w")
        process = start("compute", "files", "watch", "--json", name, "/tmp/w")
        self.addCleanup(process.kill)
        read_until(process.stdout.fileno(), b'"watching"')
        self.good("compute", "exec", name, "--", "touch", "/tmp/w/new")
        seen = read_until(process.stdout.fileno(), b'"new"')
        self.assertIn(b'"created"', seen)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE), 130)


class Admin(Case):
    def client(self, role="user", environment=None):
        words = ["admin", "client", "create", "--role", role]
        if environment:
            words += ["--environment", environment]
        made = self.read_json(*words)
        self.addCleanup(chalk, "admin", "client", "revoke", made["client_id"])
        return made["client_id"], {**STACK.environment(), "CHALK_CLIENT_ID": made["client_id"],
                                   "CHALK_CLIENT_SECRET": made["client_secret"],
                                   "CHALK_ENVIRONMENT": made["environment"]}

    def test_status_and_nodes(self):
        now = self.read_json("admin", "status")
        self.assertGreaterEqual(now["nodes_connected"], 1)
        self.assertGreater(now["log_next"], 0)
        self.assertFalse(now["fenced"])
        self.assertIn("connected", self.good("admin", "status"))
        nodes = self.read_json("compute", "nodes")
        self.assertEqual((nodes[0]["state"], nodes[0]["connected"]), ("connected", True))
        self.assertGreater(nodes[0]["cpu_millicores"], 0)
        sandbox, _ = self.sandbox("--cpu", "100m", "--memory", "64Mi")
        used = self.read_json("compute", "nodes")[0]
        self.assertGreaterEqual(used["cpu_millicores_used"], 100)
        self.assertIn(sandbox, [row["id"] for row in self.read_json("admin", "sandboxes")])
        self.assertIn("runsc", self.good("compute", "nodes"))

    def test_a_user_may_not_call_admin(self):
        _, user = self.client()
        for words in (["admin", "status"], ["admin", "env", "ls"], ["admin", "env", "create", "x"],
                      ["admin", "client", "create"], ["admin", "client", "ls"],
                      ["admin", "client", "revoke", "x"], ["admin", "node-token"], ["admin", "sandboxes"],
                      ["compute", "nodes"], ["compute", "drain", "x"], ["compute", "undrain", "x"]):
            self.bad(*words, environment=user, says="role admin")
        self.good("compute", "ls", environment=user)

    def test_a_client_that_is_revoked_is_out_at_once(self):
        client, user = self.client()
        _, name = self.sandbox()
        self.good("compute", "exec", name, "--", "true", environment=user)
        follower = subprocess.Popen([CHALK, "compute", "logs", "-f", name], env=user, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE)
        self.addCleanup(follower.kill)
        time.sleep(1)
        self.assertIsNone(follower.poll())
        self.good("admin", "client", "revoke", client)
        self.bad("compute", "ls", environment=user, says="does not accept this client")
        # Two seconds are promised; this machine may be busy.
        self.assertEqual(follower.wait(10), 125, "an open stream ends, too")
        row = [one for one in self.read_json("admin", "client", "ls") if one["client_id"] == client][0]
        self.assertIsNotNone(row["revoked_at"])
        self.good("admin", "client", "revoke", client)  # again is fine
        self.bad("admin", "client", "revoke", "no-such", says="no-such")
        mine = STACK.environment()["CHALK_CLIENT_ID"]
        self.bad("admin", "client", "revoke", mine, says="cannot revoke itself")

    def test_environments_do_not_see_each_other(self):
        environment = f"other-{os.getpid()}-{time.time_ns() % 10**6}"
        self.assertEqual(self.good("admin", "env", "create", environment, "--id", environment), environment + "\n")
        self.assertIn(environment, [one["id"] for one in self.read_json("admin", "env", "ls")])
        self.bad("admin", "env", "create", environment, "--id", environment, says=environment)
        self.bad("admin", "env", "create", "x", "--id", "Not Good")
        _, other = self.client(environment=environment)
        sandbox, name = self.sandbox()
        for one in (sandbox, name):
            for words in (["inspect", one], ["exec", one, "--", "true"], ["logs", one], ["stop", one],
                          ["files", "ls", one, "/"], ["files", "cat", one, "/etc/passwd"],
                          ["cp", f"{one}:/etc/passwd", "-"], ["cp", "/etc/hostname", f"{one}:/tmp/x"]):
                self.bad("compute", *words, environment=other, says=one)
        self.assertEqual(self.read_json("compute", "ls", "--all", environment=other), [])
        self.assertEqual(self.status(sandbox), "running")

    def test_a_client_of_an_environment_that_is_not_there(self):
        self.bad("admin", "client", "create", "--environment", "no-such", says="no-such")
        self.bad("admin", "client", "create", "--role", "king", says="--role")

    def test_a_client_is_printed_as_a_shell_reads_it(self):
        out = self.good("admin", "client", "create")
        line = [one for one in out.splitlines() if "CLIENT_ID" in one][0]
        self.addCleanup(chalk, "admin", "client", "revoke", line.split("=")[1])
        done = subprocess.run(["bash", "-c", f". /dev/stdin; exec {CHALK} compute ls --json"], input=out.encode(),
                              capture_output=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_node_tokens(self):
        self.assertRegex(self.good("admin", "node-token", "--uses", "2", "--valid", "5m"), r"^\S{20,}\n$")
        self.bad("admin", "node-token", "--valid", "never", says="--valid")
        self.bad("admin", "node-token", "--valid", "10000h", says="30 days")

    def test_metrics_are_for_admins(self):
        _, user = self.client()
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Bearer " + token(user)}):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                get_metrics(headers)
            self.assertEqual(refused.exception.code, 401)
        self.sandbox()
        bearer = {"authorization": "Bearer " + token(STACK.environment())}
        text = until("the start is counted", lambda: (lambda text: text if metric(
            text, "chalk_sandbox_start_seconds_count") >= 1 else "")(get_metrics(bearer)))
        self.assertGreaterEqual(metric(text, 'chalk_nodes{state="connected"}'), 1)
        self.assertGreaterEqual(metric(text, 'chalk_sandboxes{status="running"}'), 1)
        self.assertGreaterEqual(metric(text, "chalk_driver_append_seconds_count"), 1)
        self.assertGreaterEqual(metric(
            text, 'chalk_grpc_calls_total{code="OK",method="chalk.sandbox.v2.SandboxService/CreateSandbox"}'), 1)
        self.assertEqual(metric(text, "chalk_metrics_misused_total"), 0)
        self.assertNotIn("sb-0", text, "no sandbox is in a label")


def token(environment):
    """A bearer token, asked for as Connect over HTTP/1.1; strings of protobuf by hand."""
    fields = (environment["CHALK_CLIENT_ID"], environment["CHALK_CLIENT_SECRET"], "client_credentials")
    body = b"".join(bytes([number << 3 | 2, len(text)]) + text.encode() for number, text in enumerate(fields, 1))
    request = urllib.request.Request(environment["CHALK_API_SERVER"] + "/chalk.server.v1.AuthService/GetToken", body,
                                     {"content-type": "application/proto", "connect-protocol-version": "1"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
        said = reply.read()
    length, at, shift = 0, 1, 0
    while True:  # a varint
        length |= (said[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if said[at - 1] < 0x80:
            break
    assert said[0] == 1 << 3 | 2, said[:20]
    return said[at:at + length].decode()


def get_metrics(headers, server=None):
    server = server or STACK.environment()["CHALK_API_SERVER"]
    request = urllib.request.Request(server + "/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
        return reply.read().decode()


def metric(text, series):
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == series]
    return float(values[0]) if values else -1


def second_stack(case, **options):
    """A Chalk of its own beside the one of all tests; the caller starts its parts."""
    second = support.Stack(STACK.bin, split=True, **options)
    second.prefix, second.pool = "u" + second.prefix[1:], "10.%d.0.0/16" % (200 + os.getpid() % 50)
    case.addCleanup(second.close)
    return second


class Elsewhere(Case):
    """Servers of their own."""

    def test_https_with_roots_of_ones_own(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"chalk-cli-{os.getpid()}-"))
        self.addCleanup(subprocess.run, ["rm", "-rf", str(folder)])

        def openssl(*words):
            subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *key, "-keyout", "root.key", "-out", "root.crt", "-subj", "/CN=test root", "-days", "2")
        openssl("req", *key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=leaf")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", "leaf.csr", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-days",
                "2", "-extfile", "names", "-out", "leaf.crt")
        second = second_stack(self, server_args=["--certificate", folder / "leaf.crt", "--key", folder / "leaf.key"])
        second.start_server()
        self.addCleanup(second.stop, second.server)  # first, since the stack's own chalk has no root for it
        environment = second.environment()
        self.assertTrue(environment["CHALK_API_SERVER"].startswith("https://"))
        good = {**environment, "SSL_CERT_FILE": str(folder / "root.crt")}
        self.assertEqual(self.read_json("admin", "status", environment=good)["nodes"], 0)
        self.bad("admin", "status", environment=environment, says="cannot do this now")
        self.bad("admin", "status", environment={**environment, "SSL_CERT_FILE": "/no/such"}, says="/no/such")

    def test_what_an_operator_watches(self):
        where = f"127.0.0.1:{support.free_port()}"
        second = second_stack(self, node_args=["--metrics", where])
        second.start_server()
        second.start_node()
        second.wait_node()
        for name, process in (("server", second.server), ("node", second.node)):
            mine = os.getpriority(os.PRIO_PROCESS, 0)  # one that somebody chose is left
            self.assertEqual(os.getpriority(os.PRIO_PROCESS, process.pid), mine or -10, f"the {name} goes first")
        environment = second.environment()
        self.good("compute", "run", "--detach", IMAGE, "--", "sleep", "1000", environment=environment)
        phases = get_metrics({}, "http://" + where)
        self.assertIn("chalk_agent_phase_seconds_count{", phases)
        self.assertIn("chalk_agent_value{", phases)

        status, _, err = chalk("compute", "run", "--detach", IMAGE, "--", "/no/such/program", environment=environment)
        self.assertNotEqual(status, 0, err)
        bearer = {"authorization": "Bearer " + token(environment)}
        text = get_metrics(bearer, environment["CHALK_API_SERVER"])
        self.assertGreaterEqual(
            metric(text, 'chalk_node_starts_failed_total{node="node-a",reason="start_failed"}'), 1, text)

    def test_an_interrupt_ends_the_wait_for_an_image(self):
        with socket.create_server(("127.0.0.1", 0)) as registry:  # which never answers
            registry.settimeout(PATIENCE)
            second = second_stack(self, server_args=["--mirror", f"slow.test=http://127.0.0.1:{registry.getsockname()[1]}"])
            second.start_server()
            for number in (signal.SIGINT, signal.SIGTERM):
                process = start("compute", "run", f"slow.test/never/answers:{number:d}", "--", "true",
                                environment=second.environment())
                self.addCleanup(process.kill)
                self.addCleanup(registry.accept()[0].close)
                process.send_signal(signal.SIGWINCH)  # means nothing
                began = time.time()
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE), 128 + number, process.stderr.read())
                self.assertLess(time.time() - began, 5)

    def small_stack(self):
        """A Chalk with one node of two CPUs."""
        second = second_stack(self, node_args=["--cpu", "2"])
        second.start_server()
        second.start_node()
        second.wait_node()
        return second

    def small_node(self):
        return self.small_stack().environment()

    def test_a_run_that_waits_is_known_to_wait_after_the_servers_restart(self):
        second = self.small_stack()
        environment = second.environment()
        first = self.good("compute", "run", "-d", "--cpu", "2", IMAGE, "--", "sleep", "1000",
                          environment=environment).strip()
        runs = {name: start("compute", "run", "--name", name, "--cpu", "2", IMAGE, "--", "echo", name,
                            environment=environment) for name in ("stays", "goes")}
        for run in runs.values():
            self.addCleanup(run.kill)
            read_until(run.stderr.fileno(), b"it waits")
        second.kill_server()
        for run in runs.values():
            read_until(run.stderr.fileno(), b"is away; sandbox ")
        second.start_server()
        second.wait_node()
        time.sleep(3)  # longer than they pause before they ask again

        def goes():
            return self.read_json("compute", "inspect", "goes", environment=environment)["status"]
        self.assertEqual(goes(), "pending")
        runs["goes"].kill()
        until("the end of the one whose client is gone", lambda: goes() == "terminated")
        self.good("compute", "stop", first, "--grace", "0", environment=environment)
        out, err = runs["stays"].communicate(timeout=PATIENCE)
        self.assertEqual((runs["stays"].returncode, out), (0, b"stays\n"), err)

    def test_a_less_important_sandbox_makes_way(self):
        environment = self.small_node()

        def run(cpu, priority):
            return self.good("compute", "run", "-d", "--cpu", cpu, "--priority", priority, IMAGE, "--", "sleep", "1000",
                             environment=environment).strip()
        less, least, most = run("1", "7"), run("1", "5"), run("1", "9")
        about = {one: self.read_json("compute", "inspect", one, environment=environment) for one in (less, least, most)}
        self.assertEqual([about[one]["status"] for one in (less, most)], ["running", "running"])
        self.assertIn("made way", str(about[least]))

    def test_a_gang_starts_and_ends_together(self):
        environment = self.small_node()

        def begin():
            member = start("compute", "run", "-d", "--cpu", "1", "--gang", "pair/2", IMAGE, "--", "sleep", "1000",
                           environment=environment)
            self.addCleanup(member.kill)
            return member
        first = begin()
        time.sleep(3)
        (waits,) = self.read_json("compute", "ls", environment=environment)
        self.assertNotEqual(waits["status"], "running", "there is room for it, but not for the other")
        second = begin()
        ids = [member.communicate(timeout=PATIENCE)[0].decode().strip() for member in (first, second)]
        self.assertEqual(ids[0], waits["id"])
        self.good("compute", "stop", ids[0], "--grace", "0", environment=environment)
        until("both have ended", lambda: not self.read_json("compute", "ls", environment=environment))
        other = self.read_json("compute", "inspect", ids[1], environment=environment)
        self.assertIn("another sandbox of its gang ended", str(other))

    def test_a_command_outlives_the_server(self):
        second = second_stack(self)
        second.start_server()
        second.start_node()
        second.wait_node()
        environment = second.environment()
        sandbox = self.good("compute", "run", "-d", IMAGE, "--", "sleep", "1000", environment=environment).strip()
        process = subprocess.Popen(
            [CHALK, "compute", "exec", sandbox, "--", "sh", "-c",
             "i=0; while [ $i -lt 900 ] && ! [ -e /tmp/go ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo end; exit 6"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(process.kill)
        seen = read_until(process.stdout.fileno(), b"5\n")
        # Longer than gRPC's own pauses between attempts, too; killed and told to stop.
        for outage, end in ((0, second.kill_server), (8, second.kill_server),
                            (3, lambda: second.stop(second.server))):
            end()
            while select.select([process.stdout], [], [], 0.5)[0]:
                seen += os.read(process.stdout.fileno(), 65536)
            time.sleep(outage)
            second.start_server()
            seen += read_until(process.stdout.fileno(), b"\n", 20)  # attached again soon
        second.wait_node()
        self.good("compute", "exec", sandbox, "--", "touch", "/tmp/go", environment=environment)
        out, err = process.communicate(timeout=PATIENCE)
        lines = (seen + out).decode().split()
        self.assertEqual((process.returncode, lines[-1]), (6, "end"), err)
        self.assertEqual(lines[:-1], [str(i + 1) for i in range(len(lines) - 1)], "nothing is lost or repeated")
        self.assertIn(b"attaching", err)


class ZLast(OnTerminal):
    """What the other tests could not live with."""

    def test_a_drained_node_takes_no_new_sandboxes(self):
        _, name = self.sandbox()
        self.bad("compute", "drain", "no-such", says="there are")
        node = self.read_json("compute", "nodes")[0]
        self.assertEqual(self.read_json("compute", "drain", node["name"]), {"name": node["name"], "draining": True})
        until("it drains", lambda: self.read_json("compute", "nodes")[0]["draining"])
        self.assertEqual(self.good("compute", "exec", name, "--", "echo", "on"), "on\n")
        process = start("compute", "run", IMAGE, "--", "true")
        self.addCleanup(process.kill)
        until("it waits", lambda: any(row["status"] == "pending" for row in self.read_json("compute", "ls")))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE), 130, process.stderr.read())
        process, ours, theirs, _ = self.pty("compute", "run", IMAGE, "--", "true")
        os.close(theirs)
        read_until(ours, b"waiting for a node with room")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(until("its end", lambda: process.poll() is not None and [process.returncode])[0], 143)
        until("it is gone", lambda: not any(row["status"] == "pending" for row in self.read_json("compute", "ls")))
        self.bad("compute", "undrain", "no-such", says="there are")
        self.assertEqual(self.read_json("compute", "undrain", node["name"]), {"name": node["name"], "draining": False})
        self.assertFalse(self.read_json("compute", "nodes")[0]["draining"])
        self.assertEqual(self.good("compute", "run", IMAGE, "--", "echo", "again"), "again\n")


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def main():
    global STACK, CHALK
    bin_dir, words = sys.argv[1], sys.argv[2:]
    CHALK = str(pathlib.Path(bin_dir).resolve() / "chalk")
    loader = unittest.TestLoader()
    suite = unittest.TestSuite()
    for case in (Words, Run, Terminal, Exec, Sandboxes, Waits, Files, Admin, Elsewhere, ZLast):
        for test in loader.loadTestsFromTestCase(case):
            if not words or any(word in test.id() for word in words):
                suite.addTest(test)
    with support.Stack(bin_dir) as STACK:
        result = unittest.TextTestRunner(verbosity=2).run(suite)
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
