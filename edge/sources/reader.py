"""Threads for the calls into OpenCV and drivers, which may not come back: Opening and Reader."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from edge.errors import EdgeError, SourceError, SourceLostError
from edge.frame import Frame
from edge.sources.attempt import Attempt
from edge.sources.base import Source
from edge.sources.urls import without_credentials


class Reader:
    """A thread that opens a source and keeps its newest frame, until the source ends or it is told to leave.

    Attributes:
        frames: How many it has read.
        dropped: How many of them were replaced by newer ones.
        error: What ended it; None for an end in good order.
        done: Whether it has ended.
        source: The source, once it is open.
    """

    def __init__(self, name: str, open_it: Callable[[], Source], wake: queue.SimpleQueue[None]) -> None:
        """Start it.

        Args:
            name: Of the source.
            open_it: Opens the source.
            wake: Given something whenever there is a new frame, and at the end.
        """
        self.frames = self.dropped = 0
        self.error: Exception | None = None
        self.done = False
        self.source: Source | None = None
        self._open = open_it
        self._wake = wake
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._leaving = False
        self._beat_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"edge-read-{name[:40]}", daemon=True)
        self._thread.start()

    @property
    def beat_s(self) -> float:
        """`time.monotonic()` of its last sign of life."""
        source = self.source
        return max(self._beat_s, source.beat_s if source is not None else 0.0)

    @property
    def captured(self) -> int:
        """Frames of the source so far, those that were left out included."""
        return int(getattr(self.source, "captured", self.frames))

    @property
    def skipped_frames(self) -> int:
        """Frames that were left out."""
        return self.source.skipped_frames if self.source is not None else 0

    def take(self) -> Frame | None:
        """Take the newest frame, where there is one that was not taken yet."""
        with self._lock:
            frame, self._newest = self._newest, None
            return frame

    def leave(self) -> None:
        """Have it close the source and end as soon as it can."""
        self._leaving = True
        if (source := self.source) is not None:
            source.interrupt()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it has ended."""
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            source = self._open()
            self.source = source
            try:
                self._read(source)
            finally:
                source.close()
        except EdgeError as error:
            self.error = error
        except Exception as error:  # a thread's boundary: whatever a driver or a library raises is one outage
            text = str(error).strip().splitlines()
            self.error = SourceLostError(text[0] if text else type(error).__name__)
        finally:
            self.done = True
            self._wake.put(None)

    def _read(self, source: Source) -> None:
        if self._leaving:
            return
        for frame in source:
            self._beat_s = time.monotonic()
            with self._lock:
                waiting, self._newest = self._newest, frame
                self.frames += 1
                self.dropped += waiting is not None
            if waiting is None:
                self._wake.put(None)


class Opening:
    """A source that is being opened in a thread of its own."""

    def __init__(self, uri: str, open_it: Callable[[], Source]) -> None:
        """Begin.

        Args:
            uri: What is opened.
            open_it: Opens it.
        """
        self._name = without_credentials(uri)
        self._attempt = Attempt(open_it, lambda source: source.close())

    def result(self, timeout_s: float) -> Source:
        """Wait for the source.

        Raises:
            SourceError: It cannot be opened, or not in time.
        """
        try:
            return self._attempt.result(timeout_s)
        except TimeoutError as error:
            said = f"it does not open within {timeout_s:g} s: its driver or library hangs"
            raise SourceError(f"{self._name}: {said}") from error

    def give_up(self) -> None:
        """Want it no more: it is closed, now or once it is open."""
        self._attempt.give_up()
