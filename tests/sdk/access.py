"""Who may do what: tokens, environments, and calls that this server does not have."""
import json
import os
import unittest.mock
import urllib.error
import urllib.request

import world
from chalkcompute import Container, Sandbox, SandboxClient
from chalkcompute._connect import ConnectClient
from chalkcompute._container import ContainerError
from chalkcompute._gen.chalk.sandbox.v2 import service_pb as wire
from chalkcompute._gen.chalk.volume.v2 import volume_connect
from chalkcompute._gen.chalk.volume.v2 import volume_pb as volume_wire
from chalkcompute._sandbox import SandboxNotFoundError
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from world import Case


def fetch(path, body=None, headers=None):
    request = urllib.request.Request(os.environ["CHALK_API_SERVER"] + path, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Access(Case):
    def other_environment(self, name):
        """What a client of another environment has in its environment variables."""
        world.stack.chalk("admin", "env", "create", name, "--id", name, check=False)
        made = json.loads(world.stack.chalk("admin", "client", "create", "--environment", name, "--json").stdout)
        return {"CHALK_CLIENT_ID": made["client_id"], "CHALK_CLIENT_SECRET": made["client_secret"],
                "CHALK_ENVIRONMENT": name}

    def test_nothing_without_a_token(self):
        target = os.environ["CHALK_API_SERVER"].removeprefix("http://")
        for metadata in (None, [("authorization", "Bearer nonsense")]):
            with SandboxClient(target, metadata=metadata) as client, self.assertRaises(ConnectError) as caught:
                client.list()
            self.assertEqual(caught.exception.code, Code.UNAUTHENTICATED)

    def test_a_wrong_secret_is_refused(self):
        with unittest.mock.patch.dict(os.environ, CHALK_CLIENT_SECRET="wrong"), \
                self.assertRaises(ConnectError) as caught:
            Sandbox.list_all()
        self.assertEqual(caught.exception.code, Code.UNAUTHENTICATED)

    def test_other_environments_see_nothing_of_a_sandbox(self):
        name = self.name("private")
        sandbox = self.sandbox(name=name)
        with unittest.mock.patch.dict(os.environ, self.other_environment("other")):
            self.assertNotIn(sandbox.id, [info.id for info in Sandbox.list_all()])
            with self.assertRaises(SandboxNotFoundError):
                Sandbox.from_id(sandbox.id)
            with self.assertRaises(SandboxNotFoundError):
                Sandbox.from_name(name)
            with self.assertRaises(ContainerError):
                Container.from_id(sandbox.id)
            with self.assertRaises(ContainerError):
                Container.from_name(name)
            foreign = Sandbox(sandbox_id=sandbox.id)
            for attempt in (lambda: foreign.exec("true"), lambda: foreign.fs.read_bytes("/etc/hostname"),
                            lambda: foreign.fs.write_bytes("/tmp/x", b"x"), foreign.terminate):
                with self.assertRaises(Exception) as caught:
                    attempt()
                self.assertIn("not", str(caught.exception))
        self.assertEqual(sandbox.refresh().status, "running")

    def test_a_token_is_for_its_environment_only(self):
        with SandboxClient.from_env() as client:
            headers = {**client._headers, "x-chalk-env-id": "another"}
            with self.assertRaises(ConnectError) as caught:
                client._stub.list_sandboxes(wire.ListSandboxesRequest(), headers=headers)
        self.assertEqual(caught.exception.code, Code.PERMISSION_DENIED)

    def test_what_is_not_there_says_so(self):
        connect = ConnectClient()
        stub = connect.stub(volume_connect.VolumeServiceClientSync)
        with self.assertRaises(ConnectError) as caught:
            connect.call(stub.list_volumes, volume_wire.ListVolumesRequest())
        self.assertEqual(caught.exception.code, Code.UNIMPLEMENTED)
        self.assertIn("not part of this server yet", caught.exception.message)

    def test_lists_have_pages_filters_and_both_orders(self):
        names = [self.name(word) for word in ("first", "second", "third")]
        made = [self.sandbox(name=name, tags={"of": names[0]}) for name in names]
        with SandboxClient.from_env() as client:
            def listed(**ask):
                answer = client._stub.list_sandboxes(wire.ListSandboxesRequest(**ask), headers=client._headers)
                return [info.name for info in answer.sandboxes], answer.next_cursor
            mine = wire.ListSandboxesFilters(tags={"of": names[0]})
            self.assertEqual(listed(filters=mine)[0], names[::-1])
            self.assertEqual(listed(filters=mine, sort_order=wire.SandboxSortOrder.ASC)[0], names)
            self.assertEqual(listed(search=names[1])[0], [names[1]])
            self.assertEqual(listed(filters=wire.ListSandboxesFilters(names=[names[2]]))[0], [names[2]])
            for order in (wire.SandboxSortOrder.ASC, wire.SandboxSortOrder.DESC):
                seen, cursor = [], None
                while True:
                    page, cursor = listed(filters=mine, limit=1, cursor=cursor, sort_order=order)
                    self.assertLessEqual(len(page), 1)
                    seen += page
                    if not cursor:
                        break
                self.assertEqual(seen, names if order == wire.SandboxSortOrder.ASC else names[::-1])
            made[0].terminate()
            running = wire.ListSandboxesFilters(tags={"of": names[0]}, statuses=[wire.SandboxStatus.RUNNING])
            self.assertEqual(sorted(listed(filters=running)[0]), sorted(names[1:]))

    def test_older_clients_get_their_token_over_http(self):
        ask = {"client_id": os.environ["CHALK_CLIENT_ID"], "client_secret": os.environ["CHALK_CLIENT_SECRET"],
               "grant_type": "client_credentials"}
        status, given = fetch("/v1/oauth/token", json.dumps(ask).encode(), {"content-type": "application/json"})
        self.assertEqual(status, 200, given)
        self.assertEqual(given["primary_environment"], os.environ["CHALK_ENVIRONMENT"])
        status, who = fetch("/v1/who-am-i", headers={"authorization": "Bearer " + given["access_token"]})
        self.assertEqual((status, who["client_id"]), (200, os.environ["CHALK_CLIENT_ID"]))
        self.assertEqual(fetch("/v1/who-am-i")[0], 401)
        ask["client_secret"] = "wrong"
        self.assertEqual(fetch("/v1/oauth/token", json.dumps(ask).encode())[0], 401)
        status, keys = fetch("/.well-known/jwks.json")
        self.assertEqual((status, keys["keys"][0]["alg"]), (200, "ES256"))
