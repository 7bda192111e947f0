"""A window on the desktop."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import cv2

from edge.errors import OutputError
from edge.result import Result
from edge.sinks.base import Overlay

_TITLE = "edge (q or Esc closes)"
_KEYS = (ord("q"), 27)
_MAX_SIDE = 1280
_X_SOCKETS = "/tmp/.X11-unix/X"


class WindowSink:
    """Shows each result; q, Esc or the close button ends the run. A picture stays until then.

    It must be used from the main thread, as desktop toolkits ask.
    """

    def __init__(self, overlay: Overlay, stop: Callable[[], None], stopped: Callable[[], bool]) -> None:
        """Check that a window can be opened.

        Args:
            overlay: Draws the results.
            stop: Called when the user closes the window.
            stopped: Whether the run was ended in another way.

        Raises:
            OutputError: There is no display, or OpenCV was built without windows.
        """
        problem = window_problem()
        if problem:
            raise OutputError(f"--show: {problem}")
        self._overlay = overlay
        self._stop = stop
        self._stopped = stopped
        self._open = False
        self._hold = False
        self.outputs: list[Path] = []

    def write(self, result: Result) -> None:
        """Show one result."""
        image = self._overlay.draw(result)
        if not self._open:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            shrink = min(1.0, _MAX_SIDE / max(image.shape[:2]))
            cv2.resizeWindow(_TITLE, round(image.shape[1] * shrink), round(image.shape[0] * shrink))
            self._open = True
        cv2.imshow(_TITLE, image)
        self._hold = result.frame.still
        if self._closed_by_user(1):
            self._hold = False
            self._stop()

    def _closed_by_user(self, wait_ms: int) -> bool:
        return (cv2.waitKey(wait_ms) & 0xFF) in _KEYS or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1

    def close(self) -> None:
        """Close the window; after a picture, when the user has seen it."""
        if not self._open:
            return
        while self._hold and not self._stopped() and not self._closed_by_user(50):
            pass
        self._open = False
        cv2.destroyAllWindows()


def window_problem() -> str | None:
    """Return why no window can be opened, or None."""
    toolkit = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if toolkit is not None and toolkit.group(1) == "NONE":
        return "this OpenCV was built without windows; install opencv-python in place of opencv-python-headless"
    if not sys.platform.startswith("linux"):
        return None
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "there is no display (DISPLAY is not set); use --save to look at the result later"
    # Qt ends the whole process when it cannot connect: find out before it tries.
    if not _x_server_answers(display):
        return f"the display {display} does not answer; use --save to look at the result later"
    return None


def _x_server_answers(display: str) -> bool:
    """Whether something listens on an X display `[host]:number[.screen]`."""
    found = re.fullmatch(r"(?:unix)?(?P<host>[^:/]*):(?P<number>\d+)(?:\.\d+)?", display)
    if found is None:
        # A path or another form that only the toolkit knows.
        return True
    number = int(found["number"])
    if found["host"]:
        try:
            socket.create_connection((found["host"], 6000 + number), timeout=2).close()
        except OSError:
            return False
        return True
    # An abstract socket exists beside the one in the file system, and may be the only one.
    return any(_unix_socket_answers(path) for path in (f"{_X_SOCKETS}{number}", f"\0{_X_SOCKETS}{number}"))


def _unix_socket_answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError:
            return False
    return True
