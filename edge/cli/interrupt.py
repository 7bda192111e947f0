"""Ctrl-C while the command line is not there yet: one line and the exit code, no traceback."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130


def begin() -> None:
    """From now on Ctrl-C ends the process at once; where nobody else has taken it, or ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def end() -> None:
    """From now on Ctrl-C is an exception again: there is somebody to catch it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"edge: interrupted\n")
    os._exit(INTERRUPTED)
