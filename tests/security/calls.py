"""Every method of every public service, as somebody who may not: which these are the server says itself."""
import base64
import hashlib
import hmac
import http.client
import json
import sqlite3
import subprocess
import tempfile
import time

import grpc
import world
from google.protobuf import message_factory
from protocol import code_of
from world import Case

Code = grpc.StatusCode
FREE = {("chalk.server.v1.AuthService", "GetToken")}
ADMIN = "chalk.admin.v1.AdminService"
# What names nobody's sandbox may be done by everybody in their own environment.
OWN_AFFAIRS = {"ListSandboxes", "ListContainers", "CreateSandbox", "RunContainer", "GetOrBuildCustomImage",
               "GetCustomImage", "GetWorkloadIdentityToken"}
NOT_OFFERED = {"SuspendSandbox", "ResumeSandbox"}
HIDDEN = {Code.NOT_FOUND, Code.PERMISSION_DENIED}
CONNECT_OF = {Code.UNAUTHENTICATED: "unauthenticated", Code.NOT_FOUND: "not_found",
              Code.PERMISSION_DENIED: "permission_denied"}


def methods():
    """(service, method, descriptor) of all that is offered."""
    for service, offered in sorted(world.world.api.services.items()):
        for method, about in sorted(offered.items()):
            yield service, method, about


