"""ReconnectingSource: a camera or stream that is opened anew, again and again, when it is lost.

::

    reader thread (native calls) --newest frame--> the iterator, in its caller's thread

The calls into OpenCV and drivers happen in a thread of their own: when one does not come back, the iterator still ends
at once when it is told to, and a new reader takes the place of the one that hangs.
"""

from __future__ import annotations

import logging
import queue
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from edge.errors import SourceLostError
from edge.frame import Frame
from edge.sources import Source, open_source, without_credentials
from edge.sources.base import SourceBase
from edge.sources.options import DEFAULTS, SourceOptions
from edge.sources.reader import Reader

log = logging.getLogger(__name__)

HANG_S = 15.0
"""A native call that takes longer is given up. Opening a stream and reading its first frame take less, time-outs
included, and OpenCV waits 10 s for a frame of a USB camera."""

MOST_HANGING = 3
"""Readers that hang at the same time, before no more are started: each holds a thread and maybe the device."""

_POLL_S = 0.2
"""How often the iterator looks around while no frame comes."""

_CLOSE_S = 1.0
"""How long after `interrupt` a reader that is inside a call is waited for."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait between attempts to open a source.

    Attributes:
        first_s: After the loss; each attempt in vain doubles it.
        most_s: At most so long.
        jitter: Share by which a wait is made longer or shorter at random, so that many cameras behind one switch do not
            come back all at once.
        steady_s: Frames that come for so long make the next loss a first one again.
    """

    first_s: float = 0.5
    most_s: float = 15.0
    jitter: float = 0.2
    steady_s: float = 5.0

    def wait_s(self, attempts: int) -> float:
        """Return the seconds to wait after a loss and so many attempts in vain."""
        wait = min(self.most_s, self.first_s * 2.0 ** min(attempts, 60))
        return wait * (1 + self.jitter * random.uniform(-1, 1))


DEFAULT_BACKOFF = Backoff()


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """A source went away, came back, or stays away for another reason.

    Attributes:
        source: Its name, without credentials.
        state: What it is now.
        reason: Why it went away.
        away_s: For how long it has been away; 0 for one that goes.
    """

    source: str
    state: Literal["online", "offline"]
    reason: str
    away_s: float = 0.0


@dataclass(slots=True)
class Counters:
    """What is known of a source that may go away; written by the iterator, read by any thread.

    Attributes:
        state: starting: not opened yet. online: frames come. offline: it is away and tried again. ended: it was a file
            that was read to its end, or was given up, or interrupted.
        since_s: `time.monotonic()` of the beginning of that state.
        outages: How often it went away, or was not there.
        reconnects: How often it came back.
        last_error: Why it went away the last time, or what the last attempt to open it said.
        dropped: Frames that were replaced by newer ones before the iterator was asked for them.
    """

    state: Literal["starting", "online", "offline", "ended"] = "starting"
    since_s: float = field(default_factory=time.monotonic)
    outages: int = 0
    reconnects: int = 0
    last_error: str | None = None
    dropped: int = 0

    def go(self, state: Literal["starting", "online", "offline", "ended"]) -> None:
        """Enter a state."""
        self.state, self.since_s = state, time.monotonic()


def log_event(event: SourceEvent) -> None:
    """Log a line for each outage, each further reason of it, and each return."""
    log.warning("%s: %s", event.source, told(event))


def told(event: SourceEvent) -> str:
    """Return what happened in words."""
    if event.state == "online":
        return f"back after {event.away_s:.1f} s"
    if event.away_s:
        return f"still offline: {event.reason}"
    return f"offline: {event.reason}; tried again until it comes back"


