"""Video files, and the reading loop that cameras and streams share with them."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from edge.cv import opens
from edge.errors import SourceError, SourceLostError
from edge.frame import Frame, Image
from edge.sources.base import SourceBase

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .dv .flv .gif .h264 .264 .h265 .265 .hevc .m2ts .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mts "
    ".mxf .ogv .ts .vob .webm .wmv .y4m".split()
)

_MAX_FPS = 480.0
"""Above it, a container's rate is its time base (1000, 90000) and not a frame rate."""

_PROBE_FRAMES = 8
"""Frames to read ahead where the container gives no usable rate."""

_WHOLE = 0.95
"""A file that gives less than this share of its announced frames, and of its announced time, ended early."""

_EXACT_KILOBITS = 20
"""A bit rate, which is a whole number of kbit/s, below this is too coarse to tell a duration by."""


class CaptureSource(SourceBase):
    """Frames from an open `cv2.VideoCapture`."""

    def __init__(self, name: str, capture: Any, live: bool) -> None:
        """Read the first frame, to know that there is one and how large it is.

        Args:
            name: What the user named, without credentials.
            capture: An open cv2.VideoCapture; this object owns it.
            live: Whether the source goes on without us.

        Raises:
            SourceError: It gives no frame.
        """
        self.name = name
        self.live = live
        self._capture = capture
        self._ahead: deque[tuple[Image, float]] = deque()
        first = self._grab()
        if first is None:
            self.close()
            raise SourceError(f"{name}: it opens, but gives no frame")
        self._ahead.append(first)
        self.size_wh = first[0].shape[1], first[0].shape[0]
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Containers without an index give nonsense such as -9e18, or an estimate.
        self.frame_count = int(count) if not live and 0 < count < 1e9 else None
        self.fps = self._rate()
        self._announced_s = math.inf

    def _rate(self) -> float | None:
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        if math.isfinite(fps) and 0.1 <= fps <= _MAX_FPS:
            return fps
        if self.live:
            return None
        while len(self._ahead) < _PROBE_FRAMES and (frame := self._grab()) is not None:
            self._ahead.append(frame)
        seconds = self._ahead[-1][1] - self._ahead[0][1]
        return (len(self._ahead) - 1) / seconds if seconds > 0 else None

    def _grab(self) -> tuple[Image, float] | None:
        """Return the next picture and its position in seconds, or None at the end."""
        ok, image = self._capture.read()
        return (image, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3) if ok else None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            SourceLostError: A live source stopped delivering.
        """
        index, last_s, start = 0, 0.0, None
        while (grabbed := self._ahead.popleft() if self._ahead else self._grab()) is not None:
            image, position_s = grabbed
            captured_s = time.monotonic()
            start = captured_s if start is None else start
            if self.live:
                position_s = captured_s - start
            elif not math.isfinite(position_s) or (index and position_s <= last_s):
                # Some containers keep no times.
                position_s = last_s + 1 / (self.fps or 25.0) if index else 0.0
            last_s = position_s
            yield Frame(image, index, self.name, position_s, captured_s, time.time(), self.fps, self.live)
            index += 1
        self.close()
        if self.live:
            raise SourceLostError(f"{self.name}: the source stopped delivering after {index} frames")
        self._check_whole(index, last_s)

    def _check_whole(self, frames: int, last_s: float) -> None:
        """Say so when a file gives less than it announces, in frames and in time."""
        if self.frame_count is None or self.fps is None or frames >= _WHOLE * self.frame_count:
            return
        # A count is an estimate in some containers, a rate may vary, and an edit list may hide a part of the frames.
        announced_s = min(self.frame_count / self.fps, self._announced_s)
        if last_s + 1 / self.fps < _WHOLE * announced_s:
            log.warning(
                "%s: ended early: it announces %d frames and gives %d; is the file cut short?",
                self.name,
                self.frame_count,
                frames,
            )

    def close(self) -> None:
        """Release the capture."""
        self._capture.release()


class VideoSource(CaptureSource):
    """A video file. Rotation that the container asks for is applied by OpenCV."""

    def __init__(self, path: str) -> None:
        """Open the file and read its first frame.

        Raises:
            SourceError: It is missing, empty, damaged, no video, or holds no frame.
        """
        try:
            size = Path(path).stat().st_size
            with open(path, "rb"):
                pass
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
        if size == 0:
            raise SourceError(f"{path}: expected a video, found an empty file")
        if not opens(path):
            raise SourceError(f"{path!a}: the name is not valid UTF-8, which OpenCV needs for a video; rename it")
        # FFmpeg takes what precedes a colon in a relative name for a protocol.
        absolute = os.path.abspath(path)
        capture = cv2.VideoCapture(absolute, cv2.CAP_FFMPEG)
        if not capture.isOpened():
            # A system OpenCV may read it through GStreamer.
            capture = cv2.VideoCapture(absolute)
        if not capture.isOpened():
            what = "a video that is cut short or damaged" if looks_like_video(Path(path)) else "no video"
            raise SourceError(f"{path}: OpenCV cannot open it: {what} ({size} bytes)")
        super().__init__(path, capture, live=False)
        self.paths = (Path(path),)
        # OpenCV does not tell the duration, but FFmpeg makes the bit rate from it and the size.
        kilobits_s = float(capture.get(cv2.CAP_PROP_BITRATE))
        if math.isfinite(kilobits_s) and kilobits_s >= _EXACT_KILOBITS:
            self._announced_s = size * 8e-3 / kilobits_s


def looks_like_video(path: Path) -> bool:
    """Whether a file's first bytes are those of a common video container.

    FFmpeg opens text files and archives too, and "plays" them.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")  # MP4, QuickTime
        or head.startswith(
            (
                b"\x1a\x45\xdf\xa3",  # Matroska, WebM
                b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
                b"\x00\x00\x01\xba",  # MPEG program stream
                b"\x00\x00\x01\xb3",  # MPEG video
                b"\x00\x00\x00\x01",  # H.264, H.265 byte stream
                b"OggS",
                b"FLV\x01",
                b"GIF8",
                b"YUV4MPEG2",
            )
        )
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or (len(head) > 188 and head[0] == head[188] == 0x47)  # MPEG transport stream
    )
