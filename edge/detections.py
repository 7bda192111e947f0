"""Detections: what was found in one frame, in columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The boxes of one frame, columnar; row i of each column is one box, best score first.

    Attributes:
        xyxy: float32 (n, 4), x1 y1 x2 y2 in source-frame pixels.
        score: float32 (n,), 0..1.
        class_id: int32 (n,), index into the model's labels.
        track_id: int32 (n,), or None where no tracker ran.

    Raises:
        ValueError: A column's shape does not fit the others.
    """

    xyxy: Float32
    score: Float32
    class_id: Int32
    track_id: Int32 | None = field(default=None)

    def __post_init__(self) -> None:
        """Check that the columns agree."""
        n = len(self.score)
        if self.xyxy.shape != (n, 4):
            raise ValueError(f"Detections.xyxy: expected shape ({n}, 4), got {self.xyxy.shape}")
        for name, column in (("score", self.score), ("class_id", self.class_id), ("track_id", self.track_id)):
            if column is not None and column.shape != (n,):
                raise ValueError(f"Detections.{name}: expected shape ({n},), got {column.shape}")

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))

    def __len__(self) -> int:
        """Count the boxes."""
        return len(self.score)

    def __iter__(self) -> Iterator[tuple[Float32, float, int, int | None]]:
        """Yield (xyxy, score, class_id, track_id) of each box."""
        for i in range(len(self)):
            track = None if self.track_id is None else int(self.track_id[i])
            yield self.xyxy[i], float(self.score[i]), int(self.class_id[i]), track

    def __getitem__(self, index: Any) -> Detections:
        """Select boxes by mask, index array or slice."""
        track = None if self.track_id is None else np.atleast_1d(self.track_id[index])
        return Detections(
            np.atleast_2d(self.xyxy[index]),
            np.atleast_1d(self.score[index]),
            np.atleast_1d(self.class_id[index]),
            track,
        )
