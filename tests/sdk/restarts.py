"""Sandboxes that their node starts again, and what a probe says of them."""
import http.client
import json
import urllib.request

import world
from chalkcompute import SandboxClient
from chalkcompute._containerspec import RestartPolicy
from chalkcompute._gen.chalk.container.v1 import service_pb as container_wire
from chalkcompute._gen.chalk.sandbox.v2 import service_pb as wire
from protobuf import Oneof
from world import Case, wait_for

SERVER = """
import http.server, os
class Serve(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            os._exit(7)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"mark" if os.path.exists("/tmp/mark") else b"new")
        open("/tmp/mark", "w").close()
print("begun", flush=True)
http.server.HTTPServer(("", 8000), Serve).serve_forever()
"""

# Says on /ready what a file says, and "hello" on all else; one thread for each connection.
MOODY = """
import http.server
class Serve(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        status = int(open("/tmp/status").read()) if self.path == "/ready" else 200
        self.send_response(status)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
open("/tmp/status", "w").write("503")
http.server.ThreadingHTTPServer(("", 8000), Serve).serve_forever()
"""


def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=10).read().decode()
    except OSError:
        return None


def inspect(sandbox):
    name = sandbox if isinstance(sandbox, str) else sandbox.id
    return json.loads(world.stack.chalk("compute", "inspect", name, "--json").stdout)


class Restarts(Case):
    def test_what_ends_by_itself_is_started_again(self):
        sandbox = self.sandbox(entrypoint=["python3", "-c", SERVER], port=8000, restart_policy=RestartPolicy.ALWAYS)
        url = inspect(sandbox)["web_url"]
        self.assertEqual(wait_for(lambda: fetch(url), "the server"), "new")
        self.assertEqual(fetch(url), "mark")
        self.assertEqual(inspect(sandbox)["restarts"], 0)
        self.assertIsNone(fetch(url + "/end"))
        wait_for(lambda: inspect(sandbox)["restarts"] == 1, "the restart")
        self.assertEqual(wait_for(lambda: fetch(url), "the server again, at the same address"), "new")
        about = inspect(sandbox)
        self.assertEqual((about["status"], about["last_exit"], about["web_url"]), ("running", "exit code 7", url))
        self.assertEqual(sandbox.exec("echo", "here").stdout_text, "here\n")
        self.assertEqual(world.stack.chalk("compute", "logs", sandbox.id).stdout, "begun\nbegun\n")

    def test_a_crash_loop_is_seen_and_can_be_ended(self):
        sandbox = self.sandbox(entrypoint=["sh", "-c", "exit 3"], restart_policy=RestartPolicy.ALWAYS)
        wait_for(lambda: inspect(sandbox)["restarts"] >= 2, "a second restart")
        about = inspect(sandbox)
        self.assertEqual((about["status"], about["last_exit"]), ("running", "exit code 3"))
        self.assertIn("exit code 3", about["status_message"])
        self.assertTrue(about["last_exit_at"])
        known = sandbox.id
        sandbox.terminate()
        wait_for(lambda: inspect(known)["status"] == "terminated", "the end")
        self.assertGreaterEqual(inspect(known)["restarts"], 2)

    def test_a_lifetime_counts_from_the_first_start(self):
        sandbox = self.sandbox(entrypoint=["sh", "-c", "sleep 1; exit 1"], lifetime="8s",
                               restart_policy=RestartPolicy.ALWAYS)
        wait_for(lambda: inspect(sandbox)["status"] == "terminated", "the end of its lifetime", 60)
        about = inspect(sandbox)
        self.assertIn("lifetime", about["status_message"])
        self.assertGreaterEqual(about["restarts"], 1)


class Readiness(Case):
    def test_a_port_is_open_while_its_probe_is_answered_well(self):
        probe = container_wire.ReadinessProbe(check=Oneof("http", container_wire.HttpProbe(path="/ready")),
                                              period_seconds=1, timeout_seconds=5, failure_threshold=1)
        spec = container_wire.ChalkContainerSpec(
            image=world.IMAGE, entrypoint=["python3", "-c", MOODY], port=8000, readiness_probe=probe,
            resources=container_wire.ResourceLimits(**world.SMALL))
        client = SandboxClient.from_env()
        self.addCleanup(client.close)
        made = client._stub.create_sandbox(wire.CreateSandboxRequest(source=Oneof("spec", spec)),
                                           headers=client._headers)
        sandbox = client.get(made.sandbox.id)
        self.addCleanup(sandbox.terminate)
        wait_for(lambda: "503" in (inspect(sandbox)["ready_words"] or ""), "the first answer")
        about = inspect(sandbox)
        self.assertEqual(about["ready"], False)
        url = about["web_url"]
        self.assertIsNone(fetch(url), "closed while it is not ready")

        def say(status):
            self.assertEqual(sandbox.exec("sh", "-c", f"echo {status} >/tmp/status").exit_code, 0)
        say(200)
        wait_for(lambda: inspect(sandbox)["ready"], "ready")
        self.assertEqual(fetch(url), "hello")
        self.assertEqual(inspect(sandbox)["ready_words"], "GET /ready: status 200")
        self.assertGreater(inspect(sandbox)["ready_since"], about["ready_since"])
        lasting = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        self.addCleanup(lasting.close)

        def ask():
            lasting.request("GET", "/")
            return lasting.getresponse().read()
        self.assertEqual(ask(), b"hello")
        say(503)
        wait_for(lambda: inspect(sandbox)["ready"] is False, "not ready")
        self.assertIsNone(fetch(url))
        self.assertEqual(ask(), b"hello", "what was connected before goes on")
        say(200)
        wait_for(lambda: fetch(url) == "hello", "ready again")
