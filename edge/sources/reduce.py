"""Frames at a half, a quarter or an eighth of their size: JPEG is decoded so, everything else is shrunk.

A JPEG decoder that is to give a picture of half the size computes a quarter of it; nothing else that cameras send can
be decoded in part.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Image
from edge.sources.options import Reduce

FLAGS: dict[int, int] = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Factor -> OpenCV's flag to read a picture with."""

_MOTION_JPEG = (b"MJPG", b"JPEG")


def is_jpeg(capture: Any) -> bool:
    """Whether an open cv2.VideoCapture reads Motion JPEG."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    return code.to_bytes(4, "little").upper() in _MOTION_JPEG


def gives_jpeg(capture: Any, reduce: Reduce) -> bool:
    """Have a capture of Motion JPEG give its frames as they come, for `decoded`; False where it is none, or cannot.

    Args:
        capture: An open cv2.VideoCapture that has given no frame yet.
        reduce: What its frames are divided by; 1 leaves everything as it is.
    """
    if reduce == 1 or not is_jpeg(capture):
        return False
    backend = capture.getBackendName()
    if backend == "FFMPEG":
        return bool(capture.set(cv2.CAP_PROP_FORMAT, -1))
    return backend == "V4L2" and bool(capture.set(cv2.CAP_PROP_CONVERT_RGB, 0))


def decoded(jpeg: npt.NDArray[np.uint8], reduce: Reduce) -> Image | None:
    """Return the picture of a frame of Motion JPEG, at the reduced size; None where it is damaged."""
    try:
        image: Image | None = cv2.imdecode(jpeg.reshape(-1), FLAGS[reduce])
    except cv2.error:
        # Nothing in it, or a header that claims more pixels than OpenCV allows.
        return None
    return image


def shrunk(image: Image, reduce: Reduce) -> Image:
    """Return a decoded picture at the size that a JPEG decoder would give it."""
    if reduce == 1:
        return image
    height, width = image.shape[:2]
    size_wh = -(-width // reduce), -(-height // reduce)
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
