"""Annotated video."""

from __future__ import annotations

import math
import os
import select
import shutil
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2

from edge.cv import opens
from edge.errors import OutputError
from edge.frame import Image
from edge.result import Result
from edge.sinks.base import FULL, Overlay, make_parent, output_error
from edge.sinks.matroska import finalize as finalize_matroska
from edge.sinks.mp4 import finalize as finalize_mp4

VIDEO_FORMATS = {
    ".mp4": ("mp4v", ".ismv"),
    ".m4v": ("mp4v", ".ismv"),
    ".mkv": ("mp4v", ".mkv"),
    ".avi": ("XVID", ".avi"),
    ".webm": ("VP80", ".webm"),
}
"""Suffix -> codec, and the suffix by which FFmpeg picks the container.

An ordinary MP4 is unreadable until its index is written at the very end: a full disk or a kill loses all of it.
FFmpeg's `.ismv` is an MP4 in fragments, each with its own index, that plays wherever it is cut off;
`edge.sinks.mp4` makes an ordinary one of it at the end. MPEG-4 Part 2 is the only codec of the OpenCV wheels that
keeps up on a small CPU; it does not play in browsers, VP8 in `.webm` does, at many times the cost.
"""

DEFAULT_FPS = 25.0
PICTURE_FPS = 10.0
"""Rate of a video that is made of pictures."""

_MAX_GAP_S = 5.0
"""A live source that was away for longer is not shown as frozen for all of that time."""


_STREAMED = (".mkv", ".ismv")
"""Containers that FFmpeg can write without going back."""

_CHUNK = 1 << 18
_GATHER_S = 1.0
"""What comes within this time is written in one piece: a kill costs little, and so does a disk's wear."""