class ReconnectingSource(SourceBase):
    """Frames of a camera or stream through its outages; of those that wait it gives the newest.

    Indices and timestamps go on through outages; the size of the frames may be another after one.

    Attributes:
        counters: State, outages, and how often it came back.
    """

    live = True

    def __init__(
        self,
        uri: str,
        options: SourceOptions = DEFAULTS,
        backoff: Backoff = DEFAULT_BACKOFF,
        give_up_s: float | None = None,
        on_event: Callable[[SourceEvent], None] = log_event,
        opened: Source | None = None,
    ) -> None:
        """Prepare; nothing is opened before the iterator is asked.

        Args:
            uri: As `open_source` takes it.
            options: As `open_source` takes them.
            backoff: How long to wait between attempts.
            give_up_s: Raise SourceLostError once it has been away for longer; 0 at the first loss; None never.
            on_event: Told of each outage, each further reason of it, and each return, in the iterator's thread.
            opened: The source, where it is open already. It is read from now on, so that no old frames pile up in it.
        """
        self.name = without_credentials(uri) if opened is None else opened.name
        self.counters = Counters()
        self._uri = uri
        self._options = options
        self._backoff = backoff
        self._give_up_s = give_up_s
        self._on_event = on_event
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._left: list[Reader] = []
        self._skipped_before = 0
        self._reasons: set[str] = set()
        self._interrupted_s: float | None = None
        self._reader: Reader | None = None
        if opened is not None:
            self.fps = opened.fps
            self.size_wh = opened.size_wh
            already_open: Source = opened
            self._reader = self._start(lambda: already_open)

    def _start(self, open_it: Callable[[], Source]) -> Reader:
        self.beat()
        return Reader(self.name, open_it, self._wake)

    @property
    def beat_s(self) -> float:
        """`time.monotonic()` of its last sign of life; while it waits for a source that is away, it gives some."""
        reader = self._reader
        return max(self._beat_s, reader.beat_s) if reader is not None else self._beat_s

    @property
    def hanging(self) -> bool:
        """Whether a reader that was told to end is still inside a call of a driver or library."""
        self._left = [reader for reader in self._left if not reader.done]
        return bool(self._left)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; once.

        Raises:
            SourceLostError: It has been away for longer than it may be.
        """
        first_s: float | None = None
        index = attempts = 0
        away_since_s: float | None = None
        if self._reader is not None:
            # What was read before anyone asked is no loss.
            self._reader.dropped = 0
        while not self._told_to_end():
            reader = self._reader = self._reader or self._start(self._open)
            online_s = 0.0
            while (frame := self._wait(reader, away_since_s)) is not None:
                if not online_s:
                    online_s = time.monotonic()
                    self._came_back(away_since_s)
                    away_since_s = None
                if first_s is None:
                    # The first frame that is given is number 0.
                    first_s, index = frame.captured_s, -frame.index
                self.size_wh = frame.size_wh
                yield replace(
                    frame,
                    index=index + frame.index,
                    source=self.name,
                    timestamp_s=frame.captured_s - first_s,
                    live=True,
                )
            if self._told_to_end():
                break
            reason = self._end(reader)
            index += reader.captured
            if reason is None:
                break
            steady = online_s and time.monotonic() - online_s >= self._backoff.steady_s
            attempts = 1 if steady else attempts + 1
            away_since_s = self._went_away(reason, away_since_s)
            self._pause(self._backoff.wait_s(attempts - 1), away_since_s)
        self._part()
        self.counters.go("ended")

    def _told_to_end(self) -> bool:
        return self._interrupted

    def _open(self) -> Source:
        return open_source(self._uri, self._options)

    def _wait(self, reader: Reader, away_since_s: float | None) -> Frame | None:
        """Wait for a frame; None when the reader has ended or hangs, or when the source is interrupted.

        Raises:
            SourceLostError: The source has been away for longer than it may be.
        """
        while not self._told_to_end():
            # In this order: what the reader left before its end is not lost.
            done = reader.done
            frame = reader.take()
            self.skipped_frames = self._skipped_before + reader.skipped_frames
            if frame is not None:
                return frame
            if done or (time.monotonic() - reader.beat_s > HANG_S and self._may_leave()):
                return None
            self._give_up(away_since_s)
            try:
                self._wake.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        return None

    def _may_leave(self) -> bool:
        """Whether one more reader that hangs may be left behind."""
        return not self.hanging or len(self._left) < MOST_HANGING

    def _end(self, reader: Reader) -> str | None:
        """Part with a reader; returns why it ended, or None where all was read."""
        self._skipped_before += reader.skipped_frames
        self.skipped_frames = self._skipped_before
        self.counters.dropped += reader.dropped
        self._reader = None
        if not reader.done:
            reader.leave()
            self._left.append(reader)
            return f"a call into its driver or library has not come back for {time.monotonic() - reader.beat_s:.0f} s"
        if reader.error is None:
            return None
        return str(reader.error).removeprefix(f"{self.name}: ")

    def _went_away(self, reason: str, away_since_s: float | None) -> float:
        """Note an outage, or another attempt in vain; returns since when it lasts.

        Raises:
            SourceLostError: It may not be away for so long.
        """
        self.counters.last_error = reason
        self.beat()
        if away_since_s is None:
            away_since_s = time.monotonic()
            self.counters.outages += 1
            self.counters.go("offline")
            self._reasons = {reason}
            if self._give_up_s != 0:
                self._on_event(SourceEvent(self.name, "offline", reason))
        elif reason not in self._reasons:
            # The password was changed, say: each reason of one outage is told once.
            self._reasons.add(reason)
            self._on_event(SourceEvent(self.name, "offline", reason, time.monotonic() - away_since_s))
        self._give_up(away_since_s)
        return away_since_s

    def _came_back(self, away_since_s: float | None) -> None:
        if away_since_s is not None:
            self.counters.reconnects += 1
            away_s = time.monotonic() - away_since_s
            self._on_event(SourceEvent(self.name, "online", self.counters.last_error or "", away_s))
        self.counters.go("online")

    def _give_up(self, away_since_s: float | None) -> None:
        if self._give_up_s is None or away_since_s is None:
            return
        if time.monotonic() - away_since_s >= self._give_up_s:
            self._part()
            self.counters.go("ended")
            said = f"; it did not come back within {self._give_up_s:g} s" if self._give_up_s else ""
            raise SourceLostError(f"{self.name}: {self.counters.last_error}{said}")

    def _pause(self, wait_s: float, away_since_s: float) -> None:
        """Wait, giving signs of life.

        Raises:
            SourceLostError: The source has been away for longer than it may be.
        """
        until = time.monotonic() + wait_s
        while not self._told_to_end() and (left := until - time.monotonic()) > 0:
            self.beat()
            self._give_up(away_since_s)
            try:
                # Woken by `interrupt`, or by a reader that was left behind.
                self._wake.get(timeout=min(left, _POLL_S))
            except queue.Empty:
                continue
        self.beat()

    def _part(self) -> None:
        reader = self._reader
        if reader is not None:
            reader.leave()
            if reader not in self._left:
                self._left.append(reader)

    def interrupt(self) -> None:
        """End waiting at once, and the iterator at its next step. Safe from any thread and in a signal handler."""
        if self._interrupted_s is None:
            self._interrupted_s = time.monotonic()
        self._interrupted = True
        # Its put may be called by a signal handler, unlike the methods of locks and events.
        self._wake.put(None)
        if (reader := self._reader) is not None:
            reader.leave()

    def close(self) -> None:
        """Have the reader close the source; one that is inside a call is waited for a moment, and then left behind."""
        self.interrupt()
        self._part()
        assert self._interrupted_s is not None
        for reader in self._left:
            reader.join(self._interrupted_s + _CLOSE_S - time.monotonic())
