"""Video clips whose objects were marked by hand (tests/golden/videos), and how much of them a model finds.

One JSON file a clip:

==================  ==================================================================================================
video               name of the clip in the test data's `video/`, which is not in this repository
frames, fps         how many frames it has, and its rate
size_wh             its width and height in pixels
measured_from       first frame of its second half; the first half may be trained on, so only the second is measured
marked              how the marks were made
whole               when an object counts as wholly visible
tracks              the objects: `name`, `label` (COCO's), `half` ("first" or "second"), `first` and `last` frame (from
                    0, both included) of the time in which the object is wholly visible, and `keyframes`, its box as
                    x1 y1 x2 y2 in pixels at some frames, the first and the last among them; linear between them
==================  ==================================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.coco import canonical
from edge.detector import Detector
from edge.geometry import iou_matrix
from edge.sources import open_source

FOLDER = Path(__file__).parent / "golden" / "videos"

MIN_IOU = 0.4
"""Overlap from which a detection is the marked object: the boxes are rough, the objects stand far apart."""

Found = Mapping[int, list[tuple[str, npt.NDArray[np.float32]]]]
"""Frame -> label and box (x1 y1 x2 y2 in pixels) of what was detected in it."""


@dataclass(frozen=True)
class Track:
    """One object, for as long as it is wholly visible."""

    name: str
    label: str
    half: str
    first: int
    last: int
    keyframes: Mapping[int, tuple[float, float, float, float]]

    def box(self, frame: int) -> npt.NDArray[np.float32]:
        """Return the box at a frame from `first` to `last`, float32 (4,)."""
        at = sorted(self.keyframes)
        sides = zip(*(self.keyframes[key] for key in at), strict=True)
        return np.array([np.interp(frame, at, side) for side in sides], np.float32)

    @property
    def frames(self) -> range:
        """The frames from `first` to `last`."""
        return range(self.first, self.last + 1)

    def is_at(self, frame: int, label: str, box: npt.NDArray[np.float32]) -> bool:
        """Whether a detection is this object: its label, and an IoU of `MIN_IOU` or more."""
        return canonical(label) == self.label and float(iou_matrix(self.box(frame)[None], box[None])[0, 0]) >= MIN_IOU

    def recall(self, found: Found) -> float:
        """Return the share of the track's frames in which it was found."""
        hits = sum(any(self.is_at(frame, *one) for one in found.get(frame, [])) for frame in self.frames)
        return hits / len(self.frames)


@dataclass(frozen=True)
class Clip:
    """A video and its tracks."""

    video: str
    frames: int
    fps: float
    size_wh: tuple[int, int]
    measured_from: int
    tracks: tuple[Track, ...]


def load(path: Path) -> Clip:
    """Read one file of marks."""
    said: dict[str, Any] = json.loads(path.read_text())
    tracks = tuple(
        Track(**(track | {"keyframes": {int(at): tuple(box) for at, box in track["keyframes"].items()}}))
        for track in said["tracks"]
    )
    return Clip(said["video"], said["frames"], said["fps"], tuple(said["size_wh"]), said["measured_from"], tracks)


def clips() -> list[Clip]:
    """Read all files of marks."""
    return [load(path) for path in sorted(FOLDER.glob("*.json"))]


def detect(detector: Detector, video: Path, frames: Iterable[int]) -> Found:
    """Run a detector, with whatever threshold it has, on some frames of a video."""
    wanted = set(frames)
    found = {}
    with open_source(str(video)) as source:
        for frame in source:
            if frame.index in wanted:
                detections, _ = detector.detect(frame.image)
                found[frame.index] = [(detector.spec.labels[class_id], box) for box, _, class_id, _ in detections]
    return found


def other_boxes(clip: Clip, found: Found) -> float:
    """Return how many boxes a frame are on no marked object of their label, in the frames that show one whole.

    A car that is half out of the picture is not marked: a box on it is counted.
    """
    frames = sorted({frame for track in clip.tracks for frame in track.frames})
    others = 0
    for frame in frames:
        there = [track for track in clip.tracks if frame in track.frames]
        others += sum(not any(track.is_at(frame, label, box) for track in there) for label, box in found.get(frame, []))
    return others / len(frames)
