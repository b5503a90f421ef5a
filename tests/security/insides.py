"""What a process in a sandbox sees, and what it can take from its neighbours."""
import hashlib
import json
import os
import pathlib
import platform
import shutil
import socket
import threading
import time

import world
from world import Case

# Says which of some attempts succeeded: "DONE name" for each, "refused name errno" for the others.
TRIED = r"""
import ctypes, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, work):
    try:
        said = work(); print("DONE", name, said)
    except OSError as error:
        print("refused", name, error.errno)
def syscall(function, *arguments):
    if function(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "refused")
"""
BOMB = r"""
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("began", flush=True)
while True:
    try: os.fork()
    except OSError: pass
"""


def host_group(controller, sandbox):
    """The folder of a sandbox's control group on the host; v1 has one for each controller, v2 one for all."""
    name = f"chalk-{world.world.stack.prefix}/{sandbox}"
    for place in (controller, "unified", ""):
        path = pathlib.Path("/sys/fs/cgroup") / place / name
        if path.is_dir() and (place == controller or (path / "cgroup.controllers").exists()):
            return path
    raise AssertionError(f"no control group {name} of {controller}")


def cpu_seconds(sandbox):
    path = host_group("cpuacct", sandbox)
    if (path / "cpuacct.usage").exists():
        return int((path / "cpuacct.usage").read_text()) / 1e9
    return int((path / "cpu.stat").read_text().split()[1]) / 1e6


