"""SourceOptions: what a user may ask of a source beside its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from edge.errors import InputError

Flip = Literal["horizontal", "vertical", "both"]
Rotate = Literal[0, 90, 180, 270]
Transport = Literal["tcp", "udp"]
Reduce = Literal[1, 2, 4, 8]

_ALIASES = {"MJPEG": "MJPG", "JPEG": "MJPG", "YUY2": "YUYV", "YUYV422": "YUYV"}
"""Names of pixel formats that people and other tools use -> the four letters of Video4Linux."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read a source.

    Attributes:
        size_wh: Width and height in pixels to ask a USB or CSI camera for; None takes what it gives.
        fps: Frames per second to ask a USB or CSI camera for.
        format: Pixel format to ask a USB camera for, in four letters: "MJPG", "YUYV".
        flip: Mirrors the picture, after it was turned: left to right, upside down, or both.
        rotate: Degrees clockwise by which the picture is turned.
        every: Only every so-manieth frame is given: the first, the one `every` frames later, and so on.
        max_fps: At most so many frames a second are given, on average; None for all. Of a file it is the media's own
            time that counts.
        open_timeout_s: How long a stream may take to answer.
        read_timeout_s: How long the next frame of a stream may take.
        transport: Of RTSP.
        reduce: Width and height of frames are divided by it. JPEG is decoded so, which is faster.
    """

    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None
    flip: Flip | None = None
    rotate: Rotate = 0
    every: int = 1
    max_fps: float | None = None
    open_timeout_s: float = 3.0
    read_timeout_s: float = 2.0
    transport: Transport = "tcp"
    reduce: Reduce = 1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: One is out of range.
        """
        for name, kinds in (("flip", Flip), ("rotate", Rotate), ("transport", Transport), ("reduce", Reduce)):
            value = getattr(self, name)
            if value not in get_args(kinds) and not (name == "flip" and value is None):
                known = ", ".join(map(str, get_args(kinds)))
                raise InputError(f"{name} {value!r}: expected one of {known}")
        for name in ("fps", "max_fps", "open_timeout_s", "read_timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e6:
                raise InputError(f"{name} {value:g}: expected a number above 0")
        if self.every < 1:
            raise InputError(f"every {self.every}: expected 1 or more")
        if self.size_wh is not None and min(self.size_wh) < 1:
            raise InputError(f"size {self.size_wh[0]}x{self.size_wh[1]}: expected width x height in pixels")
        if self.format is not None:
            letters = self.format.upper()
            letters = _ALIASES.get(letters, letters)
            if not re.fullmatch(r"[A-Z0-9 ]{4}", letters):
                raise InputError(f"format {self.format!r}: expected the four letters of a pixel format, like MJPG")
            object.__setattr__(self, "format", letters)


DEFAULTS = SourceOptions()
