"""A real Chalk for tests: a registry, a server, and a node, in the server or beside it.

    with Stack(bin_dir) as stack:            # chalk-server --all-in-one
        stack.environment()                  # what a client needs in its environment
    with Stack(bin_dir, split=True) as stack:   # server and node apart, each may be killed
        stack.kill_server(); stack.start_server()

Everything is started in a scratch folder with names and addresses of its own, and ended by its own pid.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 180


def registry() -> str:
    """The address of the registry of ci/base-image, started when it does not run."""
    out = subprocess.run([ROOT / "ci/registry", "start"], capture_output=True, text=True, check=False)
    if out.returncode != 0:
        sys.exit("stack: ci/registry start failed:\n" + out.stderr)
    return out.stdout.strip().splitlines()[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Wire:
    """A TCP proxy that can be cut: nothing more gets through, and new connections are closed at once."""

    def __init__(self, target):
        self.target, self.whole, self.pairs = target, True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                if not self.whole:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if self.listener.fileno() < 0:
                    return
                continue
            self.pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                if not self.whole:  # held back, as a network does that has lost a link
                    return
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.whole = False

    def heal(self):
        self.whole = True
        for pair in self.pairs:
            for end in pair:
                end.close()
        self.pairs = []


class Stack:
    def __init__(self, bin_dir, split=False, server_args=(), node_args=(), scratch=None, wired=False,
                 mark=""):
        self.bin = pathlib.Path(bin_dir).resolve()
        self.split = split
        self.server_args, self.node_args = list(server_args), list(node_args)
        self.kept = scratch is not None
        self.scratch = pathlib.Path(scratch or tempfile.mkdtemp(prefix="chalk-stack-"))
        self.data, self.node_data = self.scratch / "data", self.scratch / "node"
        self.env_file = self.scratch / "chalk.env"
        self.port, self.private_port = free_port(), free_port()
        tidy_dead()
        self.prefix = "t%05x%s" % (os.getpid() % 0xFFFFF, mark)  # a letter where a process has two of them
        self.pool = free_pool()
        self.server = self.node = None
        self.wire = Wire(self.private_port) if wired else None
        self.mirror = "docker.io=http://" + registry()

    def __enter__(self):
        try:
            self.start_server()
            if self.split:
                self.start_node()
                self.wait_node()
        except BaseException:
            self.close(failed=True)
            raise
        return self

    def __exit__(self, kind, *rest):
        self.close(failed=kind is not None)

    # ---- processes

    def node_flags(self):
        return ["--network-prefix", self.prefix, "--network-pool", self.pool,
                "--runsc", str(ROOT / "build/tools/bin/runsc"), *self.node_args]

    def start_server(self):
        """Starts it and waits until it is ready."""
        if self.env_file.exists():
            self.env_file.unlink()
        command = [self.bin / "chalk-server", "--data", self.data, "--listen", f"127.0.0.1:{self.port}",
                   "--private-listen", f"127.0.0.1:{self.private_port}", "--env-file", self.env_file,
                   "--mirror", self.mirror, *self.server_args]
        if not self.split:
            command += ["--all-in-one", *self.node_flags()]
        self.server = self.spawn(command, "server.log")
        self.wait(lambda: self.env_file.exists(), "the server's env file", self.server)

    def start_node(self):
        command = [self.bin / "chalk-node", "--data", self.node_data, "--server", f"127.0.0.1:{self.wire.port if self.wire else self.private_port}",
                   "--server-root", self.data / "authority" / "authority.crt", "--node-name", "node-a",
                   "--mirror", self.mirror, *self.node_flags()]
        if not (self.node_data / "identity").exists():
            command += ["--join-token", self.chalk("admin", "node-token").stdout.strip().splitlines()[-1]]
        self.node = self.spawn(command, "node.log")

    def spawn(self, command, log):
        out = open(self.scratch / log, "ab")
        return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out,
                                stderr=out, start_new_session=True)

    def wait(self, done, what, process):
        until = time.time() + READY_SECONDS
        while time.time() < until:
            if done():
                return
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"stack: {what}: the process ended with {process.returncode}\n{self.tails()}")
            time.sleep(0.05)
        raise RuntimeError(f"stack: {what} did not come within {READY_SECONDS} s\n{self.tails()}")

    def wait_node(self):
        self.wait(lambda: '"connected":true' in self.chalk("compute", "nodes", "--json", check=False)
                  .stdout.replace(" ", ""), "the node", self.node)

    def kill_server(self):
        self.server.kill()
        self.server.wait()

    def kill_node(self):
        self.node.kill()
        self.node.wait()

    def stop(self, process):
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            print("stack: a process did not stop within 60 s and is killed", file=sys.stderr)
            process.kill()
            process.wait()

    # ---- clients

    def environment(self):
        values = dict(os.environ)
        for line in self.env_file.read_text().splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            values[name] = value
        return values

    def use(self):
        """Makes this the server of chalkcompute in this process."""
        os.environ.update(self.environment())

    def chalk(self, *arguments, check=True, **options):
        out = subprocess.run([self.bin / "chalk", *map(str, arguments)], env=self.environment(),
                             capture_output=True, text=True, timeout=180, **options)
        if check and out.returncode != 0:
            raise RuntimeError(f"chalk {' '.join(map(str, arguments))}: {out.returncode}\n{out.stdout}{out.stderr}")
        return out

    def export_logs(self, folder):
        """The logs of stopped processes as files for chalk-sim; (control.log, node.log)."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        places = {self.data, self.node_data} if self.split else {self.data}
        for data in places:
            subprocess.run([self.bin / "chalk-server", "--data", data, "export-log", "--out", folder], check=True,
                           stdout=subprocess.DEVNULL)
        return folder / "control.log", folder / "node.log"

    def replay(self, log):
        return subprocess.run([self.bin / "chalk-sim", "replay", log, "--check-digest", "--json"],
                              capture_output=True, text=True, timeout=600)

    # ---- the end

    def tails(self):
        out = ""
        for log in ("server.log", "node.log"):
            path = self.scratch / log
            if path.exists():
                out += f"---- the end of {log}\n" + path.read_bytes()[-6000:].decode(errors="replace")
        return out

    def remove_sandboxes(self):
        """Ends what still runs, so that nothing of a test is left on the host."""
        try:
            rows = self.chalk("compute", "ls", "--json", check=False)
            import json
            for row in json.loads(rows.stdout or "[]"):
                self.chalk("compute", "stop", row["id"], "--grace", "0s", check=False)
        except Exception as error:  # the tidying must not hide what failed
            print(f"stack: {error}", file=sys.stderr)

    def close(self, failed=False):
        if failed:
            print(self.tails(), file=sys.stderr)
        if self.server is not None and self.server.poll() is None:
            self.remove_sandboxes()
            self.settle()
        self.stop(self.node)
        self.stop(self.server)
        tidy(self.prefix, self.scratch)
        if not self.kept:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def settle(self, seconds=60):
        """Waits until no sandbox lives."""
        until = time.time() + seconds
        while time.time() < until:
            rows = self.chalk("compute", "ls", "--json", check=False)
            if rows.returncode == 0 and rows.stdout.strip() in ("[]", ""):
                return True
            time.sleep(0.2)
        return False


