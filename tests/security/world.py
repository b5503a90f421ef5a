"""What the cases share: one server, an environment that owns something, and one that wants it.

`world.victim` and `world.attacker` are clients with the role user of two environments on one node. The victim has
a sandbox that runs, with a secret in a file, a session, and a name; the attacker has a sandbox of its own.
"""
import http.client
import json
import os
import pathlib
import sqlite3
import time
import unittest

import grpc
import protocol
from evil_registry import EvilRegistry
from stack import Stack, registry

PATIENCE = 120  # seconds; the machine may be slow and busy
IMAGE = "python:3.12-slim-bookworm"
SMALL = {"--cpu": "500m", "--memory": "256Mi", "--lifetime": "15m"}
# A node of many small sandboxes, whatever the machine: nothing here measures.
NODE = ["--cpu", "64", "--memory", "32Gi", "--disk", "100Gi", "--start-slots", "4"]
world = None  # set by main.py


def wait_for(condition, what, seconds=PATIENCE):
    """The first true value of condition()."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come within {seconds} s")


class Client:
    """Who calls: a client's id, secret, environment, and a token for them."""

    def __init__(self, owner, client_id, secret, environment):
        self.owner, self.id, self.secret, self.environment = owner, client_id, secret, environment
        self.token = owner.api.call("chalk.server.v1.AuthService", "GetToken", [
            {"client_id": client_id, "client_secret": secret, "grant_type": "client_credentials"}])[0].access_token

    def metadata(self, *more):
        return [("authorization", "Bearer " + self.token), *more]

    def call(self, service, method, *requests, more=(), **options):
        """The answers of a call, or grpc.RpcError."""
        return self.owner.api.call(service, method, list(requests), self.metadata(*more), **options)

    def chalk(self, *words, check=True, timeout=PATIENCE, **options):
        import subprocess
        values = {**self.owner.stack.environment(), "CHALK_CLIENT_ID": self.id, "CHALK_CLIENT_SECRET": self.secret,
                  "CHALK_ENVIRONMENT": self.environment}
        out = subprocess.run([self.owner.stack.bin / "chalk", *map(str, words)], env=values, capture_output=True,
                             timeout=timeout, **options)
        out.stdout, out.stderr = (text.decode(errors="replace") for text in (out.stdout, out.stderr))
        if check and out.returncode != 0:
            raise AssertionError(f"chalk {words}: {out.returncode}\n{out.stdout}{out.stderr}")
        return out

    def run(self, name, *more, command=("sleep", "3600"), image=IMAGE):
        """The id of a new sandbox; `more` are options of chalk with their values."""
        options = {**SMALL, **dict(zip(more[::2], more[1::2]))}
        more = [word for pair in options.items() for word in pair]
        out = self.chalk("compute", "run", "--detach", "--json", "--name", name, *more, image, "--", *command)
        return json.loads(out.stdout)["id"]

    def inspect(self, sandbox):
        return json.loads(self.chalk("compute", "inspect", sandbox, "--json").stdout)

    def execute(self, sandbox, *words, **options):
        """Exit code and what a command in a sandbox wrote, its errors behind its output."""
        out = self.chalk("compute", "exec", "--timeout", "60s", sandbox, "--", *words, check=False, **options)
        return out.returncode, out.stdout + out.stderr

    def python(self, sandbox, script, **options):
        """What a script in a sandbox printed."""
        status, said = self.execute(sandbox, "python3", "-c", script, **options)
        if status != 0:
            raise AssertionError(f"a script in {sandbox} ended with {status}:\n{said}")
        return said