def encoded(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Wish:
    """Requests that ask for what is the victim's, whatever the method."""

    def __init__(self, service, by_name=False):
        owner = world.world
        self.by_name = by_name
        number, name = (owner.box, "box-of-victim") if "container" in service else (owner.home, "home-of-victim")
        sandbox = name if by_name else number
        self.texts = {
            "id": sandbox, "name": name, "sandbox_id": sandbox, "session_id": owner.session,
            "command": "cat", "path": "/srv/www/secret", "destination": "/tmp/planted", "audience": "me",
            "environment": owner.victim.environment, "client_id": owner.victim.id, "role": "admin", "search": "home",
            "base_image": world.IMAGE, "build_id": owner.home, "workdir": "/"}
        self.lists = {"args": ["/srv/www/secret"], "command": ["cat", "/srv/www/secret"],
                      "arguments": ["read", "/srv/www/secret"]}

    def fill(self, message, choice):
        """All fields that can name something; of a oneof the one at `choice`."""
        for field in message.DESCRIPTOR.fields:
            oneof = field.containing_oneof
            if oneof is not None and len(oneof.fields) > 1 and oneof.fields[choice % len(oneof.fields)] != field:
                continue
            # A container is found by its id, or by its name where no id is given.
            if field.name == ("id" if self.by_name else "name") and "name" in message.DESCRIPTOR.fields_by_name \
                    and "id" in message.DESCRIPTOR.fields_by_name:
                continue
            if field.is_repeated:
                if field.name in self.lists:
                    getattr(message, field.name).extend(self.lists[field.name])
            elif field.type == field.TYPE_MESSAGE:
                if field.message_type.full_name.startswith("google."):
                    continue
                getattr(message, field.name).SetInParent()
                if not field.message_type.name.endswith("Spec") or field.message_type.name == "ImageSpec":
                    self.fill(getattr(message, field.name), 0)
            elif field.type == field.TYPE_STRING and field.name in self.texts:
                setattr(message, field.name, self.texts[field.name])
            elif field.type == field.TYPE_BYTES and field.name in ("data", "input"):
                setattr(message, field.name, b"x")
        return message

    def requests(self, about):
        """Lists of requests, one list for each way to begin."""
        kind = message_factory.GetMessageClass(about.input_type)
        ways = max([1] + [len(one.fields) for one in about.input_type.oneofs])
        for choice in range(ways):
            yield [self.fill(kind(), choice)]


def connect(service, method, body, headers):
    """A unary call over HTTP/1.1: the code's name in its answer, or "ok", and the answer."""
    connection = http.client.HTTPConnection(world.world.target, timeout=world.PATIENCE)
    try:
        connection.request("POST", f"/{service}/{method}", body=body, headers={
            "content-type": "application/proto", "connect-protocol-version": "1", **headers})
        answer = connection.getresponse()
        said = answer.read()
        return ("ok" if answer.status == 200 else json.loads(said)["code"]), said
    finally:
        connection.close()


class Tokens:
    """Bearer tokens that are not good."""

    def __init__(self):
        self.good = world.world.admin.token
        self.header, self.claims = (json.loads(decoded(part)) for part in self.good.split(".")[:2])
        database = sqlite3.connect(f"file:{world.world.data}/identity.db?mode=ro", uri=True)
        self.key = database.execute("SELECT private_pem FROM signing_keys WHERE id = ?",
                                    (self.header["kid"],)).fetchone()[0]
        database.close()

    def signed(self, **changed):
        """A token that this very server might have signed, with other claims."""
        text = ".".join(encoded(json.dumps(part).encode()) for part in (self.header, {**self.claims, **changed}))
        with tempfile.NamedTemporaryFile() as key:
            key.write(self.key.encode())
            key.flush()
            der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key.name], input=text.encode(),
                                 capture_output=True, check=True).stdout
        numbers, at = b"", 2
        for _ in range(2):
            size = der[at + 1]
            numbers += der[at + 2:at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + size
        return text + "." + encoded(numbers)

    def forged(self):
        """(what it is, the value of the header "authorization")"""
        header, claims, signature = self.good.split(".")

        def crafted(head, body, tail=""):
            return ".".join([encoded(json.dumps(head).encode()), encoded(json.dumps(body).encode()), tail])
        public = subprocess.run(["openssl", "ec", "-pubout"], input=self.key.encode(), capture_output=True,
                                check=True).stdout
        head = {"alg": "HS256", "typ": "JWT", "kid": self.header["kid"]}
        unsigned = crafted(head, self.claims)[:-1]
        mac = encoded(hmac.new(public, unsigned.encode(), hashlib.sha256).digest())
        now = int(time.time())
        workload = world.world.attacker.call("chalk.server.v1.AuthService", "GetWorkloadIdentityToken",
                                             {"audience": "me"})[0].token
        tokens = {
            "nonsense": "nonsense", "dots": "..", "a truncated token": self.good[:-7],
            "a token without signature": f"{header}.{claims}.", "two parts": f"{header}.{claims}",
            "another's claims": f"{header}.{encoded(json.dumps({**self.claims, 'role': 'admin', 'sub': 'x'}).encode())}.{signature}",
            "a later end": f"{header}.{encoded(json.dumps({**self.claims, 'exp': now + 10**8}).encode())}.{signature}",
            "alg none": crafted({"alg": "none", "typ": "JWT"}, self.claims),
            "alg none with a key": crafted({**self.header, "alg": "none"}, self.claims),
            "alg None": crafted({**self.header, "alg": "None"}, self.claims, signature),
            "alg HS256 with the public key": f"{unsigned}.{mac}",
            "a signature of zeros": f"{header}.{claims}.{encoded(bytes(64))}",
            "an unknown key": crafted({**self.header, "kid": "../../etc/passwd"}, self.claims, signature),
            "very long": "x" * 7000,
            "expired": self.signed(iat=now - 7200, exp=now - 1), "long ago": self.signed(iat=1, exp=2),
            "without end": self.signed(exp=None), "an end that is text": self.signed(exp="9999999999"),
            "of the future": self.signed(iat=now + 3600, exp=now + 7200),
            "another issuer": self.signed(iss="https://elsewhere"), "another use": self.signed(token_use="workload"),
            "no client": self.signed(sub="cl-nobody"),
            "a client in another environment": self.signed(sub=world.world.attacker.id,
                                                           environment_id=world.world.victim.environment),
            "a workload's token": workload,
        }
        for name, token in tokens.items():
            yield name, "Bearer " + token
        yield "the scheme basic", "Basic " + self.good
        yield "no scheme", self.good
        yield "an empty bearer", "Bearer "


class Calls(Case):
    def setUp(self):
        super().setUp()
        if not hasattr(world.world, "session"):
            listed = world.world.victim.call("chalk.sandbox.v2.SandboxProcessService", "OpenSession", {
                "new_process": {"sandbox_id": world.world.home, "command": "echo",
                                "args": [world.world.mark]}})
            world.world.session = listed[0].session_attached.session_id
            self.assertTrue(world.world.session)

    def hidden(self, text):
        """Nothing of the victim's is in it."""
        raw = text if isinstance(text, bytes) else str(text).encode()
        self.assertNotIn(world.world.mark.encode(), raw)

    def test_the_server_names_all_its_services(self):
        offered = set(world.world.api.services)
        self.assertLessEqual({ADMIN, "chalk.admin.v1.SandboxDetailService", "chalk.container.v1.ContainerService",
                              "chalk.sandbox.v1.CustomImageService", "chalk.sandbox.v2.SandboxService",
                              "chalk.sandbox.v2.SandboxProcessService", "chalk.sandbox.v2.SandboxFilesystemService",
                              "chalk.server.v1.AuthService"}, offered)
        self.assertGreaterEqual(len(list(methods())), 30)
        # What nodes use is no business of clients.
        self.assertNotIn("chalk.node.v1.NodeLink", offered)

    def test_nobody_may_do_anything_without_a_token(self):
        for service, method, about in methods():
            if (service, method) in FREE:
                continue
            for requests in Wish(service).requests(about):
                for metadata in ([], [("x-chalk-env-id", "victim")]):
                    code, said = code_of(lambda: world.world.api.call(service, method, requests, metadata))
                    self.assertEqual(code, Code.UNAUTHENTICATED, (method, said))
                if not about.client_streaming and not about.server_streaming:
                    code, said = connect(service, method, requests[0].SerializeToString(), {})
                    self.assertEqual(code, "unauthenticated", (method, said))

    def test_a_token_that_is_not_good_is_none(self):
        tokens = list(Tokens().forged())
        self.assertGreater(len(tokens), 20)
        for service, method, about in methods():
            if (service, method) in FREE:
                continue
            requests = next(iter(Wish(service).requests(about)))
            # All of them where it counts, elsewhere what is cheap to try.
            for name, authorization in tokens if method in ("ListSandboxes", "ServerStatus") else tokens[:8]:
                code, said = code_of(lambda: world.world.api.call(
                    service, method, requests, [("authorization", authorization)]))
                self.assertEqual(code, Code.UNAUTHENTICATED, (method, name, said))
                self.hidden(said)
                if not about.client_streaming and not about.server_streaming:
                    code, said = connect(service, method, requests[0].SerializeToString(),
                                         {"authorization": authorization})
                    self.assertEqual(code, "unauthenticated", (method, name, said))
        # The same key, untouched claims: it is not the forger that is at fault.
        good = Tokens().signed()
        self.assertEqual(code_of(lambda: world.world.api.call(
            ADMIN, "ServerStatus", [{}], [("authorization", "Bearer " + good)]))[0], Code.OK)

    def test_another_environment_cannot_be_named(self):
        attacker = world.world.attacker
        for service, method, about in methods():
            if (service, method) in FREE:
                continue
            requests = next(iter(Wish(service).requests(about)))
            more = [("x-chalk-env-id", world.world.victim.environment)]
            code, said = code_of(lambda: attacker.call(service, method, *requests, more=more))
            self.assertIn(code, HIDDEN, (method, said))
            self.hidden(said)
            if not about.client_streaming and not about.server_streaming:
                code, said = connect(service, method, requests[0].SerializeToString(), {
                    "authorization": "Bearer " + attacker.token, more[0][0]: more[0][1]})
                self.assertIn(code, {"not_found", "permission_denied"}, (method, said))

    def test_what_another_owns_is_not_there(self):
        world_now, attacker = world.world, world.world.attacker
        asked = 0
        for service, method, about in methods():
            if (service, method) in FREE or service == ADMIN:
                continue
            for wish in (Wish(service), Wish(service, by_name=True)):
                for requests in wish.requests(about):
                    code, said = code_of(lambda: attacker.call(service, method, *requests))
                    self.judge(method, code, said, requests)
                    asked += 1
                    if about.client_streaming or about.server_streaming:
                        continue
                    code, said = connect(service, method, requests[0].SerializeToString(),
                                         {"authorization": "Bearer " + attacker.token})
                    self.hidden(said)
                    if method not in OWN_AFFAIRS | NOT_OFFERED:
                        self.assertIn(code, {"not_found", "permission_denied"}, (method, said))
        self.assertGreater(asked, 50)
        self.assert_alive()
        self.assertNotEqual(world_now.victim.execute(world_now.home, "test", "-e", "/tmp/planted")[0], 0)

    def judge(self, method, code, said, requests):
        self.hidden(said)
        if method in OWN_AFFAIRS:
            self.assertIn(code, {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.UNIMPLEMENTED},
                          (method, said))
            self.assertNotIn(world.world.home, str(said) if code == Code.OK else "", method)
        elif method in NOT_OFFERED:
            self.assertEqual(code, Code.UNIMPLEMENTED, (method, said))
        elif method == "OpenSession" and not (requests[0].HasField("new_process") or
                                              requests[0].HasField("attach_session")):
            self.assertEqual(code, Code.INVALID_ARGUMENT, said)
        elif method in ("UploadFile", "File") and requests[0].WhichOneof(
                requests[0].DESCRIPTOR.oneofs[0].name) not in ("metadata", "open"):
            self.assertEqual(code, Code.INVALID_ARGUMENT, said)
        else:
            self.assertIn(code, HIDDEN, (method, requests, said))

    def test_the_owner_gets_what_the_others_do_not(self):
        """The very requests that fail for the others: that they fail is not for their form."""
        victim, good = world.world.victim, {}
        for service, method, about in methods():
            if service == ADMIN or method in OWN_AFFAIRS | NOT_OFFERED | {"GetToken", "TerminateSandbox",
                                                                          "StopContainer"}:
                continue
            codes = [code_of(lambda: victim.call(service, method, *requests))
                     for wish in (Wish(service), Wish(service, by_name=True)) for requests in wish.requests(about)]
            good[service + "." + method] = [code for code, _ in codes]
        self.assertGreater(len(good), 10)
        for name, codes in good.items():
            self.assertIn(Code.OK, codes, name)
        self.assertEqual(victim.execute(world.world.home, "rm", "-f", "/tmp/planted")[0], 0)

    def test_a_session_is_found_in_its_own_sandbox_only(self):
        """The attacker's own sandbox with the victim's session."""
        attacker, service = world.world.attacker, "chalk.sandbox.v2.SandboxProcessService"
        code, said = code_of(lambda: attacker.call(service, "GetSession", {
            "sandbox_id": world.world.base, "session_id": world.world.session}))
        self.assertEqual(code, Code.NOT_FOUND, said)
        answers = attacker.call(service, "OpenSession", {"attach_session": {
            "sandbox_id": world.world.base, "session_id": world.world.session}})
        self.assertEqual([one.WhichOneof("event") for one in answers], ["error"], answers)
        self.hidden(answers)
        answers = attacker.call(service, "ListSessions", {"sandbox_id": world.world.base})
        self.assertNotIn(world.world.session, str(answers))

    def test_users_are_no_admins(self):
        for service, method, about in methods():
            if service != ADMIN:
                continue
            for requests in Wish(service).requests(about):
                code, said = code_of(lambda: world.world.attacker.call(service, method, *requests))
                self.assertEqual(code, Code.PERMISSION_DENIED, (method, said))
                self.hidden(said)
                code, said = connect(service, method, requests[0].SerializeToString(),
                                     {"authorization": "Bearer " + world.world.attacker.token})
                self.assertEqual(code, "permission_denied", (method, said))
        status, said = self.fetch("/metrics", world.world.attacker.token)
        self.assertEqual(status, 401, said)
        self.assertEqual(self.fetch("/metrics", world.world.admin.token)[0], 200)

    def fetch(self, path, token):
        connection = http.client.HTTPConnection(world.world.target, timeout=world.PATIENCE)
        try:
            connection.request("GET", path, headers={"authorization": "Bearer " + token})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def test_lists_hold_nothing_of_others(self):
        """Whatever is filtered for; and a cursor of the victim's list opens no door."""
        attacker, victim = world.world.attacker, world.world.victim
        self.sandbox(of=victim)
        service = "chalk.sandbox.v2.SandboxService"
        page = victim.call(service, "ListSandboxes", {"limit": 1})[0]
        self.assertTrue(page.next_cursor)
        for ask in ({}, {"limit": 1000}, {"cursor": page.next_cursor}, {"search": "home"},
                    {"filters": {"names": ["home-of-victim"]}}, {"filters": {"created_by": [victim.id]}}):
            said = attacker.call(service, "ListSandboxes", ask)[0]
            self.hidden(said)
            self.assertNotIn(world.world.home, [one.id for one in said.sandboxes], ask)
        said = attacker.call("chalk.container.v1.ContainerService", "ListContainers", {"include_stopped": True})[0]
        self.hidden(said)

    def test_a_revoked_client_is_refused_at_once(self):
        gone = world.world.client_of("attacker")
        ask = ("chalk.sandbox.v2.SandboxService", "ListSandboxes")
        self.assertEqual(code_of(lambda: gone.call(*ask, {}))[0], Code.OK)
        world.world.stack.chalk("admin", "client", "revoke", gone.id)
        self.assertEqual(code_of(lambda: gone.call(*ask, {}))[0], Code.UNAUTHENTICATED)
        self.assertEqual(connect(*ask, b"", {"authorization": "Bearer " + gone.token})[0], "unauthenticated")
        code, said = code_of(lambda: world.world.api.call("chalk.server.v1.AuthService", "GetToken", [
            {"client_id": gone.id, "client_secret": gone.secret, "grant_type": "client_credentials"}]))
        self.assertEqual(code, Code.UNAUTHENTICATED, said)

    def test_a_session_of_a_revoked_client_ends(self):
        gone = world.world.client_of("attacker")
        stub = world.world.channel.stream_stream(
            "/chalk.sandbox.v2.SandboxProcessService/OpenSession",
            request_serializer=lambda message: message.SerializeToString())
        request = world.world.api.request("chalk.sandbox.v2.SandboxProcessService", "OpenSession", {"new_process": {
            "sandbox_id": world.world.base, "command": "sleep", "args": ["600"]}})
        call = stub(iter([request]), metadata=gone.metadata(), timeout=world.PATIENCE)
        next(call)
        world.world.stack.chalk("admin", "client", "revoke", gone.id)
        code, said = code_of(lambda: list(call))
        self.assertEqual(code, Code.UNAUTHENTICATED, said)

    def test_secrets_are_not_guessed(self):
        """Wrong, empty and very long secrets of a client that exists; the scope of another environment."""
        service, victim = "chalk.server.v1.AuthService", world.world.victim
        for secret in ("", "wrong", victim.secret[:-1], victim.secret + "x", victim.secret.swapcase(), "x" * 1000):
            code, said = code_of(lambda: world.world.api.call(service, "GetToken", [
                {"client_id": victim.id, "client_secret": secret, "grant_type": "client_credentials"}]))
            self.assertEqual(code, Code.UNAUTHENTICATED, (secret, said))
        code, said = code_of(lambda: world.world.api.call(service, "GetToken", [
            {"client_id": world.world.attacker.id, "client_secret": world.world.attacker.secret,
             "grant_type": "client_credentials", "scope": "env:victim"}]))
        self.assertIn(code, HIDDEN, said)
        code, said = code_of(lambda: world.world.api.call(service, "GetToken", [
            {"client_id": "' OR 1=1 --", "client_secret": "x", "grant_type": "client_credentials"}]))
        self.assertEqual(code, Code.UNAUTHENTICATED, said)