def free_pool() -> str:
    """A /16 of 10.x that nothing on this host uses."""
    used = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True).stdout
    used += subprocess.run(["ip", "-4", "route"], capture_output=True, text=True).stdout
    for number in range(100, 250):
        if f" 10.{number}." not in used and not used.startswith(f"10.{number}.") and f"\n10.{number}." not in used:
            return f"10.{number}.0.0/16"
    raise RuntimeError("stack: every network 10.100 to 10.249 is in use")


def tidy_dead():
    """What tests that were killed left: their names hold their pids."""
    names = {link.split(": ")[1].split("@")[0] for link in subprocess.run(
        ["ip", "-o", "link"], capture_output=True, text=True).stdout.splitlines() if ": " in link}
    names |= {path.name.removeprefix("chalk-") for path in pathlib.Path("/sys/fs/cgroup").glob("*/chalk-t?????*")}
    for name in names:
        prefix = name.split("-")[0]
        try:
            pid = int(prefix[1:6], 16) if len(prefix) in (6, 7) and prefix[0] == "t" else 0
        except ValueError:
            continue
        if pid and not pathlib.Path(f"/proc/{pid}").exists():
            tidy(prefix, pathlib.Path("/nowhere"))
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    for word in tables.split():
        if len(word) in (12, 13) and word.startswith("chalk_t") and not pathlib.Path(f"/proc/{int(word[7:12], 16)}").exists():
            tidy(word[6:], pathlib.Path("/nowhere"))


def tidy(prefix, scratch):
    """What a killed node leaves in the kernel: its sandboxes' processes, namespaces, mounts, cgroups."""
    for cgroup in pathlib.Path("/sys/fs/cgroup").glob(f"*/chalk-{prefix}"):
        for procs in cgroup.rglob("cgroup.procs"):
            for pid in procs.read_text().split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except (OSError, ValueError):
                    pass
    for entry in pathlib.Path("/run/netns").glob(f"{prefix}-*"):
        subprocess.run(["ip", "netns", "delete", entry.name], stderr=subprocess.DEVNULL)
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    for line in links.splitlines():
        name = line.split(": ")[1].split("@")[0] if ": " in line else ""
        if name.startswith(prefix + "-"):
            subprocess.run(["ip", "link", "delete", name], stderr=subprocess.DEVNULL)
    for family in ("inet", "arp"):
        subprocess.run(["nft", "delete", "table", family, "chalk_" + prefix], stderr=subprocess.DEVNULL)
    # The pool's own route, where no gateway has an address of it any more.
    addresses = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True).stdout
    for line in subprocess.run(["ip", "-4", "route"], capture_output=True, text=True).stdout.splitlines():
        words = line.split()
        if words[:1] == ["unreachable"] and words[1].startswith("10."):
            start = " " + ".".join(words[1].split(".")[:2]) + "."
            if start not in addresses:
                subprocess.run(["ip", "route", "delete", "unreachable", words[1]], stderr=subprocess.DEVNULL)
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    for mount in sorted((m for m in mounts if m.startswith(str(scratch) + "/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], stderr=subprocess.DEVNULL)
    for cgroup in sorted(pathlib.Path("/sys/fs/cgroup").glob(f"*/chalk-{prefix}"), reverse=True):
        for folder in sorted((p for p in cgroup.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
            try:
                folder.rmdir()
            except OSError:
                pass
        try:
            cgroup.rmdir()
        except OSError:
            pass
