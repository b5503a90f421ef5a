"""Bytes that are no requests, requests that are too large, names that lead elsewhere, and who comes to the nodes' port."""
import json
import os
import pathlib
import random
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import time

import grpc
import world
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from protocol import REFLECTION as REFLECTION_SERVICE
from protocol import code_of
from world import Case

Code = grpc.StatusCode
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SANDBOXES = "chalk.sandbox.v2.SandboxService"
PROCESSES = "chalk.sandbox.v2.SandboxProcessService"
FILES = "chalk.sandbox.v2.SandboxFilesystemService"
REFLECTION = f"/{REFLECTION_SERVICE}/ServerReflectionInfo"


def frame(kind, flags, stream, body):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def literal(name, value):
    """A header of HPACK, neither indexed nor compressed."""
    def text(one):
        raw = one if isinstance(one, bytes) else one.encode()
        size = bytes([len(raw)]) if len(raw) < 127 else bytes([127, (len(raw) - 127) % 128 | 128, (len(raw) - 127) >> 7])
        return size + raw
    return b"\0" + text(name) + text(value)


def grpc_call(path, body, token="", more=b""):
    """The frames of one gRPC call."""
    headers = b"".join(literal(*pair) for pair in (
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers"),
        ("content-type", "application/grpc"), ("authorization", "Bearer " + token)))
    return PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, headers + more) + frame(0, 1, 1, body)


