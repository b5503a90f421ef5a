"""Sandboxes that their node starts again, and what a probe says of them."""
import json
import urllib.request

import world
from chalkcompute._containerspec import RestartPolicy
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


def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=10).read().decode()
    except OSError:
        return None


def inspect(sandbox):
    return json.loads(world.stack.chalk("compute", "inspect", sandbox.id, "--json").stdout)


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
        sandbox.terminate()
        wait_for(lambda: inspect(sandbox)["status"] == "terminated", "the end")
        restarts = inspect(sandbox)["restarts"]
        self.assertGreaterEqual(restarts, 2)

    def test_a_lifetime_counts_from_the_first_start(self):
        sandbox = self.sandbox(entrypoint=["sh", "-c", "sleep 1; exit 1"], lifetime="8s",
                               restart_policy=RestartPolicy.ALWAYS)
        wait_for(lambda: inspect(sandbox)["status"] == "terminated", "the end of its lifetime", 60)
        about = inspect(sandbox)
        self.assertIn("lifetime", about["status_message"])
        self.assertGreaterEqual(about["restarts"], 1)
