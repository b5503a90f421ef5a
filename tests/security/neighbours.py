"""Two nodes on one host, of two servers: neither's sandboxes reach the other's, nor its addresses and ports."""
import json
import socket

import world
from networks import Listener, NetworkCase, host_addresses
from stack import Stack
from world import IMAGE, NODE, SMALL, wait_for

SERVE = "mkdir /srv/www; cd /srv/www; echo here > page; exec python3 -m http.server 8000"


class Neighbours(NetworkCase):
    @classmethod
    def setUpClass(cls):
        # Its published ports are open at every address of the host, gateways too.
        cls.other = Stack(world.world.stack.bin, mark="b", node_args=[*NODE, "--publish-address", "0.0.0.0"])
        cls.addClassCleanup(cls.other.__exit__, None)
        cls.other.__enter__()
        options = [word for pair in SMALL.items() for word in pair]
        made = cls.other.chalk("compute", "run", "--detach", "--json", "--name", "neighbour", "--port", "8000",
                               *options, IMAGE, "--", "sh", "-c", SERVE)
        cls.box = json.loads(made.stdout)["id"]
        shown = wait_for(cls.look, "the neighbour's published port")
        cls.address, cls.port = shown["address"], int(shown["web_url"].rsplit(":", 1)[1])
        cls.gateway = cls.address.rsplit(".", 1)[0] + ".1"
        cls.own_gateway = world.world.address.rsplit(".", 1)[0] + ".1"
        wait_for(lambda: "here" in world.world.fetch(f"http://127.0.0.1:{cls.port}/page"), "the neighbour's page")

    @classmethod
    def look(cls):
        shown = json.loads(cls.other.chalk("compute", "inspect", cls.box, "--json").stdout)
        return shown if shown.get("web_url") and shown.get("address") else None

    # A client of the other stack, as reach() takes it.
    def execute(self, sandbox, *words):
        out = self.other.chalk("compute", "exec", "--timeout", "60s", sandbox, "--", *words, check=False)
        return out.returncode, out.stdout + out.stderr

    def test_the_other_nodes_addresses_and_ports_are_not_reachable(self):
        listener = Listener()
        self.addCleanup(listener.close)
        self.assertIn(self.gateway, host_addresses())
        self.assertNotEqual(self.gateway, self.own_gateway)
        ports = [self.port, listener.port, self.other.port, self.other.private_port,
                 int(world.world.web_url.rsplit(":", 1)[1])]
        for address in (self.gateway, self.own_gateway):  # open they are, to the host
            for port in (self.port, listener.port):
                socket.create_connection((address, port), timeout=20).close()
        wait_for(lambda: len(listener.came) >= 2, "the host's own connections")
        listener.came.clear()
        places = [(address, port) for address in host_addresses() for port in ports]
        for sandbox, owner in ((world.world.base, world.world.attacker), (self.box, self)):
            self.assertEqual(self.lasting(self.reach(sandbox, owner, places)), [])
        self.assertEqual(listener.came, [])

    def test_the_other_nodes_sandboxes_are_not_reachable(self):
        self.assertEqual(self.reach(self.box, self, [(self.address, 8000)]), [(self.address, 8000)])
        self.assertEqual(self.reach(world.world.base, world.world.attacker, [(self.address, 8000)]), [])
        self.assertEqual(self.reach(self.box, self, [(world.world.address, 8000)]), [])
