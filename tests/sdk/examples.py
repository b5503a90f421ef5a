"""What is shown to newcomers, run as they run it."""
import pathlib
import subprocess
import sys

import world

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


class Examples(world.Case):
    def test_first_steps(self):
        done = subprocess.run([sys.executable, EXAMPLES / "first_steps.py"], capture_output=True, text=True,
                              timeout=world.PATIENCE)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        for line in ("its kernel says: Linux version 4.19.0-gvisor", "exit codes come through: 42", "stream: step 1", "stream: step 3"):
            self.assertIn(line, done.stdout)
