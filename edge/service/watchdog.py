"""What keeps systemd's watchdog quiet: only a service that makes progress."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from edge.runner.status import Status
from edge.service.notify import Notifier

log = logging.getLogger(__name__)

_LOOK_S = 5.0
"""How often it looks where systemd does not watch: the log still says what hangs."""

MAIN_S = 120.0
"""How long the main loop may take for one turn: it loads the models of a new configuration, and a GPU compiles them."""

_UNKNOWN = "the state of the service cannot be told"


class Watchdog:
    """Feeds systemd's watchdog while nothing hangs.

    It does so from a thread of its own. A snapshot that does not come back, because a lock is held for ever, keeps it
    from feeding just as a thing that hangs does.
    """

    def __init__(self, notifier: Notifier, status: Callable[[], Status], look_s: float | None = None) -> None:
        """Prepare.

        Args:
            notifier: Tells systemd, and knows how often.
            status: Gives the snapshot; called in the thread of the watchdog.
            look_s: Seconds between two looks; a third of systemd's limit by default.
        """
        self._notifier = notifier
        self._status = status
        self._limit_s = notifier.watchdog_s
        self._look_s = look_s or (min(_LOOK_S, self._limit_s / 3) if self._limit_s else _LOOK_S)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._hung: set[str] = set()
        self._beat_s = time.monotonic()

    def beat(self) -> None:
        """Note that the main loop makes progress; it must call every `MAIN_S` seconds at least."""
        self._beat_s = time.monotonic()

    def start(self) -> None:
        """Begin; the first look is at once."""
        self._stop.clear()
        self.beat()
        # A daemon: one that waits for a snapshot must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; harmless where it was never started."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(0.5)
            self._thread = None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._stop.wait(self._look_s)

    def _look(self) -> None:
        try:
            hung = self._status().hung
        except Exception:  # the boundary of a thread: whatever it is, a service that cannot say how it does is not well
            hung = (_UNKNOWN,)
            if _UNKNOWN not in self._hung:
                log.exception("the watchdog asked in vain")
        silent_s = time.monotonic() - self._beat_s
        if silent_s > MAIN_S:
            hung = (*hung, f"the main loop: no progress for {silent_s:.0f} s")
        if not hung:
            self._notifier.watchdog()
        self._tell(hung)

    def _tell(self, hung: tuple[str, ...]) -> None:
        """Log what began to hang and what goes on, once each."""
        # The lines count seconds: what hangs is the same all the while.
        known = {re.sub(r"\d+(\.\d+)?( s\b)", r"\2", line): line for line in hung}
        for key in known.keys() - self._hung:
            log.error("%s; %s", known[key], self._consequence())
        if self._hung and not hung:
            log.warning("everything makes progress again")
        self._hung = set(known)

    def _consequence(self) -> str:
        if self._limit_s is None:
            return "it hangs"
        return f"it hangs: the watchdog is not fed, and systemd restarts the service in at most {self._limit_s:.0f} s"
