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
from edge.frame import Frame, Image
from edge.result import Result
from edge.sinks.base import make_parent, write_atomically
from edge.sinks.recording.folder import Files, Folder
from edge.sinks.recording.retention import KEEPER
from edge.sinks.recording.scratch import MOST_BYTES, Scratch
from edge.sinks.recording.view import MAX_GAP_S, Events, Rate, View, clock_s, file_word
from edge.sinks.video import VideoFile

_FILES = Files(noted=True, suffixes=(".mkv", ".mp4", ".json"))
_QUALITY = 85
_MOST_WAITING_BYTES = 32 << 20
"""Of pictures that wait, whatever their size and rate: the memory of a small board."""

_CATCH_UP = 3
"""Pictures that are written for each that comes, until those from before the event are in the file: no frame waits for
all of them."""


@dataclass(slots=True)
class _Kept:
    """A picture that waits: JPEG, its size, and when it was taken by the clock of frames and by the wall's."""

    jpeg: bytes
    size_wh: tuple[int, int]
    at_s: float
    wall_s: float


@dataclass(slots=True)
class _Event:
    """What is going on: its file, when it began by which clock, and label -> best score and number of sightings."""

    file: VideoFile
    label: str
    size_wh: tuple[int, int]
    first_s: float
    first_wall_s: float
    began_s: float
    began_wall_s: float
    seen_s: float
    seen_wall_s: float
    follows: str | None = None
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
        tmpfs: bool = True,
    ) -> None:
        """Prepare.

        Args:
            folder: Names the files; this sink's alone.
            view: Makes the pictures.
            events: Says what counts.
            camera: Its name.
            pre_s: Seconds before the event that belong to it.
            post_s: Seconds after the last sighting.
            max_s: A longer event is cut into clips of this length in seconds.
            suffix: ".mkv" or ".mp4".
            tmpfs: Whether a clip is put together in memory, and written to the disk in one go.
        """
        folder.claim(_FILES)
        self.outputs: list[Path] = []
        self._folder = folder
        self._view = view
        self._events = events
        self._camera = camera
        self._pre_s, self._post_s, self._max_s = pre_s, post_s, max_s
        self._suffix = suffix
        self._scratch = Scratch(folder, tmpfs)
        # What the process before this one left is there to be moved.
        self._undelivered = True
        self._rate = Rate()
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._event: _Event | None = None
        self._last_s = self._used_s = 0.0

    def write(self, result: Result) -> None:
        """Keep one frame, and write some where an event goes on.

        Raises:
            OutputError: It cannot be written; the next event begins a new file.
        """
        KEEPER.add(self._folder)
        self._folder.require()
        frame = result.frame
        at_s = clock_s(frame)
        before_s, self._last_s = self._last_s, at_s
        found = list(self._events.of(result))
        self._rate.note(at_s)
        self._keep(self._view.draw(result), frame, at_s)
        self._used_s = time.monotonic()
        try:
            self._deliver_rest()
            event = self._event
            over, cut = self._ends(event, self._kept[-1], before_s)
            if over or cut:
                self._finish(but_last=True)
            if self._event is None:
                self._forget(at_s - self._pre_s)
                if found or cut and not over:
                    self._begin(found[0][0] if found else "", frame, at_s, event if cut and not over else None)
            if self._event is not None:
                self._see(self._event, found, frame, at_s)
                self._write_kept(self._event, _CATCH_UP)
        except OutputError:
            self._fail()
            raise

    def _ends(self, event: _Event | None, last: _Kept, before_s: float) -> tuple[bool, bool]:
        """Return whether an event is over with a picture, and whether it needs a new file for it."""
        if event is None:
            return False, False
        over = not event.seen_s <= last.at_s <= event.seen_s + self._post_s + 1e-3
        cut = (
            last.at_s - event.began_s >= self._max_s
            or last.size_wh != event.size_wh
            or last.at_s - before_s > MAX_GAP_S
            or self._is_large(event)
        )
        return over, cut

    def _is_large(self, event: _Event) -> bool:
        try:
            return event.file.path.stat().st_size >= MOST_BYTES
        except OSError:
            return False  # the next write says what is wrong

    def _keep(self, image: Image, frame: Frame, at_s: float) -> None:
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        size = image.shape[1], image.shape[0]
        if self._event is None and self._kept:
            last = self._kept[-1]
            if last.size_wh != size or not 0 <= at_s - last.at_s <= MAX_GAP_S:
                # One video could not show both, or would stand still between.
                self._kept.clear()
                self._bytes = 0
        self._kept.append(_Kept(jpeg, size, at_s, frame.wall_s))
        self._bytes += len(jpeg)
        while self._bytes > _MOST_WAITING_BYTES and len(self._kept) > 1:
            self._bytes -= len(self._kept.popleft().jpeg)

    def _forget(self, before_s: float) -> None:
        while len(self._kept) > 1 and self._kept[0].at_s < before_s - 1e-3:
            self._bytes -= len(self._kept.popleft().jpeg)

    def _begin(self, label: str, frame: Frame, at_s: float, before: _Event | None) -> None:
        """Begin the file of an event; `before`: that of its first part, where this is another."""
        if before is not None:
            label = before.label
        first = self._kept[0]
        path = self._folder.new(first.wall_s, self._suffix, file_word(label))
        place = self._scratch.place(path)
        self._folder.writing = {path}
        file = VideoFile(place, first.size_wh, self._rate.fps(frame))
        seen = (at_s, frame.wall_s) if before is None else (before.seen_s, before.seen_wall_s)
        follows = None if before is None or not self.outputs else self.outputs[0].name
        self._event = _Event(
            file, label, first.size_wh, first.at_s, first.wall_s, at_s, frame.wall_s, *seen, follows=follows
        )
        if place == path:
            self.outputs = [path]

    def _see(
        self,
        event: _Event,
        found: list[tuple[str, float, tuple[float, float, float, float] | None]],
        frame: Frame,
        at_s: float,
    ) -> None:
        known = len(event.labels)
        for label, score, _ in found:
            best, count = event.labels.get(label, (0.0, 0))
            event.labels[label] = (max(best, score), count + 1)
            event.seen_s, event.seen_wall_s = at_s, frame.wall_s
        if len(event.labels) > known:
            # Also beside a video that a kill cuts off.
            self._tell(event)

    def _write_kept(self, event: _Event, most: int | None) -> None:
        """Write pictures that wait, the oldest first."""
        while self._kept and (most is None or most > 0):
            kept = self._kept.popleft()
            self._bytes -= len(kept.jpeg)
            event.file.add(_decoded(kept.jpeg), kept.at_s)
            most = None if most is None else most - 1

    def _deliver_rest(self) -> None:
        if self._undelivered:
            self._scratch.deliver_rest(None if self._event is None else self._event.file.path)
            self._undelivered = False

    def tick(self) -> None:
        """End an event whose camera has gone away; move clips that the disk did not take before.

        Raises:
            OutputError: It cannot be finished.
        """
        KEEPER.add(self._folder)
        self._folder.require()
        try:
            if self._event is not None and time.monotonic() - self._used_s > max(self._post_s, MAX_GAP_S):
                self._finish()
            self._deliver_rest()
        except OutputError:
            self._fail()
            raise

    def _fail(self) -> None:
        self._let_go()
        self._folder.fail()
        KEEPER.hurry()

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
        try:
            self._tell(event)
            self._undelivered = True
            self.outputs = [self._scratch.deliver(event.file.path)]
            self._undelivered = False
        finally:
            self._folder.writing = set()

    def _tell(self, event: _Event) -> None:
        path = event.file.path.with_suffix(".json")
        make_parent(path)
        write_atomically(path, json.dumps(self._told(event)).encode())

    def _told(self, event: _Event) -> dict[str, Any]:
        told: dict[str, Any] = {
            "camera": self._camera,
            "video": event.file.path.name,
            "start": _iso(event.first_wall_s),
            "first_seen": _iso(event.began_wall_s),
            "first_seen_s": round(event.began_s - event.first_s, 3),
            "last_seen": _iso(event.seen_wall_s),
            "labels": {
                label: {"best": round(best, 5), "frames": count} for label, (best, count) in event.labels.items()
            },
        }
        return told if event.follows is None else told | {"follows": event.follows}

    def _let_go(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            with suppress(OutputError):
                event.file.close()
            # What there is of it is moved as soon as the disk takes it.
            self._undelivered = True
        self._folder.writing = set()

    def close(self) -> None:
        """Finish what is going on.

        Raises:
            OutputError: It cannot be finished.
        """
        KEEPER.discard(self._folder)
        try:
            self._finish()
            self._deliver_rest()
        except OutputError:
            self._let_go()
            raise
        finally:
            self._scratch.close()


def _decoded(jpeg: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _iso(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s).astimezone().isoformat(timespec="milliseconds")
