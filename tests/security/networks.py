"""What a sandbox reaches over the network: the names service of its gateway, and nothing of the host or of others."""
import json
import socket
import subprocess
import threading

import world
from world import Case

# Tries to connect to all places at once, and sends a datagram to each; prints those that answered.
REACH = r"""
import json, select, socket, sys, time
places = json.loads(sys.argv[1])
open_now, reached = {}, []
for host, port in places:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1):
        try:
            one = socket.socket(kind, socket.SOCK_STREAM); one.setblocking(False)
            one.connect_ex((host, port)); open_now[one] = (host, port)
        except OSError:
            pass
        try:
            datagram = socket.socket(kind, socket.SOCK_DGRAM); datagram.sendto(b"from-a-sandbox", (host, port))
        except OSError:
            pass
end = time.time() + float(sys.argv[2])
while open_now and time.time() < end:
    for one in select.select([], list(open_now), [], 0.2)[1]:
        where = open_now.pop(one)
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            try:
                one.getpeername(); reached.append(where)
            except OSError:
                pass
print(json.dumps(reached))
"""
LOOK_UP = r"""
import socket, struct, sys
question = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x07no-such\x07invalid\0" + struct.pack(">HH", 1, 1)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.settimeout(30)
one.sendto(question, (sys.argv[1], 53)); print("answer", len(one.recv(4096)))
"""


LOCAL = ["127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "localhost"]


def host_addresses():
    links = json.loads(subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True, check=True).stdout)
    return [one["local"] for link in links for one in link["addr_info"] if one.get("scope") != "link"]


class Listener:
    """On all addresses of the host, by TCP and UDP on one port; counts who came. A thread, until closed."""

    def __init__(self):
        self.came = []
        self.stream = socket.create_server(("", 0))
        self.port = self.stream.getsockname()[1]
        self.datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagram.bind(("", self.port))
        for kind, work in (("tcp", self.accept), ("udp", self.receive)):
            threading.Thread(target=work, args=(kind,), daemon=True).start()

    def accept(self, kind):
        while True:
            try:
                one, peer = self.stream.accept()
            except OSError:
                return
            one.close()
            self.came.append((kind, peer[0]))

    def receive(self, kind):
        while True:
            try:
                _, peer = self.datagram.recvfrom(100)
            except OSError:
                return
            if peer[0] != "0.0.0.0":
                self.came.append((kind, peer[0]))

    def close(self):
        self.stream.close()
        self.datagram.close()


class NetworkCase(Case):
    def reach(self, sandbox, owner, places, patience=3):
        status, said = owner.execute(sandbox, "python3", "-c", REACH, json.dumps(places), patience)
        self.assertEqual(status, 0, said)
        return [tuple(one) for one in json.loads(said.strip().splitlines()[-1])]

    def lasting(self, reached, *others):
        """Of what was reached, what is an address of the host still: another node may go meanwhile, and what was
        its gateway is then an address of the networks outside as any is."""
        now = {*host_addresses(), *others}
        return [one for one in reached if one[0] in now]