class RawBytes(Case):
    def throw(self, port, *pieces, pause=0.0, patience=20, wrap=None):
        """Sends pieces, and returns what comes until the other side closes or is silent."""
        heard = b""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=patience) as one:
                if wrap is not None:
                    one = wrap.wrap_socket(one)
                one.settimeout(patience)
                for piece in pieces:
                    one.sendall(piece)
                    time.sleep(pause)
                one.shutdown(socket.SHUT_WR)
                one.settimeout(2)
                while len(heard) < 1 << 20:
                    piece = one.recv(65536)
                    if not piece:
                        break
                    heard += piece
        except OSError:  # cut off: as good an answer as any
            pass
        return heard

    def assert_good(self):
        """A good request is answered, over gRPC and over HTTP/1.1."""
        self.assertIsNone(world.world.stack.server.poll(), "the server ended")
        code, said = code_of(lambda: world.world.attacker.call(SANDBOXES, "ListSandboxes", {}))
        self.assertEqual(code, Code.OK, said)
        self.assertIn(b"200", self.throw(world.world.stack.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))

    def test_random_bytes(self):
        seed = int.from_bytes(os.urandom(4), "big")
        print("seed", seed)
        dice = random.Random(seed)
        for port in (world.world.stack.port, world.world.stack.private_port):
            for _ in range(25):
                begin = dice.choice([b"", b"\x16\x03\x01", PREFACE, b"GET / HTTP/1.1\r\n", b"POST ", b"\x16\x03\x01\x02\0\x01",
                                     PREFACE + frame(4, 0, 0, b"")])
                self.throw(port, begin + dice.randbytes(dice.choice([0, 1, 7, 300, 20_000])), patience=2)
        self.assert_good()

    def test_half_a_handshake(self):
        memory, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        shake = context.wrap_bio(memory, out, server_hostname="chalk")
        with self.assertRaises(ssl.SSLWantReadError):
            shake.do_handshake()
        hello = out.read()
        for port in (world.world.stack.port, world.world.stack.private_port):
            for size in (1, 5, 6, 40, len(hello) // 2, len(hello) - 1):
                self.throw(port, hello[:size], patience=2)
        # Many that stay half open, while others are served.
        held = [socket.create_connection(("127.0.0.1", world.world.stack.port), timeout=20) for _ in range(200)]
        for one in held:
            one.sendall(hello[:7])
        self.assert_good()
        for one in held:
            one.close()

    def test_requests_that_two_readers_would_read_differently(self):
        smuggled = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        port = world.world.stack.port
        token = world.world.attacker.token.encode()
        path = f"/{SANDBOXES}/ListSandboxes".encode()
        head = (b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/proto\r\n"
                b"Authorization: Bearer " + token + b"\r\n")
        for extra in (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 0\r\nContent-Length: 40\r\n",
                      b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, identity\r\n",
                      b"Transfer-Encoding : chunked\r\n", b"Content-Length: -1\r\n", b"Content-Length: 4 4\r\n",
                      b"Content-Length: 0x4\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: +4\r\n",
                      b" folded: x\r\n", b"X-Chalk-Env-Id: a\r\n\tb\r\n", b"Bad Name: x\r\n", b"NoColon\r\n",
                      b"X: a\0b\r\n", b"Transfer-Encoding:\x0bchunked\r\n"):
            heard = self.throw(port, head + extra + b"\r\n0\r\n\r\n" + smuggled, patience=5)
            self.assertLessEqual(len(re.findall(rb"HTTP/1.1 \d", heard)), 1, (extra, heard[:300]))
            self.assertNotIn(b"HTTP/1.1 200", heard, extra)
        # A header's value goes no further than its line.
        for value in (b"victim\rX-Chalk-Env-Id: victim", b"\x7f\x80\xff", b"x" * 9000):
            heard = self.throw(port, head + b"x-chalk-env-id: " + value + b"\r\nContent-Length: 0\r\n\r\n", patience=5)
            self.assertNotIn(world.world.home.encode(), heard)
        for chunks in (b"ffffffffffffffff\r\nx\r\n0\r\n\r\n", b"-1\r\nx\r\n", b"5;" + b"e" * 100_000 + b"\r\nxxxxx\r\n",
                       b"1\r\nxx\r\n0\r\n\r\n", b"g\r\n"):
            heard = self.throw(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, patience=5)
            self.assertNotIn(b"HTTP/1.1 200", heard, chunks[:30])
        self.assert_good()

    def test_large_requests(self):
        port = world.world.stack.port
        path = f"/{PROCESSES}/ExecCommand".encode()
        for token, body in ((b"", 200 << 20), (world.world.attacker.token.encode(), 200 << 20)):
            head = (b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/proto\r\nAuthorization: Bearer "
                    + token + b"\r\nContent-Length: %d\r\n\r\n" % body)
            heard = self.throw(port, head, *[bytes(1 << 20)] * 8, patience=10)
            self.assertNotIn(b"HTTP/1.1 200", heard)
        self.throw(port, b"GET /" + b"a" * (1 << 20), patience=10)
        self.throw(port, b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % i for i in range(50_000)), patience=10)
        code, said = code_of(lambda: world.world.attacker.call(
            PROCESSES, "ExecCommand", {"sandbox_id": world.world.base, "command": "true", "args": ["x" * (120 << 20)]}))
        self.assertIn(code, {Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT, Code.INTERNAL}, said)
        with open(f"/proc/{world.world.stack.server.pid}/status") as status:
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        self.assertLess(resident, 2 << 20, "KiB that the server keeps")
        self.assert_good()

    def test_frames_with_wrong_lengths(self):
        port, token = world.world.stack.port, world.world.attacker.token
        for path in (f"/{SANDBOXES}/ListSandboxes", f"/{PROCESSES}/OpenSession", "/x/y", "/", "//", "", "/" + "a" * 5000):
            for body in (b"\0\0\0\0\x05ab", b"\0\xff\xff\xff\xff", b"\x01\0\0\0\x03abc", b"\x07\0\0\0\0", b"\0\0",
                         b"\0\0\0\0\x04\xff\xff\xff\xff", b"\0\0\0\0\0" * 1000, b"\0\0\0\0\x03\x0a\xff\x01"):
                self.throw(port, grpc_call(path, body, token), patience=1)
        for bad in (frame(1, 4, 1, b"\xff" * 100), frame(1, 4, 2, b""), frame(9, 4, 1, b""), frame(0, 0, 99, b"x"),
                    frame(3, 0, 0, b"xxxx"), frame(4, 0, 0, b"x" * 5), frame(8, 0, 0, b"\0\0\0\0"), frame(6, 0, 0, b"x"),
                    frame(7, 0, 0, b""), frame(2, 0, 1, b"\0"), b"\xff\xff\xff\0\0\0\0\0\1" + bytes(1000),
                    b"".join(frame(1, 4, 2 * i + 1, b"") + frame(3, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(2000)),
                    b"".join(frame(6, 0, 0, bytes(8)) for _ in range(5000)),
                    b"".join(frame(4, 0, 0, b"\0\4\0\0\xff\xff") for _ in range(5000)),
                    frame(1, 0, 1, literal("a", "b")) + b"".join(frame(9, 0, 1, literal("a", "b" * 100)) for _ in range(3000))):
            self.throw(port, PREFACE + frame(4, 0, 0, b"") + bad, patience=2)
        self.assert_good()

    # ---- names

    def test_names_that_lead_elsewhere(self):
        attacker = world.world.attacker
        ids = ["../../etc/passwd", "..", ".", "/", "a\nb", "sb-../../x", "sb-0000000000000001\n", world.world.home + "/..",
               "x" * 100_000, "%2e%2e", "sb-ffffffffffffffff", "-", "--help", "sb-000000000000000g", "é" * 50, ""]
        for one in ids:
            for service, method, request in (
                    (SANDBOXES, "GetSandbox", {"id": one}), (SANDBOXES, "TerminateSandbox", {"id": one}),
                    (PROCESSES, "ExecCommand", {"sandbox_id": one, "command": "true"}),
                    (PROCESSES, "GetSession", {"sandbox_id": world.world.base, "session_id": one}),
                    (FILES, "DownloadFile", {"sandbox_id": one, "path": "/etc/passwd"}),
                    ("chalk.admin.v1.SandboxDetailService", "Inspect", {"id": one})):
                code, said = code_of(lambda: attacker.call(service, method, request))
                self.assertIn(code, {Code.NOT_FOUND, Code.INVALID_ARGUMENT}, (method, one[:50], said))
        self.assert_alive()

    def test_paths_stay_in_the_sandbox(self):
        attacker, base = world.world.attacker, world.world.base
        scratch = world.world.stack.scratch / "host-file"
        scratch.write_text(world.world.mark)
        for path in ("/../../../../.." + str(scratch), str(scratch), "/proc/1/root" + str(scratch),
                     "/proc/self/root/../.." + str(scratch), "../" * 20 + str(scratch), "/a\0" + str(scratch), "/\n", "",
                     "relative", "/" + "a" * 5000, "/dev/zero", "/proc/kcore", "/dev/stdin"):
            code, said = code_of(lambda: attacker.call(FILES, "DownloadFile", {"sandbox_id": base, "path": path}, timeout=30))
            self.assertNotIn(world.world.mark, str(said)[:100_000], path)
            if path not in ("/dev/zero", "/dev/stdin"):
                self.assertNotEqual(code, Code.OK, (path, str(said)[:200]))
        planted = f"/tmp/chalk-planted-{os.getpid()}"
        for path in ("/../../../../.." + planted, "/proc/1/root" + planted):
            code_of(lambda: attacker.call(FILES, "UploadFile", {"metadata": {"sandbox_id": base, "destination": path}},
                                          {"data": "aGk="}))
            self.assertFalse(os.path.exists(planted), path)
        # Links inside lead to what is inside.
        attacker.execute(base, "sh", "-c", f"ln -sf {scratch} /tmp/link; ln -sf / /tmp/root")
        for path in ("/tmp/link", "/tmp/root" + str(scratch)):
            code, said = code_of(lambda: attacker.call(FILES, "DownloadFile", {"sandbox_id": base, "path": path}))
            self.assertEqual(code, Code.NOT_FOUND, (path, said))
        said = attacker.call(FILES, "DownloadFile", {"sandbox_id": base, "path": "/tmp/root/../../etc/passwd"})
        self.assertEqual(b"".join(one.data for one in said).decode(), attacker.execute(base, "cat", "/etc/passwd")[1])

    def test_commands_of_any_size_and_kind(self):
        attacker, base = world.world.attacker, world.world.base
        run = {"sandbox_id": base, "command": "true"}
        for more in ({"args": ["x" * (1 << 20)]}, {"args": ["x"] * 100_000}, {"env_vars": {f"N{i}": "v" for i in range(10_000)}},
                     {"env_vars": {"A": "x" * (1 << 20)}}, {"env_vars": {"A=B": "c"}}, {"env_vars": {"": "c"}},
                     {"env_vars": {"A\0B": "c"}}, {"env_vars": {"A\nB": "c"}}, {"args": ["a\0b"]}, {"command": "a\0b"},
                     {"command": ""}, {"command": "--root=/tmp"}, {"command": "../../bin/true"}, {"workdir": "../.."},
                     {"workdir": "/../../../../tmp\0"}, {"workdir": "/no/such"}, {"workdir": "--user=0"},
                     {"timeout": "-1s"}, {"timeout": "315576000000s"}, {"env_vars": {"LD_PRELOAD": "/tmp/x.so"}},
                     {"args": ["\ud7ff\U0010ffff"]}):
            code, said = code_of(lambda: attacker.call(PROCESSES, "ExecCommand", {**run, **more}))
            self.assertIn(code, {Code.OK, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION,
                                 Code.INTERNAL}, (str(more)[:80], str(said)[:300]))
            self.assertLess(len(str(said)), 10_000, str(more)[:80])
            for folder in (str(world.world.stack.scratch), str(world.world.stack.bin)):
                self.assertNotIn(folder, str(said), str(more)[:80])
        # What looks like an option of the runtime is a word of the command.
        code, said = code_of(lambda: attacker.call(PROCESSES, "ExecCommand", {
            "sandbox_id": base, "command": "echo", "args": ["--user=1", "--", "-detach", "$(id)", ";id"]}))
        self.assertEqual((code, said[0].stdout), (Code.OK, b"--user=1 -- -detach $(id) ;id\n"))
        self.assert_alive()

    def test_what_is_asked_of_a_new_sandbox(self):
        attacker = world.world.attacker
        good = {"image": world.IMAGE, "resources": {"cpu": "100m", "memory": "64Mi"}, "lifetime": "60s"}
        for more in ({"name": "a\nb"}, {"name": "../x"}, {"name": "x" * 10_000}, {"image": ""}, {"image": "../../etc"},
                     {"image": "a" * 100_000}, {"image": "x@sha256:zz"}, {"port": -1}, {"port": 70000},
                     {"resources": {"cpu": "-1"}}, {"resources": {"memory": "1Ei"}}, {"resources": {"cpu": "1e9"}},
                     {"resources": {"memory": "NaN"}}, {"resources": {"disk": "9999Ti"}}, {"lifetime": "-5s"},
                     {"env_vars": {f"N{i}": "v" * 100 for i in range(10_000)}}, {"env_vars": {"A=": "b"}},
                     {"entrypoint": ["x" * (1 << 20)]}, {"entrypoint": ["a\0b"]}, {"tags": {f"t{i}": "v" for i in range(10_000)}},
                     {"security_policy": {}}, {"host_placement": {}}, {"volumes": [{"name": "/", "mount_path": "/host"}]},
                     {"enable_ssh": True}):
            code, said = code_of(lambda: attacker.call(SANDBOXES, "CreateSandbox", {"spec": {**good, **more}}))
            if code == Code.OK:
                attacker.call(SANDBOXES, "TerminateSandbox", {"id": said[0].sandbox.id})
                self.assertIn(next(iter(more)), {"security_policy", "env_vars", "tags", "host_placement", "enable_ssh"}, more)
                continue
            self.assertIn(code, {Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.RESOURCE_EXHAUSTED, Code.NOT_FOUND,
                                 Code.FAILED_PRECONDITION}, (str(more)[:80], str(said)[:300]))
            self.assertLess(len(str(said)), 10_000)
        self.assert_good()


def node_messages():
    """As much of node.proto as these tests need."""
    file = descriptor_pb2.FileDescriptorProto(name="own/node.proto", package="ownnode", syntax="proto3")
    text, message, data, number = 9, 11, 12, 4

    def add(name, *fields):
        made = file.message_type.add(name=name)
        for field, at, kind, type_name in fields:
            made.field.add(name=field, number=at, type=kind, label=1, type_name=type_name)
    add("JoinRequest", ("join_token", 1, text, None), ("csr_pem", 2, text, None), ("node_name", 3, text, None))
    add("JoinResponse", ("certificate_pem", 1, text, None), ("authority_pem", 2, text, None), ("node_key", 3, number, None))
    add("Hello", ("logic_version", 1, number, None), ("node_name", 2, text, None))
    add("Report", ("node", 1, number, None), ("envelope", 2, data, None))
    add("FromNode", ("hello", 1, message, ".ownnode.Hello"), ("registration", 2, data, None),
        ("report", 3, message, ".ownnode.Report"))
    add("ChannelUp", ("channel", 1, text, None))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName("ownnode." + name))
            for name in ("JoinRequest", "JoinResponse", "FromNode", "ChannelUp")}


