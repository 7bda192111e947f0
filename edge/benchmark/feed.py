"""Frames for a measurement: a file read over and over, a part of it at a time, at a camera's pace or without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from edge.errors import InputError, SourceError
from edge.frame import Frame
from edge.sources import Source, SourceOptions, open_source
from edge.sources.base import SourceBase


class Reel:
    """A file that begins again where it ends. One thread reads it at a time.

    Attributes:
        name: As the user gave it.
        fps: Its rate; None for pictures.
        size_wh: Of its first frame; None where frames differ.
    """

    _source: Source | None = None

    def __init__(
        self, uri: str, options: SourceOptions | None = None, open: Callable[..., Source] = open_source
    ) -> None:
        """Open it.

        Args:
            uri: A video, a picture, a folder or a pattern.
            options: How to read it.
            open: Makes the source.

        Raises:
            SourceError: It cannot be read.
            InputError: It is a camera or a stream.
        """
        self._uri, self._options, self._open = uri, options or SourceOptions(), open
        source = self._begin()
        self.name: str = source.name
        self.fps: float | None = source.fps
        self.size_wh: tuple[int, int] | None = source.size_wh
        if source.live:
            self.close()
            raise InputError(
                f"--source {self.name}: a camera's own rate would be the result; record a clip with: edge detect "
                "--source ... --save CLIP.mp4, and measure on that"
            )

    def _begin(self) -> Source:
        self.close()
        source = self._source = self._open(self._uri, self._options)
        self._frames: Iterator[Frame] = iter(source)
        return source

    def next(self) -> Frame:
        """Return the next frame.

        Raises:
            SourceError: The file gives none any more.
        """
        frame = next(self._frames, None)
        if frame is None:
            self._begin()
            frame = next(self._frames, None)
            if frame is None:
                raise SourceError(f"{self._uri}: gives no frames any more")
        return frame

    def close(self) -> None:
        """Free the file."""
        if self._source is not None:
            self._source.close()
            self._source = None


class Feed(SourceBase):
    """A part of a reel, as a source for a pipeline."""

    def __init__(
        self,
        reel: Reel,
        more: Callable[[], bool],
        fps: float | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare.

        Args:
            reel: Where frames come from; stays open.
            more: Whether another frame is wanted.
            fps: Pace of a camera, whose frames a slow model misses; None for frames that wait until they are taken.
            now: Clock in seconds.
            sleep: Waits.
        """
        self.name, self.size_wh = reel.name, reel.size_wh
        self.live = fps is not None
        self.fps = fps if fps is not None else reel.fps
        self._reel, self._more, self._pace = reel, more, fps
        self._now, self._sleep = now, sleep

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until no more are wanted."""
        due = self._now()
        index = 0
        while self._more() and not self._interrupted:
            if self._pace is not None:
                due += 1 / self._pace
                # A late one is not made up for: a camera does not hurry either.
                due = max(due, self._now())
                self._sleep(max(0.0, due - self._now()))
            self.beat()
            frame = self._reel.next()
            yield replace(frame, index=index, live=self.live)
            index += 1
