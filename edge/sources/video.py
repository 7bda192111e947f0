"""Video files, and the reading loop that cameras and streams share with them."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from edge.cv import opens
from edge.errors import SourceError, SourceLostError
from edge.frame import Frame, Image
from edge.sources.adjust import Thinning, thinned_count, thinned_fps, turned
from edge.sources.base import SourceBase
from edge.sources.options import DEFAULTS, SourceOptions
from edge.sources.reduce import decoded, gives_jpeg, shrunk

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

_MOST_DAMAGED = 30
"""Frames in a row of a live source that may be damaged: USB cameras send a few at their start."""


class _Grabbed(NamedTuple):
    """A frame that the capture holds or that was read ahead.

    Attributes:
        position_s: Where the capture says that it is.
        captured_s: `time.monotonic()` of its arrival.
        image: None while the capture still holds it.
    """

    position_s: float
    captured_s: float
    image: Image | None


class CaptureSource(SourceBase):
    """Frames from an open `cv2.VideoCapture`.

    Attributes:
        captured: Frames that were taken from it so far, those that were left out included.
    """

    captured = 0

    def __init__(self, name: str, capture: Any, live: bool, options: SourceOptions = DEFAULTS) -> None:
        """Read the first frame, to know that there is one and how large it is.

        Args:
            name: What the user named, without credentials.
            capture: An open cv2.VideoCapture; this object owns it.
            live: Whether the source goes on without us.
            options: Which frames to give, how small, and how to turn them.

        Raises:
            SourceError: It gives no frame.
        """
        self.name = name
        self.live = live
        self._options = options
        self._use(capture)
        self._ahead: deque[_Grabbed] = deque()
        if not self._read_ahead():
            self.close()
            raise SourceError(f"{name}: it opens, but gives no frame")
        first = turned(self._ahead[0].image, options)  # type: ignore[arg-type]
        self.size_wh = first.shape[1], first.shape[0]
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Containers without an index give nonsense such as -9e18, or an estimate.
        self._announced = int(count) if not live and 0 < count < 1e9 else None
        self._announced_s = math.inf
        self._media_fps = self._rate()
        self.frame_count = thinned_count(self._announced, self._media_fps, options)
        self.fps = thinned_fps(self._media_fps, options)

    def _use(self, capture: Any) -> None:
        """Read from this capture, which has given no frame yet."""
        self._capture = capture
        self._jpeg = gives_jpeg(capture, self._options.reduce)

    def _rate(self) -> float | None:
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        if math.isfinite(fps) and 0.1 <= fps <= _MAX_FPS:
            return fps
        if self.live:
            return None
        while len(self._ahead) < _PROBE_FRAMES and self._read_ahead():
            pass
        seconds = self._ahead[-1].position_s - self._ahead[0].position_s
        return (len(self._ahead) - 1) / seconds if seconds > 0 else None

    def _read_ahead(self) -> bool:
        """Keep the next frame for the iterator; False where there is none."""
        for _ in range(_MOST_DAMAGED if self.live else 1):
            position_s = self._grab()
            if position_s is None:
                return False
            captured_s = self._captured_s(position_s)
            image = self._retrieve()
            if image is not None:
                self._ahead.append(_Grabbed(position_s, captured_s, image))
                return True
        return False

    def _grab(self) -> float | None:
        """Let the capture take its next frame; returns its position in seconds, or None at the end."""
        self.beat()
        grabbed = self._capture.grab()
        self.beat()
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3 if grabbed else None

    def _retrieve(self) -> Image | None:
        """Return the picture of the frame that was taken, decoded and converted; None where it is damaged."""
        ok, image = self._capture.retrieve()
        self.beat()
        if not ok:
            return None
        reduce = self._options.reduce
        return decoded(image, reduce) if self._jpeg else shrunk(image, reduce)

    def _captured_s(self, position_s: float) -> float:
        """Return `time.monotonic()` of the capture of a frame that has just arrived."""
        return time.monotonic()

    def _next(self) -> _Grabbed | None:
        if self._ahead:
            return self._ahead.popleft()
        position_s = self._grab()
        return None if position_s is None else _Grabbed(position_s, self._captured_s(position_s), None)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            SourceLostError: A live source stopped delivering.
        """
        thinning = Thinning(self._options)
        index, last_s, start, damaged, told = 0, 0.0, None, 0, False
        while (grabbed := self._next()) is not None:
            if self._interrupted:
                return
            position_s, captured_s, image = grabbed
            start = captured_s if start is None else start
            if self.live:
                position_s = captured_s - start
            elif not math.isfinite(position_s) or (index and position_s <= last_s):
                # Some containers keep no times.
                position_s = last_s + 1 / (self._media_fps or 25.0) if index else 0.0
            last_s = position_s
            index += 1
            self.captured = index
            if not thinning.keeps(index - 1, position_s):
                # It is never converted.
                self.skipped_frames += 1
                continue
            image = self._retrieve() if image is None else image
            if image is None:
                damaged += 1
                if self.live and not told:
                    told = True
                    log.warning("%s: a damaged frame is left out; further ones will be, without a word", self.name)
                if not self.live or damaged >= _MOST_DAMAGED:
                    break
                continue
            damaged = 0
            wall_s = time.time() - (time.monotonic() - captured_s)
            image = turned(image, self._options)
            yield Frame(image, index - 1, self.name, position_s, captured_s, wall_s, self.fps, self.live)
        self.close()
        if self.live:
            raise SourceLostError(f"{self.name}: the source stopped delivering after {index} frames")
        self._check_whole(index, last_s)

    def _check_whole(self, frames: int, last_s: float) -> None:
        """Say so when a file gives less than it announces, in frames and in time."""
        announced, fps = self._announced, self._media_fps
        if announced is None or fps is None or frames >= _WHOLE * announced:
            return
        # A count is an estimate in some containers, a rate may vary, and an edit list may hide a part of the frames.
        announced_s = min(announced / fps, self._announced_s)
        if last_s + 1 / fps < _WHOLE * announced_s:
            log.warning(
                "%s: ended early: it announces %d frames and gives %d; is the file cut short?",
                self.name,
                announced,
                frames,
            )

    def close(self) -> None:
        """Release the capture."""
        self._capture.release()


class VideoSource(CaptureSource):
    """A video file. Rotation that the container asks for is applied by OpenCV."""

    def __init__(self, path: str, options: SourceOptions = DEFAULTS) -> None:
        """Open the file and read its first frame.

        Args:
            path: The file.
            options: Which frames to give, and how to turn them.

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
        super().__init__(path, capture, False, options)
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