class Nodes(Case):
    """The private port: who has no certificate of its authority may join with a good token, and nothing else."""
    messages = node_messages()

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chalk-security-", dir=world.world.stack.scratch))
        self.root = (world.world.data / "authority" / "authority.crt").read_bytes()

    def openssl(self, *words):
        subprocess.run(["openssl", *map(str, words)], cwd=self.folder, check=True, capture_output=True)

    def key(self, name="key"):
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name)
        return (self.folder / name).read_bytes()

    def request(self, name="key", subject="/CN=node"):
        self.openssl("req", "-new", "-key", name, "-subj", subject, "-out", name + ".csr")
        return (self.folder / (name + ".csr")).read_text()

    def channel(self, key=None, certificate=None):
        made = grpc.secure_channel(f"127.0.0.1:{world.world.stack.private_port}",
                                   grpc.ssl_channel_credentials(self.root, key, certificate))
        self.addCleanup(made.close)
        return made

    def join(self, channel, token, csr, name="evil"):
        call = channel.unary_unary("/chalk.node.v1.NodeLink/Join",
                                   request_serializer=lambda message: message.SerializeToString(),
                                   response_deserializer=self.messages["JoinResponse"].FromString)
        return call(self.messages["JoinRequest"](join_token=token, csr_pem=csr, node_name=name), timeout=60)

    def stream(self, channel, method, *messages):
        call = channel.stream_stream("/chalk.node.v1.NodeLink/" + method,
                                     request_serializer=lambda message: message.SerializeToString())
        return list(call(iter(messages), timeout=60))

    def token(self, *more):
        return world.world.stack.chalk("admin", "node-token", *more).stdout.strip().splitlines()[-1]

    def hello(self, version=0):
        return self.messages["FromNode"](hello={"logic_version": version, "node_name": "evil"})

    def joined(self):
        """A channel of a node that joined by the rules, and its number."""
        key = self.key("good")
        answer = self.join(self.channel(), self.token(), self.request("good"))
        return self.channel(key, answer.certificate_pem.encode()), answer.node_key

    def test_without_a_certificate_only_join_answers(self):
        channel = self.channel()
        code, said = code_of(lambda: self.stream(channel, "Connect", self.hello()))
        self.assertEqual(code, Code.UNAUTHENTICATED, said)
        code, said = code_of(lambda: self.stream(channel, "Channel", self.messages["ChannelUp"](channel="0" * 32)))
        self.assertEqual(code, Code.UNAUTHENTICATED, said)
        for path in ("/chalk.sandbox.v2.SandboxService/ListSandboxes", "/chalk.admin.v1.AdminService/ServerStatus",
                     REFLECTION, REFLECTION.replace("v1alpha", "v1")):
            code, said = code_of(lambda: channel.unary_unary(path)(b"", timeout=60, metadata=world.world.admin.metadata()))
            self.assertEqual(code, Code.UNIMPLEMENTED, (path, said))

    def test_a_token_that_is_not_good_joins_nobody(self):
        self.key()
        csr, channel = self.request(), self.channel()
        used = self.token()
        self.assertGreater(self.join(channel, used, csr).node_key, 0)
        # The same machine may ask again; another one may not.
        self.key("other")
        other = self.request("other")
        for token in ("", "nonsense", "x" * 100_000, used[:-1], used[:-1] + ("a" if used[-1] != "a" else "b"), used,
                      world.world.admin.token, "' OR 1=1 --"):
            code, said = code_of(lambda: self.join(channel, token, other))
            self.assertEqual(code, Code.PERMISSION_DENIED, (token[:40], said))
        made = world.world.admin.call("chalk.admin.v1.AdminService", "CreateNodeToken", {"uses": 1, "valid_seconds": 1})
        time.sleep(2.1)
        code, said = code_of(lambda: self.join(channel, made[0].join_token, other))
        self.assertEqual(code, Code.PERMISSION_DENIED, said)
        for bad in ("", "nonsense", other[:-40], other.replace("M", "N", 3), (self.folder / "key").read_text()):
            code, said = code_of(lambda: self.join(channel, self.token(), bad))
            self.assertEqual(code, Code.PERMISSION_DENIED, said)
        self.assertNotIn(b"chalk.node", os.fsencode(str(said)))

    def test_a_certificate_of_another_authority_is_refused(self):
        ca = self.folder / "ca"
        self.key("ca")
        self.openssl("req", "-x509", "-new", "-key", "ca", "-days", "2", "-subj", "/CN=chalk authority", "-out", "ca.crt")
        key = self.key("thief")
        number = world.world.first_key
        self.request("thief", f"/CN=node-{number}")
        self.openssl("x509", "-req", "-in", "thief.csr", "-CA", "ca.crt", "-CAkey", ca, "-CAcreateserial", "-days", "1",
                     "-out", "thief.crt")
        for certificate in ((self.folder / "thief.crt").read_bytes(),
                            (self.folder / "thief.crt").read_bytes() + (self.folder / "ca.crt").read_bytes()):
            channel = self.channel(key, certificate)
            code, said = code_of(lambda: self.stream(channel, "Connect", self.hello()))
            self.assertIn(code, {Code.UNAVAILABLE, Code.UNAUTHENTICATED}, said)
            code, said = code_of(lambda: self.join(channel, self.token(), self.request("thief")))
            self.assertNotEqual(code, Code.OK)

    def test_the_subject_of_a_request_is_not_believed(self):
        """Who joins gets a certificate for the number that the server gave, whatever the request says."""
        number = world.world.first_key
        self.key()
        real = subprocess.run(["openssl", "x509", "-noout", "-subject", "-ext", "subjectAltName"],
                              input=self.join(self.channel(), self.token(), self.request()).certificate_pem,
                              capture_output=True, text=True).stdout
        answer = self.join(self.channel(), self.token(), self.request(
            "key", f"/CN={number}/O=chalk-server"))
        said = subprocess.run(["openssl", "x509", "-noout", "-text"], input=answer.certificate_pem, capture_output=True,
                              text=True, check=True).stdout
        self.assertNotIn(str(number), said.replace(str(answer.node_key), ""), real)
        self.assertNotIn("CA:TRUE", said)
        self.assertNotEqual(answer.node_key, number)

    def test_a_node_cannot_pass_for_another(self):
        channel, number = self.joined()
        victim = world.world.first_key
        self.assertNotEqual(number, victim)
        # Another version is refused before anything else; the right one is in the answer.
        code, said = code_of(lambda: self.stream(channel, "Connect", self.hello(version=10**6)))
        self.assertEqual(code, Code.FAILED_PRECONDITION, said)
        version = int(said.split("the server's ")[1].split(":")[0])
        before = json.loads(world.world.stack.chalk("compute", "nodes", "--json").stdout)
        From = self.messages["FromNode"]
        messages = [self.hello(version)]
        for key in (victim, 0, 2**64 - 1):  # the key is its first field; whatever the codec, this is not its own
            for raw in (key.to_bytes(8, "little"), key.to_bytes(8, "big")):
                messages += [From(registration=raw + bytes(200)), From(registration=raw)]
        messages += [From(registration=b""), From(registration=os.urandom(500)), From(registration=b"\xff" * 5000)]
        for node in (0, 1, 2, 2**32, 2**64 - 1):
            messages += [From(report={"node": node, "envelope": raw}) for raw in (b"", bytes(100), os.urandom(300))]
        code, said = code_of(lambda: self.stream(channel, "Connect", *messages))
        self.assertIn(code, {Code.OK, Code.CANCELLED}, said)
        code, said = code_of(lambda: self.stream(channel, "Channel", self.messages["ChannelUp"](channel="0" * 32)))
        self.assertEqual(code, Code.NOT_FOUND, said)
        after = json.loads(world.world.stack.chalk("compute", "nodes", "--json").stdout)
        self.assertEqual([one["name"] for one in after], [one["name"] for one in before])
        self.assert_alive()