class World:
    def __init__(self, bin_dir):
        self.registry = registry()
        self.evil = EvilRegistry()
        self.stack = Stack(bin_dir, split=True, node_args=[*NODE, "--mirror", self.evil.mirror],
                           server_args=["--share-nodes", "--mirror", self.evil.mirror])

    def __enter__(self):
        try:
            self.evil.start()
            self.stack.__enter__()
            try:
                self.build()
            except BaseException:
                self.stack.close(failed=True)
                raise
        except BaseException:
            self.evil.close()
            raise
        return self

    def __exit__(self, *what):
        self.channel.close()
        try:
            self.stack.__exit__(*what)
        finally:
            self.evil.close()

    def build(self):
        self.target = f"127.0.0.1:{self.stack.port}"
        self.channel = grpc.insecure_channel(self.target, [("grpc.max_receive_message_length", 64 << 20)])
        self.api = protocol.Api(self.channel)
        self.first_key = self.node_key()  # before any test lets another one join
        said = self.stack.environment()
        self.admin = Client(self, said["CHALK_CLIENT_ID"], said["CHALK_CLIENT_SECRET"], said["CHALK_ENVIRONMENT"])
        self.victim, self.attacker = self.tenant("victim"), self.tenant("attacker")
        # Words that are nowhere but in what the victim owns: whoever sees one has seen too much.
        self.mark = "mark" + os.urandom(12).hex()
        self.home = self.victim.run("home-of-victim", "--port", "8000", command=("sh", "-c", (
            f"mkdir /srv/www; echo {self.mark} > /srv/www/secret; cd /srv/www; echo {self.mark}; "
            "exec python3 -m http.server 8000")))
        self.box = self.victim.call("chalk.container.v1.ContainerService", "RunContainer", {"container": {"spec": {
            "name": "box-of-victim", "image": IMAGE, "resources": {"cpu": "500m", "memory": "256Mi"},
            "entrypoint": ["sh", "-c", f"mkdir /srv/www; echo {self.mark} > /srv/www/secret; exec sleep 3600"],
            "lifetime": "900s", "tags": {"secret": self.mark}}}})[0].container.id
        self.base = self.attacker.run("base")
        self.address = self.victim.inspect(self.home)["address"]
        self.web_url = wait_for(lambda: self.victim.inspect(self.home)["web_url"], "the published port")
        wait_for(lambda: self.mark in self.fetch(self.web_url + "/secret"), "the victim's page")

    def tenant(self, name):
        self.stack.chalk("admin", "env", "create", name, "--id", name)
        return self.client_of(name)

    def client_of(self, environment, role="user"):
        made = json.loads(self.stack.chalk("admin", "client", "create", "--environment", environment, "--role", role,
                                           "--json").stdout)
        return Client(self, made["client_id"], made["client_secret"], environment)

    def fetch(self, url):
        host, _, path = url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=20)
        try:
            connection.request("GET", "/" + path)
            return connection.getresponse().read().decode(errors="replace")
        except OSError:
            return ""
        finally:
            connection.close()

    @property
    def data(self):
        return pathlib.Path(self.stack.data)

    @property
    def node_data(self):
        return pathlib.Path(self.stack.node_data)

    def node_key(self):
        """The number of the only node that has joined so far."""
        database = sqlite3.connect(f"file:{self.data}/identity.db?mode=ro", uri=True)
        try:
            return database.execute("SELECT key FROM nodes LIMIT 1").fetchone()[0] % 2**64
        finally:
            database.close()


class Case(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.still_there("before")

    def tearDown(self):
        self.still_there("in")

    def still_there(self, when):
        for name, process in (("server", world.stack.server), ("node", world.stack.node)):
            ended = process.poll()
            if ended is not None:
                self.fail(f"the {name} ended with {ended} {when} this case")

    def sandbox(self, *more, of=None, **options):
        """A sandbox that ends with its case."""
        owner = of or world.attacker
        made = owner.run(f"t-{time.monotonic_ns()}", *more, **options)
        self.addCleanup(owner.chalk, "compute", "stop", made, "--grace", "0s", check=False)
        return made

    def assert_alive(self):
        """The server, its node and the victim's sandbox still do their work."""
        status, said = world.victim.execute(world.home, "cat", "/srv/www/secret")
        self.assertEqual((status, said.strip()), (0, world.mark))