class _Stream:
    """Takes what FFmpeg writes through a pipe, and writes it to the file.

    To a file FFmpeg writes in pieces of 256 KB, which may be all of a quiet scene's video for a minute, lost with a
    kill; and of a write that fails OpenCV says nothing. Through a pipe each second comes when it is complete.

    Attributes:
        name: Where FFmpeg is to write to.
        error: Why the file could not be written; the rest of the video is lost.
    """

    def __init__(self, path: Path, container: str) -> None:
        """Create the file and the pipe.

        Raises:
            OSError: One of them cannot be created.
        """
        self.error: OSError | None = None
        self._folder = tempfile.mkdtemp(prefix="edge-video-")
        try:
            self.name = os.path.join(self._folder, f"video{container}")
            os.mkfifo(self.name, 0o600)
            self._pipe = os.open(self.name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        try:
            self._file = path.open("wb", buffering=0)
        except OSError:
            self.abandon()
            raise
        self._thread = threading.Thread(target=self._carry, name="edge-video", daemon=True)

    def start(self) -> None:
        """Go on when FFmpeg has opened the pipe, whose name is not needed any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.set_blocking(self._pipe, True)
        self._thread.start()

    def abandon(self) -> None:
        """Remove the pipe that nobody opened."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._pipe)

    def _carry(self) -> None:
        ready = select.poll()
        ready.register(self._pipe, select.POLLIN)
        waiting = bytearray()
        since_s = time.monotonic()
        with self._file:
            while True:
                left_s = since_s + _GATHER_S - time.monotonic() if waiting else None
                if left_s is None or ready.poll(max(0.0, left_s * 1e3)):
                    data = os.read(self._pipe, _CHUNK)
                    if not waiting:
                        since_s = time.monotonic()
                    waiting += data
                    if data and len(waiting) < _CHUNK and time.monotonic() < since_s + _GATHER_S:
                        continue
                    if not data and not waiting:
                        break
                self._put(waiting)
                waiting.clear()
        os.close(self._pipe)

    def _put(self, data: bytearray) -> None:
        # After an error nothing more; but the pipe is emptied, or FFmpeg would wait for ever.
        while data and self.error is None:
            try:
                del data[: self._file.write(data)]
            except OSError as error:
                self.error = error

    def join(self) -> None:
        """Wait until all is written; FFmpeg has let go of the pipe."""
        self._thread.join()


class VideoFile:
    """One video file that plays wherever its writing is cut off, but for its last second or two.

    Frames of another size are scaled to its own.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        """Create the file.

        Args:
            path: Its name, with a suffix of `VIDEO_FORMATS`.
            size_wh: Width and height in pixels; odd ones are extended by a pixel.
            fps: Frames per second.

        Raises:
            OutputError: It cannot be created, or this OpenCV has no encoder.
        """
        self.path = path
        make_parent(path)
        codec, self._container = VIDEO_FORMATS[path.suffix.lower()]
        width, height = size_wh
        # The codecs halve the colour planes, and want even sides.
        self._size_wh = (width + width % 2, height + height % 2)
        # MPEG-4 counts at most 65535 ticks a second: above 65 frames a second not in thousandths of a frame.
        self._fps = round(fps, 3 if fps < 60 else 2)
        self._start_s: float | None = None
        self._written = 0
        part = path.with_name(f"{path.name}.part{self._container}")
        try:
            # OpenCV would keep the reason to itself.
            part.open("wb").close()
        except OSError as error:
            raise output_error(path, error) from error
        self._stream = _stream(part, self._container)
        fourcc = cv2.VideoWriter.fourcc(*codec)
        # FFmpeg takes what precedes a colon in a relative name for a protocol.
        name = str(part.absolute()) if self._stream is None else self._stream.name
        self._writer: Any = cv2.VideoWriter(name, cv2.CAP_FFMPEG, fourcc, self._fps, self._size_wh)
        if not self._writer.isOpened():
            if self._stream is not None:
                self._stream.abandon()
            with suppress(OSError):
                part.unlink()
            raise OutputError(
                f"{path}: this OpenCV cannot encode {codec} video; try another of {', '.join(VIDEO_FORMATS)}"
            )
        if self._stream is not None:
            self._stream.start()
            # A writer that is dropped, also by the end of Python, writes its last while no other thread may run: it
            # would wait for ever for the one that empties the pipe. That one in turn ends with Python, finished or not.
            weakref.finalize(self, _finish, self._writer, self._stream)
        try:
            # The name was for FFmpeg alone; what writes goes on through the open file.
            os.replace(part, path)
        except OSError as error:
            self._release()
            raise output_error(path, error) from error

    def add(self, image: Image, at_s: float | None = None) -> None:
        """Encode one frame.

        Args:
            image: uint8 (H, W, 3), BGR.
            at_s: When it was taken, in seconds of any clock: it is repeated, or left out, so that the video runs as
                long as it took. None: once.

        Raises:
            OutputError: The disk is full, or gone.
        """
        image = _fit(image, self._size_wh)
        for _ in range(self._repeats(at_s)):
            self._writer.write(image)
            self._written += 1
        if self._stream is None:
            self._check_space()
        elif self._stream.error is not None:
            self._release()
            raise self._failed(self._stream.error) from self._stream.error

    def _repeats(self, at_s: float | None) -> int:
        if at_s is None:
            return 1
        if self._start_s is None:
            self._start_s = at_s
        # To the nearest, and down from just between two: of twice the rate every second frame is taken.
        due = math.ceil((at_s - self._start_s) * self._fps - 0.5 - 1e-3) + 1 - self._written
        most = round(_MAX_GAP_S * self._fps)
        if due > most:
            # The rest is left out: the frames that follow are not due for it.
            self._start_s += (due - most) / self._fps
        return max(0, min(due, most))

    def _check_space(self) -> None:
        """Find out about a full disk: FFmpeg drops what it cannot write, and OpenCV says nothing."""
        try:
            space = os.statvfs(self.path.parent)
        except OSError as error:
            self._release()
            raise output_error(self.path, error) from error
        if space.f_flag & os.ST_RDONLY:
            # What Linux does with a disk that gave errors.
            self._release()
            raise OutputError(f"{self.path}: the disk has become read-only; the video before it plays")
        # Some blocks of a disk are for root alone.
        if (space.f_bfree if os.geteuid() == 0 else space.f_bavail) == 0:
            self._release()
            raise self._full()

    def _failed(self, error: OSError) -> OutputError:
        return self._full() if error.errno in FULL else output_error(self.path, error)

    def _full(self) -> OutputError:
        with suppress(OSError):
            if self.path.stat().st_size == 0:
                self.path.unlink()
                return OutputError(f"{self.path}: the disk is full; there is no room for any of the video")
        return OutputError(f"{self.path}: the disk is full at about frame {self._written}; the video before it plays")

    def _release(self) -> None:
        _finish(self._writer, self._stream)

    def close(self) -> None:
        """Finish the file; harmless when repeated.

        Raises:
            OutputError: The disk is full, or gone.
        """
        if not self._writer.isOpened():
            return
        self._release()
        if self._stream is None:
            self._check_end()
        elif self._stream.error is not None:
            raise self._failed(self._stream.error) from self._stream.error
        # Without room for one index an MP4 keeps its many, and a Matroska file has none.
        with suppress(OSError):
            if self._container == ".ismv":
                finalize_mp4(self.path)
            elif self._stream is not None:
                finalize_matroska(self.path, 1000 / self._fps)

    def _check_end(self) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            # A quota does not show in the free space: try what FFmpeg may have failed to do.
            with self.path.open("r+b", buffering=0) as file:
                file.seek(size)
                file.write(bytes(4096))
        except OSError as error:
            raise self._failed(error) from error
        finally:
            with suppress(OSError):
                os.truncate(self.path, size)


def _finish(writer: Any, stream: _Stream | None) -> None:
    """Let go of a writer, and wait until the file has what it wrote; harmless when repeated."""
    writer.release()
    if stream is not None:
        stream.join()


def _stream(path: Path, container: str) -> _Stream | None:
    """Return a stream to a file, where the container can be streamed and there is a place for a pipe."""
    if container not in _STREAMED:
        return None
    try:
        return _Stream(path, container)
    except OSError:
        return None


class VideoSink:
    """One annotated video file. It opens with the first frame, whose size and rate it takes.

    A live source gives frames at an uneven rate, some of them dropped: frames are repeated so that the file runs as
    long as it took.
    """

    def __init__(self, path: Path, overlay: Overlay) -> None:
        """Prepare; the file is made by the first frame.

        Args:
            path: Its name, with a suffix of `VIDEO_FORMATS`.
            overlay: Draws the results.

        Raises:
            OutputError: The suffix is unknown, or the name is not valid UTF-8.
        """
        if path.suffix.lower() not in VIDEO_FORMATS:
            raise OutputError(f"{path}: expected a video name ending in {', '.join(VIDEO_FORMATS)}")
        if not opens(path):
            raise OutputError(f"{str(path)!a}: the name is not valid UTF-8, which OpenCV needs for a video")
        self._path = path
        self._overlay = overlay
        self._file: VideoFile | None = None
        self.outputs: list[Path] = []

    def write(self, result: Result) -> None:
        """Draw and encode one frame.

        Raises:
            OutputError: The video cannot be made, or the disk is full.
        """
        frame = result.frame
        image = self._overlay.draw(result)
        if self._file is None:
            fps = PICTURE_FPS if frame.still else frame.fps or DEFAULT_FPS
            self._file = VideoFile(self._path, frame.size_wh, fps)
            self.outputs = [self._path]
        self._file.add(image, frame.timestamp_s if frame.live else None)

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: The disk is full.
        """
        if self._file is not None:
            self._file.close()


def _fit(image: Image, size_wh: tuple[int, int]) -> Image:
    """Return a picture of the video's size: an odd side is extended by a pixel, anything else is scaled."""
    width, height = size_wh
    down, right = height - image.shape[0], width - image.shape[1]
    if down == right == 0:
        return image
    if down in (0, 1) and right in (0, 1):
        padded: Image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)
        return padded
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    bars = (top, height - inner[1] - top, left, width - inner[0] - left)
    boxed: Image = cv2.copyMakeBorder(scaled, *bars, cv2.BORDER_CONSTANT)
    return boxed
