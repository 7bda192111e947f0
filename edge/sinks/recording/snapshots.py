"""A picture of each event: the one on which something was seen best."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge.errors import OutputError
from edge.frame import Image
from edge.result import Result
from edge.sinks.base import make_parent, write_atomically
from edge.sinks.recording.folder import Files, Folder
from edge.sinks.recording.retention import KEEPER
from edge.sinks.recording.view import Events, View, clock_s, file_word

_FILES = Files(noted=True, suffixes=(".jpg",))
_MARGIN = 0.1
"""Of a crop, as a share of the box's sides."""


@dataclass(slots=True)
class _Best:
    """The best picture of an event so far, as JPEG; and when the event began, and when something was seen last."""

    jpeg: bytes
    label: str
    score: float
    wall_s: float
    began_s: float
    seen_s: float


class SnapshotSink:
    """One JPEG per event, named by time, label and score; of a long event one each `every_s` seconds."""

    def __init__(
        self,
        folder: Folder,
        view: View,
        events: Events,
        gap_s: float = 5.0,
        every_s: float = 30.0,
        crop: bool = False,
        quality: int = 85,
    ) -> None:
        """Prepare.

        Args:
            folder: Names the files; this sink's alone.
            view: Makes the pictures.
            events: Says what counts.
            gap_s: An event ends when nothing was seen for so many seconds.
            every_s: A longer event gives a picture each so many seconds.
            crop: Whether only the box of the best detection is kept, with a margin.
            quality: Of the JPEG, 1..100.
        """
        folder.claim(_FILES)
        self.outputs: list[Path] = []
        self._folder = folder
        self._view = view
        self._events = events
        self._gap_s, self._every_s = gap_s, every_s
        self._crop = crop
        self._quality = quality
        self._best: _Best | None = None
        self._used_s = 0.0

    def write(self, result: Result) -> None:
        """Look at one frame.

        Raises:
            OutputError: The picture of an event that has ended cannot be written; a later call tries again.
        """
        KEEPER.add(self._folder)
        self._folder.require()
        now = clock_s(result.frame)
        self._used_s = time.monotonic()
        best = self._best
        found = max(self._events.of(result), key=lambda item: item[1], default=None)
        try:
            if best is not None and (not 0 <= now - best.seen_s <= self._gap_s or now - best.began_s >= self._every_s):
                self._finish()
                best = None
        finally:
            if found is not None:
                label, score, box = found
                if best is None:
                    self._best = _Best(self._picture(result, box), label, score, result.frame.wall_s, now, now)
                else:
                    best.seen_s = now
                    if score > best.score:
                        best.jpeg = self._picture(result, box)
                        best.label, best.score, best.wall_s = label, score, result.frame.wall_s

    def _picture(self, result: Result, box: tuple[float, float, float, float] | None) -> bytes:
        image = self._view.draw(result)
        if self._crop and box is not None:
            image = _cropped(image, box, image.shape[1] / result.frame.size_wh[0])
        return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1])

    def tick(self) -> None:
        """Write the picture of an event whose camera has gone away.

        Raises:
            OutputError: It cannot be written; a later call tries again.
        """
        KEEPER.add(self._folder)
        self._folder.require()
        if self._best is not None and time.monotonic() - self._used_s > self._gap_s:
            self._finish()

    def close(self) -> None:
        """Write the picture of what is going on.

        Raises:
            OutputError: It cannot be written; a later call tries again.
        """
        KEEPER.discard(self._folder)
        self._finish()

    def _finish(self) -> None:
        best, self._best = self._best, None
        if best is None:
            return
        try:
            path = self._folder.new(best.wall_s, ".jpg", f"{file_word(best.label)}-{best.score:.2f}")
            self._folder.writing = {path}
            make_parent(path)
            write_atomically(path, best.jpeg)
        except OutputError:
            # It waits for the disk, and for a better one.
            self._best = best
            self._folder.fail()
            KEEPER.hurry()
            raise
        finally:
            self._folder.writing = set()
        self.outputs = [path]


def _cropped(image: Image, box: tuple[float, float, float, float], scale: float) -> Image:
    """Return the part of a picture that a box shows, with a margin."""
    x1, y1, x2, y2 = (v * scale for v in box)
    across, down = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
    height, width = image.shape[:2]
    left, right = max(0, round(x1 - across)), min(width, round(x2 + across))
    top, bottom = max(0, round(y1 - down)), min(height, round(y2 + down))
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]
