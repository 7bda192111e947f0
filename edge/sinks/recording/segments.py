"""Video, all of it, in segments."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from edge.errors import OutputError
from edge.result import Result
from edge.sinks.recording.folder import Files, Folder
from edge.sinks.recording.retention import KEEPER
from edge.sinks.recording.view import MAX_GAP_S, Rate, View, clock_s
from edge.sinks.video import VideoFile

_FILES = Files(noted=False, suffixes=(".mkv", ".mp4"))


class SegmentSink:
    """One video after another; each plays, also where it was cut off by a kill or a loss of power.

    A segment ends by its length, when the frames change their size, and where none came for a while. A second of a
    segment is a second of the clock, however unevenly frames come.
    """

    def __init__(
        self, folder: Folder, view: View, segment_s: float = 60.0, fps: float | None = None, suffix: str = ".mkv"
    ) -> None:
        """Prepare; the first frame makes the first file.

        Args:
            folder: Names the files; this sink's alone.
            view: Makes the pictures.
            segment_s: Length of a segment in seconds.
            fps: Most frames per second of the video; None for all that come.
            suffix: ".mkv" or ".mp4".
        """
        folder.claim(_FILES)
        self.outputs: list[Path] = []
        self._folder = folder
        self._view = view
        self._segment_s = segment_s
        self._fps = fps
        self._suffix = suffix
        self._rate = Rate()
        self._file: VideoFile | None = None
        self._size_wh = (0, 0)
        self._began_s = self._last_s = self._used_s = 0.0

    def write(self, result: Result) -> None:
        """Record one frame.

        Raises:
            OutputError: It cannot be written; a later call begins a new file.
        """
        KEEPER.add(self._folder)
        self._folder.require()
        frame = result.frame
        at_s = clock_s(frame)
        self._rate.note(at_s)
        size = self._view.size_wh(result)
        try:
            if self._file is not None and (
                size != self._size_wh
                or at_s - self._began_s >= self._segment_s
                or not 0 <= at_s - self._last_s <= MAX_GAP_S
            ):
                self._end()
            if self._file is None:
                self._begin(result, size, at_s)
            assert self._file is not None
            self._file.add(self._view.draw(result), None if frame.still else at_s)
        except OutputError:
            with suppress(OutputError):
                self._end()
            self._folder.fail()
            KEEPER.hurry()
            raise
        self._last_s, self._used_s = at_s, time.monotonic()

    def _begin(self, result: Result, size_wh: tuple[int, int], at_s: float) -> None:
        path = self._folder.new(result.frame.wall_s, self._suffix)
        fps = self._rate.fps(result.frame)
        self._folder.writing = {path}
        self._file = VideoFile(path, size_wh, fps if self._fps is None else min(fps, self._fps))
        self.outputs = [path]
        self._size_wh, self._began_s = size_wh, at_s

    def tick(self) -> None:
        """End a segment whose camera has gone away.

        Raises:
            OutputError: It cannot be finished.
        """
        KEEPER.add(self._folder)
        self._folder.require()
        if self._file is not None and time.monotonic() - self._used_s > MAX_GAP_S:
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        finally:
            self._folder.writing = set()

    def close(self) -> None:
        """Finish the segment.

        Raises:
            OutputError: It cannot be finished.
        """
        KEEPER.discard(self._folder)
        self._end()
