"""Result: what the pipeline knows about one frame after inference."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.detections import Detections
from edge.frame import Frame


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """The best classes of one picture, best first.

    Attributes:
        class_id: Indices into the model's labels.
        score: Probabilities 0..1, one per class_id.
        box_xyxy: Where the object is, x1 y1 x2 y2 in pixels of the source picture and clipped to it, when the model
            is a localiser; None otherwise, and where its box is no box in the picture.
    """

    class_id: tuple[int, ...]
    score: tuple[float, ...]
    box_xyxy: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A frame and what was found in it.

    Attributes:
        frame: The frame.
        detections: Its boxes in frame pixels (empty for a classifier).
        stage_ms: Milliseconds spent in each stage so far, in order ("capture", "preprocess", "invoke", ...).
        dropped: Frames of this source that were skipped since the previous result.
        classification: The best classes, when the model is a classifier.
        fallback: Whether the CPU computed it because the accelerator that was asked for failed.
    """

    frame: Frame
    detections: Detections
    stage_ms: dict[str, float]
    dropped: int = 0
    classification: Classification | None = field(default=None)
    fallback: bool = False
