"""What the options do to any source: frames that are left out, pictures that are turned."""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge.frame import Image
from edge.sources.options import SourceOptions

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS = {"horizontal": 1, "vertical": 0, "both": -1}

_EARLY = 0.4
_MOST_EARLY_S = 0.02
"""A frame may come earlier than it is due by this share of the interval, and by so many seconds: no camera is punctual,
and one of 30 frames a second is not to lose any to a limit of 30."""


class Thinning:
    """Decides which frames of a source are given."""

    def __init__(self, options: SourceOptions) -> None:
        """Begin with a source that has given nothing yet."""
        self._every = options.every
        self._max_fps = options.max_fps
        self._due_s: float | None = None

    def keeps(self, index: int, time_s: float) -> bool:
        """Whether to give a frame; asked for each one, in order.

        Args:
            index: Of the frame in its source, from 0.
            time_s: Seconds since the first frame, on the clock that counts.
        """
        if index % self._every:
            return False
        if self._max_fps is None:
            return True
        interval_s = 1 / self._max_fps
        if self._due_s is None:
            self._due_s = time_s
        if time_s + min(_EARLY * interval_s, _MOST_EARLY_S) < self._due_s:
            return False
        # From when it was due, and not from when it came: 30 frames a second become 20 and not 15. But what was missed
        # in a pause is not made up for.
        self._due_s = max(self._due_s + interval_s, time_s + interval_s / 2)
        return True


def thinned_fps(fps: float | None, options: SourceOptions) -> float | None:
    """Return the rate that is left of a source's own."""
    if fps is not None:
        fps /= options.every
        if options.max_fps is not None:
            fps = min(fps, options.max_fps)
    return fps


def thinned_count(count: int | None, fps: float | None, options: SourceOptions) -> int | None:
    """Return about how many frames are left of `count`, of a source that had `fps`."""
    if count is None:
        return None
    left = -(-count // options.every)
    if fps is not None and options.max_fps is not None and options.max_fps < fps / options.every:
        left = max(1, min(left, math.ceil(count / fps * options.max_fps)))
    return left


def turned(image: Image, options: SourceOptions) -> Image:
    """Return a picture turned and then mirrored as the options say; the same one where they say nothing."""
    if options.rotate:
        image = np.asarray(cv2.rotate(image, _ROTATIONS[options.rotate]), np.uint8)
    if options.flip is not None:
        image = np.asarray(cv2.flip(image, _FLIPS[options.flip]), np.uint8)
    return image
