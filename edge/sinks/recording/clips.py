"""A short video around each event, with what came before it."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.errors import OutputError
from edge.frame import Image
from edge.result import Result
from edge.sinks.base import write_atomically
from edge.sinks.recording.folder import Folder
from edge.sinks.recording.view import Events, View, file_word
from edge.sinks.video import DEFAULT_FPS, VideoFile

_QUALITY = 85
_MOST_BYTES = 32 << 20
"""Of pictures that wait, whatever their size and rate: the memory of a small board."""

_CATCH_UP = 3
"""Pictures that are written for each that comes, until those from before the event are in the file: no frame waits for
all of them."""


@dataclass(slots=True)
class _Kept:
    """A picture that waits: JPEG, its size, and when it was taken by the monotonic clock and by the wall's."""

    jpeg: bytes
    size_wh: tuple[int, int]
    captured_s: float
    wall_s: float


@dataclass(slots=True)
class _Event:
    """What is going on: its file, and label -> best score and number of sightings."""

    file: VideoFile
    began_s: float
    wall_s: float
    size_wh: tuple[int, int]
    seen_s: float
    seen_wall_s: float
    labels: dict[str, tuple[float, int]] = field(default_factory=dict)


class ClipSink:
    """A video of each event and a JSON file beside it that says what was seen.

    The pictures of the last seconds wait in memory as JPEG. An event begins with something that counts, and ends when
    nothing was seen for `post_s`; what follows sooner belongs to it.
    """

    def __init__(
        self,
        folder: Folder,
        view: View,
        events: Events,
        camera: str,
        pre_s: float = 5.0,
        post_s: float = 5.0,
        max_s: float = 60.0,
        suffix: str = ".mkv",
    ) -> None:
        """Prepare.

        Args:
            folder: Names the files and keeps them in bounds.
            view: Makes the pictures.
            events: Says what counts.
            camera: Its name.
            pre_s: Seconds before the event that belong to it.
            post_s: Seconds after the last sighting.
            max_s: A longer event is cut into clips of this length in seconds.
            suffix: ".mkv" or ".mp4".
        """
        self.outputs: list[Path] = []
        self._folder = folder
        self._view = view
        self._events = events
        self._camera = camera
        self._pre_s, self._post_s, self._max_s = pre_s, post_s, max_s
        self._suffix = suffix
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._event: _Event | None = None

    def write(self, result: Result) -> None:
        """Keep one frame, and write some where an event goes on.

        Raises:
            OutputError: It cannot be written; the next event begins a new file.
        """
        frame = result.frame
        found = list(self._events.of(result))
        self._keep(result)
        try:
            event = self._event
            if event is not None and self._is_over(event, result):
                self._finish(but_last=True)
                event = None
            if event is None:
                self._forget(frame.captured_s - self._pre_s)
            if event is None and found:
                first = self._kept[0]
                fps = frame.fps or DEFAULT_FPS
                path = self._folder.new(first.wall_s, self._suffix, file_word(found[0][0]))
                file = VideoFile(path, first.size_wh, fps)
                event = _Event(file, frame.captured_s, first.wall_s, first.size_wh, frame.captured_s, frame.wall_s)
                self._event, self.outputs = event, [path]
            if event is None:
                return
            for label, score, _ in found:
                best, count = event.labels.get(label, (0.0, 0))
                event.labels[label] = (max(best, score), count + 1)
                event.seen_s, event.seen_wall_s = frame.captured_s, frame.wall_s
            self._write_kept(event, _CATCH_UP)
        except OutputError:
            self._let_go()
            raise
        finally:
            self._folder.sweep(*self.outputs)

    def _is_over(self, event: _Event, result: Result) -> bool:
        now = result.frame.captured_s
        return (
            now - event.seen_s > self._post_s
            or now - event.began_s >= self._max_s
            or self._view.size_wh(result) != event.size_wh
        )

    def _keep(self, result: Result) -> None:
        image = self._view.draw(result)
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        frame, size = result.frame, (image.shape[1], image.shape[0])
        if self._event is None and self._kept and self._kept[-1].size_wh != size:
            self._kept.clear()
            self._bytes = 0
        self._kept.append(_Kept(jpeg, size, frame.captured_s, frame.wall_s))
        self._bytes += len(jpeg)
        while self._bytes > _MOST_BYTES and len(self._kept) > 1:
            self._bytes -= len(self._kept.popleft().jpeg)

    def _forget(self, before_s: float) -> None:
        while len(self._kept) > 1 and self._kept[0].captured_s < before_s - 1e-3:
            self._bytes -= len(self._kept.popleft().jpeg)

    def _write_kept(self, event: _Event, most: int | None) -> None:
        """Write pictures that wait, the oldest first."""
        while self._kept and (most is None or most > 0):
            kept = self._kept.popleft()
            self._bytes -= len(kept.jpeg)
            event.file.add(_decoded(kept.jpeg), kept.captured_s)
            most = None if most is None else most - 1

    def tick(self) -> None:
        """End an event whose camera has gone away.

        Raises:
            OutputError: It cannot be finished.
        """
        if self._event is not None and time.monotonic() - self._event.seen_s > self._post_s + 1:
            self.close()

    def _finish(self, but_last: bool = False) -> None:
        """End the event; `but_last`: the newest picture belongs to what follows."""
        event, self._event = self._event, None
        if event is None:
            return
        last = self._kept.pop() if but_last else None
        try:
            self._write_kept(event, None)
        finally:
            if last is not None:
                self._kept.append(last)
            event.file.close()
        write_atomically(event.file.path.with_suffix(".json"), json.dumps(self._told(event)).encode())

    def _told(self, event: _Event) -> dict[str, Any]:
        return {
            "camera": self._camera,
            "video": event.file.path.name,
            "start": _iso(event.wall_s),
            "first_seen": _iso(event.seen_wall_s - (event.seen_s - event.began_s)),
            "last_seen": _iso(event.seen_wall_s),
            "labels": {
                label: {"best": round(best, 5), "frames": count} for label, (best, count) in event.labels.items()
            },
        }

    def _let_go(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            with suppress(OutputError):
                event.file.close()

    def close(self) -> None:
        """Finish what is going on.

        Raises:
            OutputError: It cannot be finished.
        """
        try:
            self._finish()
        except OutputError:
            self._let_go()
            raise


def _decoded(jpeg: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _iso(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s).astimezone().isoformat(timespec="milliseconds")
