"""Many at once."""
import concurrent.futures

import world
from chalkcompute import Sandbox
from world import Case


class Many(Case):
    COUNT = 12

    def test_twelve_at_once_each_with_its_own_files(self):
        def one(number):
            sandbox = Sandbox(image=world.IMAGE, **world.SMALL)
            self.addCleanup(self.terminate, sandbox)
            sandbox.run(timeout=300)
            done = sandbox.exec("sh", "-c", f"test ! -e /tmp/mine && echo {number} > /tmp/mine && cat /tmp/mine")
            kernel = sandbox.exec("dmesg").stdout_text
            return sandbox.id, done.exit_code, done.stdout_text, "gVisor" in kernel

        with concurrent.futures.ThreadPoolExecutor(self.COUNT) as pool:
            results = list(pool.map(one, range(self.COUNT)))
        self.assertEqual(len({result[0] for result in results}), self.COUNT)
        for number, (_, code, text, gvisor) in enumerate(results):
            self.assertEqual((code, text, gvisor), (0, f"{number}\n", True))
        running = {info.id for info in Sandbox.list_all() if info.status == "running"}
        self.assertLessEqual({result[0] for result in results}, running)
