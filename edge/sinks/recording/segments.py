"""Video, all of it, in segments."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from edge.errors import OutputError
from edge.result import Result
from edge.sinks.recording.folder import Folder
from edge.sinks.recording.view import View
from edge.sinks.video import DEFAULT_FPS, VideoFile


class SegmentSink:
    """One video after another; each plays, also where it was cut off by a kill or a loss of power.

    A segment ends by its length, when the frames change their size, and when no frame comes any more.
    """

    def __init__(
        self, folder: Folder, view: View, segment_s: float = 60.0, fps: float | None = None, suffix: str = ".mkv"
    ) -> None:
        """Prepare; the first frame makes the first file.

        Args:
            folder: Names the files and keeps them in bounds.
            view: Makes the pictures.
            segment_s: Length of a segment in seconds.
            fps: Frames per second of the video; None for the source's own.
            suffix: ".mkv" or ".mp4".
        """
        self.outputs: list[Path] = []
        self._folder = folder
        self._view = view
        self._segment_s = segment_s
        self._fps = fps
        self._suffix = suffix
        self._file: VideoFile | None = None
        self._size_wh = (0, 0)
        self._began_s = self._last_s = 0.0

    def write(self, result: Result) -> None:
        """Record one frame.

        Raises:
            OutputError: It cannot be written; a later call begins a new file.
        """
        frame = result.frame
        size = self._view.size_wh(result)
        if self._file is not None and (size != self._size_wh or frame.captured_s - self._began_s >= self._segment_s):
            self.close()
        try:
            if self._file is None:
                fps = self._fps or frame.fps or DEFAULT_FPS
                self._file = VideoFile(self._folder.new(frame.wall_s, self._suffix), size, fps)
                self.outputs = [self._file.path]
                self._size_wh, self._began_s = size, frame.captured_s
            self._file.add(self._view.draw(result), frame.timestamp_s if frame.live or self._fps else None)
            self._last_s = time.monotonic()
        except OutputError:
            self._let_go()
            raise
        finally:
            self._folder.sweep(*self.outputs)

    def tick(self) -> None:
        """End a segment whose camera has gone away.

        Raises:
            OutputError: It cannot be finished.
        """
        if self._file is not None and time.monotonic() - self._last_s > self._segment_s:
            self.close()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OutputError):
                file.close()

    def close(self) -> None:
        """Finish the segment.

        Raises:
            OutputError: It cannot be finished.
        """
        file, self._file = self._file, None
        if file is not None:
            file.close()
