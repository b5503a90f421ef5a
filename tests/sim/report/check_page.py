"""Opens a report in headless Chromium and fails on a console error or a plot that is not drawn.

Usage: check_page.py PAGE [SCREENSHOT [PLOTS_AT_LEAST]]
Exits 77 where there is no Chromium.
"""
import re
import shutil
import subprocess
import sys
import tempfile


def chromium(profile, *arguments):
    return subprocess.run(
        [shutil.which("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=5000", "--window-size=1200,2400",
         "--enable-logging=stderr", "--v=0", f"--user-data-dir={profile}", *arguments],
        capture_output=True, text=True, timeout=120)


def main():
    page = sys.argv[1]
    if shutil.which("chromium") is None:
        print("skipped: chromium is not installed")
        return 77
    with tempfile.TemporaryDirectory() as profile:
        for _ in range(2):  # on a busy machine it sometimes ends before the page has begun
            ran = chromium(profile, "--dump-dom", f"file://{page}")
            if "data-plots=" in ran.stdout:
                break
            print(f"{page}: chromium gave no page, exit code {ran.returncode}: {ran.stderr[-500:]}")
        bad = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
        for line in bad:
            print(f"{page}: the page says: {line}")
        body = re.search(r"<body[^>]*>", ran.stdout)
        counts = dict(re.findall(r'(data-plots(?:-drawn)?)="(\d+)"', body.group(0) if body else ""))
        plots, drawn = int(counts.get("data-plots", 0)), int(counts.get("data-plots-drawn", 0))
        print(f"{page}: {drawn} of {plots} plots are drawn")
        if len(sys.argv) > 2:
            chromium(profile, f"--screenshot={sys.argv[2]}", f"file://{page}")
    least = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    return 0 if not bad and plots >= least and drawn == plots else 1


if __name__ == "__main__":
    sys.exit(main())
