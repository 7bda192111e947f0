"""Frame: one picture and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""uint8 (H, W, 3), BGR, as OpenCV reads it."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a source.

    Attributes:
        image: uint8 (H, W, 3), BGR.
        index: Position in its source, from 0; frames that were dropped are counted.
        source: The source as the user named it, without credentials; the file itself for a folder or glob.
        timestamp_s: Position on the media's own clock in seconds (0 for a picture); for a live source the
            seconds since its first frame.
        captured_s: `time.monotonic()` when the frame was taken, as far as the source tells (a driver's own time, the
            beginning of its arrival over the network), else when it was read.
        wall_s: The same in seconds since the epoch.
        fps: Nominal rate of the source in frames per second; None for a picture and where the source does not say.
        live: Whether the source is a camera or a stream, which does not wait for a slow reader.
        still: Whether the frame is a picture file of its own.
    """

    image: Image
    index: int
    source: str
    timestamp_s: float
    captured_s: float
    wall_s: float
    fps: float | None = None
    live: bool = False
    still: bool = False

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]
