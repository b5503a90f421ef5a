"""Many at once."""
import concurrent.futures
import os

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

    def test_streams_that_come_and_go_in_every_way(self):
        sandbox = self.sandbox(cpu="1", memory="1Gi")
        rounds = int(os.environ.get("CHALK_SDK_ROUNDS", "3"))

        def ends(_):
            done = sandbox.exec("sh", "-c", "echo x; exit 3")
            return (done.stdout, done.exit_code) == (b"x\n", 3)

        def leaves_early(_):
            process = sandbox.exec_start("sh", "-c", "echo x; sleep 1")
            next(iter(process.output()))
            process._response_iterator.close()
            return True

        def leaves_in_the_middle_of_much(_):
            process = sandbox.exec_start("sh", "-c", "head -c 3000000 /dev/zero")
            for event in process.output():
                if event.stdout:
                    break
            process._response_iterator.close()
            return True

        def is_signalled(_):
            process = sandbox.exec_start("sleep", "1000")
            next(iter(process.output()))
            process.send_signal(9)
            return process.wait().signal == 9

        def says_nothing_more(_):
            process = sandbox.exec_start("cat")
            process.write_stdin("x" * 100_000)
            process.close_stdin()
            return len(process.wait().stdout) == 100_000

        ways = [ends, leaves_early, leaves_in_the_middle_of_much, is_signalled, says_nothing_more]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            results = list(pool.map(lambda n: ways[n % len(ways)](n), range(rounds * len(ways))))
        self.assertEqual(results, [True] * len(results))
        self.assertEqual(sandbox.exec("echo", "still there").stdout_text, "still there\n")
