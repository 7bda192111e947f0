"""What a camera reads: a live source that comes and goes, or a file that is read to its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from edge.config.schema import CameraConfig
from edge.errors import SourceError
from edge.frame import Frame
from edge.sources import SourceOptions, is_live, open_source
from edge.sources.base import SourceBase
from edge.sources.reconnect import Counters, ReconnectingSource, SourceEvent, told

log = logging.getLogger(__name__)

_RETRY_S = 5.0
"""How long a file that cannot be read is waited for: a stick that is not plugged in yet."""


class Feed(Protocol):
    """What a camera needs of its source; see `ReconnectingSource` for the attributes."""

    live: bool
    counters: Counters
    skipped_frames: int

    @property
    def beat_s(self) -> float:
        """`time.monotonic()` of its last sign of life."""
        ...

    @property
    def hanging(self) -> bool:
        """Whether a thread of it is left inside a call of a driver or library."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames."""
        ...

    def interrupt(self) -> None:
        """End the frames soon; from any thread."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class FileFeed(SourceBase):
    """A file, a folder or a pattern; waited for until it can be read, and then read once."""

    def __init__(self, camera: str, uri: str, options: SourceOptions) -> None:
        """Prepare; nothing is opened yet."""
        self.name = uri
        self._camera = camera
        self.hanging = False
        self._options = options
        self._wake = threading.Event()
        self.counters = Counters()

    def _told_to_end(self) -> bool:
        return self._interrupted

    def interrupt(self) -> None:
        """End the frames soon."""
        super().interrupt()
        self._wake.set()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames."""
        while not self._told_to_end():
            try:
                with open_source(self.name, self._options) as source:
                    self.counters.reconnects += self.counters.outages
                    self.counters.go("online")
                    for frame in source:
                        self.beat()
                        self.skipped_frames = source.skipped_frames
                        yield frame
                        if self._told_to_end():
                            break
                    self.skipped_frames = source.skipped_frames
                break
            except SourceError as error:
                if self.counters.state != "offline":
                    self.counters.outages += 1
                    self.counters.last_error = str(error)
                    log.warning("camera %s: offline: %s; tried again every %g s", self._camera, error, _RETRY_S)
                    self.counters.go("offline")
            until = time.monotonic() + _RETRY_S
            while not self._told_to_end() and time.monotonic() < until:
                self.beat()
                self._wake.wait(0.2)
        self.counters.go("ended")


def make_feed(name: str, config: CameraConfig) -> Feed:
    """Return what a camera reads; nothing is opened yet.

    Args:
        name: Of the camera, for the log.
        config: Its section.
    """
    options = SourceOptions(
        size_wh=None if config.size is None else _size_wh(config.size),
        fps=config.fps,
        format=config.format,
        flip=config.flip,
        rotate=config.rotate,
        reduce=config.reduce,
        every=config.every,
        max_fps=config.max_fps,
        open_timeout_s=config.open_timeout_s,
        read_timeout_s=config.read_timeout_s,
        transport=config.transport,
    )
    source = config.source
    if is_live(source):
        return ReconnectingSource(source, options, on_event=partial(_log_event, name))
    return FileFeed(name, source, options)


def _log_event(camera: str, event: SourceEvent) -> None:
    """Log a line for each outage, each further reason of it, and each return."""
    log.warning("camera %s: %s", camera, told(event))


def _size_wh(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    return int(width), int(height)
