"""What every source is, and the small things that sources share."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from edge.frame import Frame, Image


class Source(Protocol):
    """Where frames come from: a context manager and an iterator of Frame.

    A source is opened, and its first frame read, when it is made: what cannot be used is found before any model
    is loaded.

    Attributes:
        name: As the user gave it, without credentials.
        live: Whether it goes on without us (camera, stream): a slow reader then wants the newest frame.
        fps: Nominal frames per second; None where it is unknown or there is no such thing.
        frame_count: Frames that it should give; None where that is unknown.
        size_wh: Width and height of its first frame; None where frames differ.
        skipped: Files that could not be read and were left out, so far.
        skipped_frames: Frames that `every` and `max_fps` left out, so far.
        beat_s: `time.monotonic()` of its last sign of life: a call of a driver or library that does not come back
            leaves it behind.
        paths: The files that it reads; empty for a camera or stream.
    """

    name: str
    live: bool
    fps: float | None
    frame_count: int | None
    size_wh: tuple[int, int] | None
    skipped: int
    skipped_frames: int
    paths: Sequence[Path]

    @property
    def beat_s(self) -> float:
        """See above."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; once.

        Raises:
            SourceLostError: A live source stopped delivering.
        """
        ...

    def interrupt(self) -> None:
        """Let the iterator end at its next step; returns at once. Safe from any thread and in a signal handler."""
        ...

    def close(self) -> None:
        """Free the file or device; harmless when repeated."""
        ...

    def __enter__(self) -> Self:
        """Return self."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        ...


class SourceBase:
    """The part of a source that does not depend on its kind."""

    name: str
    live = False
    fps: float | None = None
    frame_count: int | None = None
    size_wh: tuple[int, int] | None = None
    skipped = 0
    skipped_frames = 0
    paths: Sequence[Path] = ()
    _beat_s = 0.0
    _interrupted = False

    @property
    def beat_s(self) -> float:
        """`time.monotonic()` of its last sign of life."""
        return self._beat_s

    def beat(self) -> None:
        """Give a sign of life; before and after whatever may not come back."""
        self._beat_s = time.monotonic()

    def interrupt(self) -> None:
        """Let the iterator end at its next step."""
        # A plain assignment: a signal handler may be what calls.
        self._interrupted = True

    def close(self) -> None:
        """Free nothing."""

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def still_frame(image: Image, index: int, source: str) -> Frame:
    """Return the frame of a picture file."""
    return Frame(image, index, source, 0.0, time.monotonic(), time.time(), still=True)


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts `frame2` before `frame10`, and upper and lower case together."""
    parts = re.split(r"(\d+)", text.casefold())
    return tuple((0, int(part)) if part.isascii() and part.isdigit() else (1, part) for part in parts)
