"""Ctrl-C before there is a command to catch it."""

from __future__ import annotations

import subprocess
import sys

EARLY = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "edge.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Hook())
sys.argv = ["edge", "--version"]
from edge.__main__ import main
main()
"""

LATE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from edge.cli import config
config.__dict__["Path"].exists = lambda path: os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["edge", "config", "init", "x.toml"]
from edge.__main__ import main
main()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


def test_ctrl_c_while_it_starts_and_later_is_one_line() -> None:
    for script in (EARLY, LATE):
        done = run(script)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "edge: interrupted\n")


def test_who_ignores_ctrl_c_goes_on() -> None:
    done = run(EARLY.replace("signal.default_int_handler", "signal.SIG_IGN"))
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("edge ")
