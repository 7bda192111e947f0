"""What systemd is told: the sd_notify(3) protocol, one datagram a message.

Outside systemd every method does nothing. A message that cannot be delivered is logged and never raised: the service
works without being watched, and systemd notices by itself when the messages stay away.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 2.0
"""A manager that is this busy gets the next message instead."""

_STATUS_CHARS = 400
"""`systemctl status` shows the sentence on one line."""


class Notifier:
    """Tells systemd how the service does. May be used from any thread."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        """Prepare; nothing is sent yet.

        Args:
            address: Value of NOTIFY_SOCKET: a path, or the name of an abstract socket after "@". None: nobody listens.
            watchdog_s: Seconds without `watchdog()` after which systemd ends the service; None where it does not.
        """
        self._socket: socket.socket | None = None
        self._target: str | bytes = ""
        self._lock = threading.Lock()
        self._status = ""
        self._failing = False
        self.watchdog_s: float | None = None
        if address is None:
            return
        if not address.startswith(("/", "@")) or len(address) < 2:
            # vsock:..., of a virtual machine whose host listens; and nonsense.
            log.warning("NOTIFY_SOCKET=%s: expected a path or @name; systemd is not told how the service does", address)
            return
        # An abstract name begins with a zero byte, and has no end: os.fsencode keeps bytes that are not UTF-8.
        self._target = b"\0" + os.fsencode(address[1:]) if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SEND_TIMEOUT_S)
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Notifier:
        """Return what NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID describe.

        Args:
            environment: `os.environ` by default.
        """
        variables = os.environ if environment is None else environment
        return cls(variables.get("NOTIFY_SOCKET") or None, _watchdog_s(variables))

    @property
    def enabled(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    def ready(self, status: str | None = None) -> None:
        """Say that the service works: it has started, or a reload has ended.

        Args:
            status: How it goes, in a sentence.
        """
        self._send("READY=1", *self._changed(status))

    def reloading(self) -> None:
        """Say that a new configuration is being put in place; `ready` ends it."""
        # Type=notify-reload tells by the time which of several reloads this is.
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", *self._changed("reloading the configuration"))

    def stopping(self, status: str = "finishing files") -> None:
        """Say that the service ends.

        Args:
            status: How it goes, in a sentence.
        """
        self._send("STOPPING=1", *self._changed(status))

    def status(self, text: str) -> None:
        """Say how it goes; nothing is sent where that has not changed.

        Args:
            text: A sentence.
        """
        self._send(*self._changed(text))

    def watchdog(self) -> None:
        """Say that everything makes progress."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for more time to start, reload or stop, counted from now.

        Args:
            seconds: How long it may still take.
        """
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def close(self) -> None:
        """Say nothing more."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _changed(self, text: str | None) -> list[str]:
        if text is None:
            return []
        # A line break would begin another assignment.
        line = " ".join(text.split())[:_STATUS_CHARS]
        with self._lock:
            if line == self._status:
                return []
            self._status = line
        return [f"STATUS={line}"]

    def _send(self, *assignments: str) -> None:
        if not assignments:
            return
        message = "\n".join(assignments).encode(errors="replace")
        with self._lock:
            if self._socket is None:
                return
            try:
                self._socket.sendto(message, self._target)
            except OSError as error:  # a time-out is one, too
                told, self._failing, self._status = self._failing, True, ""
                reason = error.strerror or str(error)
            else:
                self._failing = False
                return
        if not told:
            log.warning("systemd cannot be told how the service does: %s", reason)


def _watchdog_s(variables: Mapping[str, str]) -> float | None:
    """Return the time limit of systemd's watchdog, as sd_watchdog_enabled(3) reads it."""
    given = variables.get("WATCHDOG_USEC", "")
    if not given:
        return None
    pid = variables.get("WATCHDOG_PID", "")
    # It is meant for another process, whose child this is.
    if pid and pid != str(os.getpid()):
        return None
    if not given.isascii() or not given.isdecimal() or int(given) == 0:
        log.warning("WATCHDOG_USEC=%s: expected microseconds; the watchdog is not fed", given)
        return None
    return int(given) / 1e6