class Insides(Case):
    def done(self, script, sandbox=None):
        """The names of the attempts that succeeded; some must have been made."""
        said = world.world.attacker.python(sandbox or world.world.base, TRIED + script)
        self.assertRegex(said, r"(?m)^(DONE|refused) ")
        return {line.split()[1]: line for line in said.splitlines() if line.startswith("DONE ")}

    # ---- what is seen

    def test_only_own_processes_are_seen(self):
        said = world.world.attacker.execute(world.world.base, "sh", "-c",
                                            "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")[1]
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        self.assertIn("sleep 3600", lines)
        self.assertLess(len(lines), 10, lines)
        for word in ("chalk-server", "runsc", "docker-registry", "http.server", world.world.mark):
            self.assertNotIn(word, said)
        for number in (os.getpid(), world.world.stack.server.pid):
            if number > 100:
                self.assertNotEqual(world.world.attacker.execute(world.world.base, "ls", f"/proc/{number}")[0], 0)
                self.assertNotEqual(world.world.attacker.execute(
                    world.world.base, "sh", "-c", f"kill -0 {number}")[0], 0)

    def test_the_kernel_is_not_the_host_s(self):
        said = world.world.attacker.execute(world.world.base, "sh", "-c", "cat /proc/version; dmesg; hostname")[1]
        self.assertIn("gVisor", said)
        self.assertNotIn(platform.release(), said)
        self.assertNotIn(platform.node(), said.split())

    def test_files_of_the_host_are_not_there(self):
        scratch = world.world.stack.scratch
        planted = scratch / "host-only"
        planted.write_text(world.world.mark)
        places = [str(planted), str(world.world.data / "identity.db"), str(scratch), str(world.world.stack.bin)]
        prefixes = ["", "/proc/1/root", "/proc/self/root", "/proc/self/cwd/../../../..", "/../../../../../..",
                    "/proc/1/cwd", "/.chalk/../../..", "/proc/self/fd/3/../../../..", "/etc/hosts/../../../..",
                    "/tmp/.chalk/../../../.."]
        script = f"""
for place in {places!r}:
    for prefix in {prefixes!r}:
        tried("host-file", lambda: os.stat(prefix + place))
def descriptors():
    for one in os.listdir("/proc/self/fd"):
        for place in {places!r}:
            try:
                os.stat("../../../../../.." + place, dir_fd=int(one)); return one
            except OSError: pass
    raise OSError(2, "none")
tried("through-descriptors", descriptors)
def handle():
    raw = ctypes.create_string_buffer(b"\\x08\\0\\0\\0\\x01\\0\\0\\0" + b"\\x02" + b"\\0" * 127)
    got = libc.syscall(304, os.open("/etc/hosts", os.O_RDONLY), raw, 0)
    if got < 0: raise OSError(ctypes.get_errno(), "")
tried("open_by_handle_at", handle)
"""
        self.assertEqual(self.done(script), {})
        users = world.world.attacker.execute(world.world.base, "cat", "/etc/passwd")[1]
        self.assertNotEqual(users, pathlib.Path("/etc/passwd").read_text())
        mounts = world.world.attacker.execute(world.world.base, "cat", "/proc/mounts", "/proc/self/mountinfo")[1]
        self.assertNotIn(str(scratch), mounts)

    def test_writes_stay_in_their_sandbox(self):
        """Two sandboxes share their image's layers; one spoils all it can."""
        victim = world.world.victim
        before = victim.execute(world.world.home, "sha256sum", "/etc/passwd", "/etc/debian_version", "/usr/bin/env")
        self.assertEqual(before[0], 0, before)
        stored = [path for path in world.world.node_data.rglob("etc/debian_version")
                  if path.is_file() and not path.is_symlink()]
        self.assertTrue(stored, "the layers of the image on the host")
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in stored]
        sandbox = self.sandbox()
        status, said = world.world.attacker.execute(sandbox, "sh", "-c", (
            "echo spoiled > /etc/debian_version; echo x:x:0:0::/:/bin/sh >> /etc/passwd; rm /usr/bin/env; "
            "chmod 777 /etc; mkdir /etc/new; ln -s / /everything; cat /etc/debian_version"))
        self.assertEqual((status, said.strip()), (0, "spoiled"))
        self.assertEqual(victim.execute(world.world.home, "sha256sum", "/etc/passwd", "/etc/debian_version",
                                        "/usr/bin/env"), before)
        self.assertEqual([hashlib.sha256(path.read_bytes()).hexdigest() for path in stored], digests)
        self.assertEqual(world.world.attacker.execute(self.sandbox(), "cat", "/etc/debian_version")[1].count("spoiled"), 0)

    def test_the_guest_helper_cannot_be_changed(self):
        program = world.world.stack.bin / "chalk-guest"
        before = hashlib.sha256(program.read_bytes()).hexdigest()
        self.assertEqual(self.done(r"""
tried("write", lambda: open("/.chalk/guest", "r+b"))
tried("append", lambda: open("/.chalk/guest", "ab"))
tried("truncate", lambda: os.truncate("/.chalk/guest", 0))
tried("remove", lambda: os.unlink("/.chalk/guest"))
tried("rename", lambda: os.rename("/.chalk/guest", "/.chalk/x"))
tried("replace", lambda: (open("/tmp/g", "w").write("x"), os.replace("/tmp/g", "/.chalk/guest")))
tried("mode", lambda: os.chmod("/.chalk/guest", 0o777))
tried("owner", lambda: os.chown("/.chalk/guest", 1, 1))
tried("hosts", lambda: open("/etc/hosts", "a"))
tried("resolv", lambda: open("/etc/resolv.conf", "a"))
"""), {})
        self.assertEqual(hashlib.sha256(program.read_bytes()).hexdigest(), before)
        self.assertEqual(world.world.attacker.execute(world.world.base, "ls", "/.chalk")[1].split(), ["guest"])

    def test_a_helper_that_lies_harms_its_own_sandbox_only(self):
        """The folder above the helper can be moved away, and another put in its place."""
        sandbox = self.sandbox()
        status, said = world.world.attacker.execute(sandbox, "sh", "-c", (
            "mv /.chalk /old && mkdir /.chalk && printf '#!/bin/sh\\nexec yes \"$0 $*\"\\n' > /.chalk/guest && "
            "chmod 755 /.chalk/guest"))
        if status == 0:
            for words in (("stat", f"{sandbox}:/etc/passwd"), ("ls", f"{sandbox}:/etc")):
                out = world.world.attacker.chalk("compute", "files", *words, check=False)
                self.assertNotEqual(out.returncode, 0, out.stdout[:300])
        else:
            self.assertRegex(said, "busy|denied|read-only|not permitted")
        self.assert_alive()

    def test_no_secret_lies_about(self):
        attacker = world.world.attacker
        said = attacker.python(world.world.base, r"""
import os
for name, value in os.environ.items(): print(name, value)
for one in os.listdir("/proc"):
    if one.isdigit():
        print(open(f"/proc/{one}/environ", errors="replace").read())
print(open("/proc/cmdline").read())
""")
        for word in ("CHALK", "TOKEN", "SECRET", attacker.secret, attacker.token):
            self.assertNotIn(word, said)
        words = [attacker.secret, attacker.token, world.world.victim.secret, world.world.admin.secret,
                 world.world.mark, "BEGIN EC PRIVATE", "BEGIN PRIVATE"]
        found = attacker.python(world.world.base, f"""
import os, stat
words = [word.encode() for word in {words!r}]
for top in ("/etc", "/run", "/tmp", "/root", "/home", "/srv", "/.chalk", "/var", "/opt", "/mnt", "/dev/shm"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            kind = os.lstat(path).st_mode
            if stat.S_ISSOCK(kind): print("FOUND socket", path)
            if not stat.S_ISREG(kind) or os.lstat(path).st_size > 4 << 20: continue
            held = open(path, "rb").read()
            print(*("FOUND " + path for word in words if word in held and path != "/.chalk/guest"))
print("looked")
""")
        self.assertIn("looked", found)
        self.assertNotIn("FOUND", found)

    def test_sockets_of_the_host_are_out_of_reach(self):
        path = str(world.world.stack.scratch / "host.sock")
        with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
            named.bind(path)
            named.listen()
            name = f"\0chalk-test-{os.getpid()}"
            abstract.bind(name)
            abstract.listen()
            self.assertEqual(self.done(f"""
import socket
def join(name):
    one = socket.socket(socket.AF_UNIX); one.settimeout(5); one.connect(name)
tried("named", lambda: join({path!r}))
tried("abstract", lambda: join({name!r}))
tried("docker", lambda: join("/var/run/docker.sock"))
tried("bus", lambda: join("/run/dbus/system_bus_socket"))
tried("vsock", lambda: socket.socket(40, socket.SOCK_STREAM).connect((2, 1024)))
"""), {})
        self.assertNotIn("chalk", world.world.attacker.execute(world.world.base, "cat", "/proc/net/unix")[1])

    # ---- what is reached

    def test_devices_of_the_host_are_out_of_reach(self):
        numbers = {name: os.stat("/dev/" + name).st_rdev for name in ("kmsg", "loop0", "btrfs-control", "kvm")
                   if os.path.exists("/dev/" + name)}
        numbers.update({"mem": os.makedev(1, 1), "port": os.makedev(1, 4), "vda": os.makedev(254, 0),
                        "sda": os.makedev(8, 0), "root": os.stat("/").st_dev, "hwrng": os.makedev(10, 183)})
        self.assertEqual(self.done(f"""
for name in ("kvm", "mem", "kmem", "port", "vda", "sda", "loop0", "loop-control", "kmsg", "btrfs-control", "nvidia0",
             "dri/card0", "vhost-net", "disk"):
    tried("there-" + name, lambda: os.open("/dev/" + name, os.O_RDONLY))
for name, number in {numbers!r}.items():
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        path = f"/tmp/device-{{name}}-{{kind}}"
        try: os.mknod(path, kind | 0o666, number)
        except OSError as error: print("refused", "mknod", error.errno); continue
        tried("open-" + name, lambda: os.open(path, os.O_RDONLY))
        tried("write-" + name, lambda: os.open(path, os.O_RDWR))
        os.unlink(path)
"""), {})

    def test_mounts_reach_nothing(self):
        self.assertEqual(self.done(f"""
def mount(source, target, kind, flags=0, data=b""):
    os.makedirs(target, exist_ok=True)
    syscall(libc.mount, source, target.encode(), kind, ctypes.c_ulong(flags), data)
for kind in (b"proc", b"sysfs", b"tmpfs", b"devtmpfs", b"cgroup", b"cgroup2", b"ext4", b"btrfs", b"9p", b"debugfs",
             b"overlay", b"fuse", b"nfs", b"securityfs"):
    tried("mount-" + kind.decode(), lambda: mount(kind, "/tmp/m", kind))
tried("bind", lambda: mount(b"/", "/tmp/m", b"", 4096))
tried("remount", lambda: mount(b"", "/.chalk/guest", b"", 32 | 4096))
tried("move", lambda: mount(b"/.chalk/guest", "/tmp/m", b"", 8192))
tried("umount", lambda: syscall(libc.umount2, b"/etc/hosts", 2))
tried("pivot", lambda: syscall(libc.syscall, 155, b"/tmp", b"/tmp"))
def jail():
    os.makedirs("/tmp/jail", exist_ok=True)
    out = os.open("/", os.O_RDONLY); os.chroot("/tmp/jail"); os.fchdir(out)
    for _ in range(50): os.chdir("..")
    os.chroot(".")
    os.stat({str(world.world.stack.scratch)!r})
tried("out-of-a-chroot", jail)
"""), {})

    def test_user_namespaces_open_nothing_of_the_host(self):
        """In one of its own a process may mount; what is mounted is gVisor's."""
        host = platform.release()
        status, said = world.world.attacker.execute(self.sandbox(), "python3", "-c", TRIED + f"""
tried("user-namespace", lambda: syscall(libc.unshare, 0x10000000 | 0x00020000))
for kind in (b"proc", b"sysfs", b"tmpfs", b"devtmpfs", b"cgroup", b"ext4", b"9p", b"overlay"):
    os.makedirs("/tmp/n", exist_ok=True)
    tried("mount", lambda: syscall(libc.mount, b"/dev/vda", b"/tmp/n", kind, ctypes.c_ulong(0), b"lowerdir=/:/tmp"))
for name in ("kvm", "mem", "vda", "loop0"):
    for folder in ("/tmp/n", "/dev"):
        tried("DEVICE", lambda: os.open(folder + "/" + name, os.O_RDONLY))
tried("HOST", lambda: os.stat({str(world.world.stack.scratch)!r}))
print(open("/proc/version").read())
""")
        self.assertEqual(status, 0, said)
        self.assertNotIn("DONE DEVICE", said)
        self.assertNotIn("DONE HOST", said)
        self.assertNotIn(host, said)
        self.assert_alive()

    def test_kernel_settings_are_the_sandbox_s_or_nobody_s(self):
        names = [name for name in ("kernel/core_pattern", "kernel/hostname", "kernel/panic", "net/ipv4/ip_forward",
                                   "vm/overcommit_memory", "kernel/modprobe", "kernel/randomize_va_space",
                                   "fs/file-max") if os.path.exists("/proc/sys/" + name)]
        before = [pathlib.Path("/proc/sys", name).read_text() for name in names]
        self.done(f"""
for name in {names!r}:
    tried(name, lambda: open("/proc/sys/" + name, "w").write("1"))
tried("sysrq", lambda: open("/proc/sysrq-trigger", "w").write("b"))
tried("uevent", lambda: open("/sys/kernel/uevent_helper", "w").write("/x"))
tried("reboot", lambda: syscall(libc.reboot, 0x1234567))
tried("module", lambda: syscall(libc.syscall, 175, b"x", 1, b""))
tried("time", lambda: __import__("time").clock_settime(0, 1))
tried("swap", lambda: syscall(libc.swapon, b"/tmp/x", 0))
tried("bpf", lambda: syscall(libc.syscall, 321, 0, 0, 0))
tried("keyctl", lambda: syscall(libc.syscall, 250, 11, -3, 0))
""")
        self.assertEqual([pathlib.Path("/proc/sys", name).read_text() for name in names], before)
        self.assertLess(abs(time.time() - float(world.world.attacker.execute(
            self.sandbox(), "date", "+%s")[1])), 3600)
        self.assert_alive()

    def test_control_groups_cannot_be_changed(self):
        limit = host_group("memory", world.world.base)
        before = {path.name: path.read_text() for path in limit.iterdir()
                  if path.name in ("memory.limit_in_bytes", "memory.max", "notify_on_release")}
        self.assertTrue(before)
        self.assertEqual(self.done(r"""
tried("nothing", lambda: os.stat("/nothing"))
for folder, folders, names in os.walk("/sys/fs/cgroup"):
    for name in names:
        if name in ("release_agent", "memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "devices.allow"):
            tried("write-" + name, lambda: open(os.path.join(folder, name), "w").write("-1"))
    tried("group-in-" + folder, lambda: os.mkdir(os.path.join(folder, "own")))
"""), {})
        self.assertEqual({name: (limit / name).read_text() for name in before}, before)

    def test_tracing_and_killing_reach_own_processes_only(self):
        sandbox = self.sandbox()
        script = r"""
import signal
for number in [*range(2, 300), *range(1000, 40000, 7)]:
    if number == os.getpid(): continue
    tried("attach", lambda: syscall(libc.ptrace, 16, number, 0, 0))
tried("kill-all", lambda: os.kill(-1, signal.SIGKILL))
"""
        status, said = world.world.attacker.execute(sandbox, "python3", "-c", TRIED + script)
        self.assertNotIn("DONE attach", said)
        self.assert_alive()

    # ---- what is used

    def beside(self, work):
        """Runs something, and meanwhile asks the victim again and again; the longest answer in seconds."""
        over, slowest, wrong = threading.Event(), [0.0], []

        def ask():
            while not over.is_set():
                begin = time.monotonic()
                try:
                    self.assert_alive()
                except Exception as error:  # told by the thread that waits
                    wrong.append(error)
                    return
                slowest[0] = max(slowest[0], time.monotonic() - begin)
                over.wait(0.5)
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            result = work()
        finally:
            over.set()
            asking.join()
        self.assertEqual(wrong, [])
        self.assertLess(slowest[0], 60)
        return result

    def test_a_fork_bomb_is_contained(self):
        sandbox = self.sandbox("--memory", "128Mi", "--cpu", "200m", command=("python3", "-u", "-c", BOMB))
        pids = host_group("pids", sandbox)
        most = [0]

        def watch():
            until = time.monotonic() + 10
            while time.monotonic() < until:
                try:
                    most[0] = max(most[0], int((pids / "pids.current").read_text()))
                except OSError:
                    pass
                time.sleep(0.2)
        self.beside(watch)
        self.assertGreater(most[0], 20, "the bomb went off")
        self.assertLessEqual(most[0], 4096)
        world.world.attacker.chalk("compute", "stop", sandbox, "--grace", "0s")
        world.wait_for(lambda: not pids.exists(), "the end of its control group")
        self.assert_alive()

    def test_a_memory_hog_is_ended_and_told(self):
        hog = "held = []\nwhile True: held.append(bytearray(b'x') * (8 << 20))"
        sandbox = self.sandbox("--memory", "128Mi", command=("python3", "-c", hog))
        self.beside(lambda: world.wait_for(lambda: world.world.attacker.inspect(sandbox)["status"] not in (
            "pending", "running"), "the end of the hog"))
        about = world.world.attacker.inspect(sandbox)
        self.assertEqual(about["status"], "failed", about)
        self.assertIn("memory", about["status_message"], about)
        # By a command that was executed in it, too: all of it ends, and that is said.
        sandbox = self.sandbox("--memory", "128Mi")
        self.assertNotEqual(world.world.attacker.execute(sandbox, "python3", "-c", hog)[0], 0)
        self.assert_alive()

    def test_a_file_system_in_memory_counts_as_memory(self):
        sandbox = self.sandbox("--memory", "128Mi", "--disk", "64Mi")
        group = host_group("memory", sandbox)
        world.world.attacker.execute(sandbox, "sh", "-c",
                                     "for i in 1 2 3 4; do head -c 200M /dev/zero > /dev/shm/$i; done")
        if group.exists():
            name = "memory.usage_in_bytes" if (group / "memory.usage_in_bytes").exists() else "memory.current"
            self.assertLess(int((group / name).read_text()), 160 << 20)
        self.assert_alive()

    def test_a_disk_hog_gets_no_space(self):
        free = shutil.disk_usage(world.world.node_data).free
        sandbox = self.sandbox("--disk", "64Mi")
        said = world.world.attacker.python(sandbox, r"""
import errno, os
for folder in ("/tmp", "/root", "/var/tmp", "/srv"):
    try:
        with open(folder + "/hog", "wb") as out:
            while True: out.write(bytes(1 << 20)); out.flush()
    except OSError as error: print(folder, errno.errorcode[error.errno])
def reserve(path):
    with open(path, "wb") as out: os.posix_fallocate(out.fileno(), 0, 50 << 30)
try: reserve("/root/reserved")
except OSError as error: print("reserved", errno.errorcode[error.errno])
try: open("/root/sparse", "wb").truncate(1 << 40); print("sparse ok")
except OSError as error: print("sparse", errno.errorcode[error.errno])
""")
        self.assertIn("/tmp ENOSPC", said)
        self.assertRegex(said, "reserved (ENOSPC|EOPNOTSUPP|EFBIG)")
        folder = world.world.node_data / "runsc" / "bundles" / sandbox
        self.assertTrue(folder.is_dir())
        used = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        self.assertLess(used, 100 << 20)
        self.assertLess(free - shutil.disk_usage(world.world.node_data).free, 2 << 30)
        self.assert_alive()

    def test_what_a_sandbox_prints_does_not_fill_the_disk(self):
        """Its main process writes without end, and reserves space where its output goes."""
        script = r"""
import os, sys, time
for descriptor in (1, 2):
    for work in (lambda: os.posix_fallocate(descriptor, 0, 8 << 30), lambda: os.ftruncate(descriptor, 8 << 30)):
        try: work()
        except OSError as error: pass
time.sleep(1)
block = b"x" * 65535 + b"\n"
for _ in range(800):
    try: os.write(1, block)
    except OSError as error: os.write(2, str(error).encode()); break
print("END", flush=True)
time.sleep(600)
"""
        free = [shutil.disk_usage(world.world.node_data).free]
        over = threading.Event()

        def watch():
            while not over.wait(0.02):
                free.append(shutil.disk_usage(world.world.node_data).free)
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            sandbox = self.sandbox(command=("python3", "-c", script))
            world.wait_for(lambda: "END" in world.world.attacker.chalk(
                "compute", "logs", sandbox, check=False).stdout[-200:], "its last line")
        finally:
            over.set()
            watching.join()
        self.assertLess(free[0] - min(free), 3 << 30, "bytes of the host's disk that were taken meanwhile")
        held = [path for path in (world.world.node_data / "output").iterdir()
                if path.is_file() and path.stat().st_blocks * 512 > (64 << 20)]
        self.assertEqual(held, [])

    def test_a_busy_loop_keeps_to_its_share(self):
        loop = ("sh", "-c", "for i in 1 2 3 4; do (while :; do :; done) & done; wait")
        sandbox = self.sandbox("--cpu", "300m", command=loop)
        world.wait_for(lambda: cpu_seconds(sandbox) > 0.5, "the loop")

        def window():
            begin, used = time.monotonic(), cpu_seconds(sandbox)
            time.sleep(5)
            return (cpu_seconds(sandbox) - used) / (time.monotonic() - begin)
        share = self.beside(window)
        self.assertLess(share, 0.3 * 1.5)
        self.assertGreater(share, 0.02, "it ran at all")

    def test_many_files_and_deep_folders_are_contained(self):
        sandbox = self.sandbox("--memory", "128Mi", "--disk", "64Mi")
        status, _ = world.world.attacker.execute(sandbox, "python3", "-c", r"""
import os
try:
    for i in range(3000): os.mkdir("d"); os.chdir("d")
except OSError: pass
os.chdir("/tmp")
try:
    for i in range(100_000): os.close(os.open(f"/tmp/{i}", os.O_CREAT | os.O_WRONLY))
except OSError: pass
""")
        world.world.attacker.chalk("compute", "stop", sandbox, "--grace", "0s")
        self.assert_alive()