class Networks(NetworkCase):
    def test_another_sandbox_is_not_reachable(self):
        address = world.world.address
        self.assertRegex(address, r"^10\.\d+\.\d+\.\d+$")
        # It listens, and a connection is seen as one: from itself.
        mine = [("127.0.0.1", 8000), (address, 8000)]
        self.assertEqual(set(self.reach(world.world.home, world.world.victim, mine)), set(mine))
        places = [(address, port) for port in (8000, 22, 53, 80)]
        self.assertEqual(self.reach(world.world.base, world.world.attacker, places), [])
        # Nor for another sandbox of the same environment: nobody asked for a network between them.
        sister = self.sandbox(of=world.world.victim)
        self.assertEqual(self.reach(sister, world.world.victim, [(address, 8000)]), [])

    def test_the_host_is_not_reachable(self):
        listener = Listener()
        self.addCleanup(listener.close)
        addresses = host_addresses() + LOCAL
        gateway = world.world.address.rsplit(".", 1)[0] + ".1"
        self.assertIn("127.0.0.1", addresses)
        web_port = int(world.world.web_url.rsplit(":", 1)[1])
        ports = [world.world.stack.port, world.world.stack.private_port, int(world.world.registry.rsplit(":", 1)[1]),
                 web_port, listener.port, 22]
        places = [(address, port) for address in addresses + [gateway] for port in ports]
        # That these are open is seen from the host itself.
        for port in ports[:-1]:
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
        world.wait_for(lambda: ("tcp", "127.0.0.1") in listener.came, "the host's own connection")
        listener.came.clear()
        reached = self.reach(world.world.base, world.world.attacker, places)
        self.assertEqual(self.lasting(reached, *LOCAL), [])
        self.assertEqual(listener.came, [])

    def test_metadata_and_reserved_networks_are_not_reachable(self):
        places = [("169.254.169.254", 80), ("169.254.170.2", 80), ("169.254.0.1", 80), ("224.0.0.1", 80),
                  ("255.255.255.255", 80), ("240.0.0.1", 80), ("0.0.0.1", 80), ("fe80::1", 80),
                  ("fd00:ec2::254", 80), ("::ffff:169.254.169.254", 80)]
        self.assertEqual(self.reach(world.world.base, world.world.attacker, places), [])

    def test_names_are_answered_whoever_is_asked(self):
        """The network itself works: what does not answer elsewhere is refused, not broken."""
        said = world.world.attacker.execute(world.world.base, "python3", "-c", LOOK_UP,
                                            world.world.address.rsplit(".", 1)[0] + ".1")
        self.assertEqual(said[0], 0, said)
        self.assertIn("answer", said[1])

    def test_the_names_service_survives_garbage(self):
        gateway = world.world.address.rsplit(".", 1)[0] + ".1"
        world.world.attacker.python(world.world.base, f"""
import os, socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for size in (0, 1, 11, 12, 13, 40, 512, 1400):
    for _ in range(20):
        try: one.sendto(os.urandom(size), ("{gateway}", 53))
        except OSError: pass
loop = b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\xc0\\x0c\\0\\1\\0\\1"
one.sendto(loop, ("{gateway}", 53))
for _ in range(20):
    try:
        stream = socket.create_connection(("{gateway}", 53), timeout=10); stream.sendall(b"\\xff\\xff" + os.urandom(50)); stream.close()
    except OSError: pass
""")
        self.test_names_are_answered_whoever_is_asked()
        self.assert_alive()

    def test_a_sandbox_speaks_for_itself_only(self):
        said = world.world.attacker.python(world.world.base, f"""
import fcntl, socket, struct, subprocess
def tried(name, work):
    try:
        work(); print("DONE", name)
    except OSError as error:
        print("refused", name, error.errno)
inet = socket.AF_INET
tried("raw icmp", lambda: socket.socket(inet, socket.SOCK_RAW, 1))
tried("raw ip", lambda: socket.socket(inet, socket.SOCK_RAW, 255))
tried("raw tcp", lambda: socket.socket(inet, socket.SOCK_RAW, 6))
tried("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
tried("packet datagram", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)))
tried("another's address", lambda: socket.socket(inet, socket.SOCK_DGRAM).bind(("{world.world.address}", 0)))
def transparent():
    one = socket.socket(inet, socket.SOCK_DGRAM); one.setsockopt(0, 19, 1); one.bind(("{world.world.address}", 0))
tried("transparent", transparent)
def free_bind():
    one = socket.socket(inet, socket.SOCK_DGRAM); one.setsockopt(0, 15, 1); one.bind(("{world.world.address}", 0))
    one.sendto(b"x", ("10.255.255.1", 9))
tried("freebind", free_bind)
def own_address():
    address = b"eth0".ljust(16, b"\\0") + struct.pack("HH", inet, 0) + socket.inet_aton("{world.world.address}") + bytes(8)
    fcntl.ioctl(socket.socket(inet, socket.SOCK_DGRAM), 0x8916, address)
tried("new address", own_address)
def tun():
    one = open("/dev/net/tun", "r+b", buffering=0)
    fcntl.ioctl(one, 0x400454ca, b"tap0".ljust(16, b"\\0") + struct.pack("H", 0x1002) + bytes(22))
tried("tun", tun)
def route():
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    body = struct.pack("BBBBI", 2, 24, 0, 0, 2) + struct.pack("HH4s", 8, 2, socket.inet_aton("{world.world.address}"))
    one.send(struct.pack("IHHII", 16 + len(body), 20, 0x405, 1, 0) + body)
    answer = one.recv(4096); code = struct.unpack("i", answer[16:20])[0]
    if code != 0: raise OSError(-code, "netlink")
tried("netlink address", route)
""")
        self.assertIn("refused", said)
        self.assertNotIn("DONE", said)

    def test_a_published_port_is_open_at_the_host_only(self):
        self.assertTrue(world.world.web_url.startswith("http://127.0.0.1:"), world.world.web_url)
        self.assertIn(world.world.mark, world.world.fetch(world.world.web_url + "/secret"))
        port = int(world.world.web_url.rsplit(":", 1)[1])
        places = [(address, port) for address in host_addresses()] + [(world.world.address, port)]
        reached = self.reach(world.world.base, world.world.attacker, places)
        self.assertEqual(self.lasting(reached, world.world.address), [])
        # On the host it listens where it was told to, not everywhere.
        open_at = []
        for address in host_addresses():
            if not address.startswith("127.") and ":" not in address:
                try:
                    socket.create_connection((address, port), timeout=10).close()
                    open_at.append((address, port))
                except OSError:
                    pass
        self.assertEqual(self.lasting(open_at), [])

    def test_many_flows_of_one_leave_room_for_others(self):
        world.world.attacker.python(world.world.base, """
import resource, socket
kept = []
for i in range(6000):
    try:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.setblocking(False)
        one.sendto(b"x", ("10.255.%d.%d" % (i // 250 % 250, i % 250 + 1), 9)); kept.append(one)
        if len(kept) > 500: kept.pop(0).close()
    except OSError:
        pass
""")
        self.assertIn(world.world.mark, world.world.fetch(world.world.web_url + "/secret"))
        self.assert_alive()
