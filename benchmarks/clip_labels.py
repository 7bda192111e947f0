"""Labels the first halves of clips of a still camera by what moves: ``python benchmarks/clip_labels.py OUT CLIP...``.

A CLIP is ``FILE:LABEL:STEP:EMPTY``: the video, the class of whatever moves in it, which frames are taken (every
STEP-th), and how many frames at its beginning show the empty scene (0: the median of the first half is the empty scene,
and only what is brighter than it counts, since shadows are dark). OUT becomes a COCO set with a split train. This made
the clips that the bundled detector learned from (docs/model-card.md):

    car-detection.mp4:car:1:0 one-by-one-person-detection.mp4:person:3:45

Look the result over with ``edge train detector --data OUT --check``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

CHANGE = 30
"""Grey levels from which a pixel belongs to what moves."""
LEAST_AREA = 1500
"""Square pixels of a component."""
WIDTH = 416
EMPTY_EVERY = 12
"""Of the frames that show nothing one in so many is kept."""

Boxes = list[list[int]]


def first_half(file: Path) -> list[NDArray[np.uint8]]:
    """Return the frames of the first half of a video."""
    capture = cv2.VideoCapture(str(file))
    frames = []
    for _ in range(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // 2):
        _, frame = capture.read()
        frames.append(frame)
    return frames


def moving(frames: list[NDArray[np.uint8]], step: int, empty: int) -> Iterator[tuple[int, Boxes]]:
    """Give the index of every `step`-th frame and the boxes (x, y, width, height) of what differs from the scene."""
    still = frames[:empty] if empty else frames[:: max(1, len(frames) // 90)]
    scene = np.median(np.stack(still), axis=0).astype(np.float32)
    gap = np.ones((25, 15) if empty else (21, 21), np.uint8)
    for index in range(0, len(frames), step):
        frame = frames[index].astype(np.float32)
        # The camera's exposure follows the scene.
        gain = np.median((frame.mean(axis=2) + 1) / (scene.mean(axis=2) + 1))
        change = frame / gain - scene
        change = np.abs(change).max(axis=2) if empty else change.max(axis=2)
        mask = cv2.morphologyEx((change > CHANGE).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, gap)
        stats = cv2.connectedComponentsWithStats(mask)[2][1:]
        yield index, [row[:4].tolist() for row in stats if row[4] > LEAST_AREA]


def main(out: Path, clips: list[str]) -> None:
    """Write the set."""
    (out / "train").mkdir(parents=True, exist_ok=True)
    (out / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    labels = sorted({clip.rsplit(":", 3)[1] for clip in clips})
    for clip in clips:
        file, label, step, empty = clip.rsplit(":", 3)
        frames, blank = first_half(Path(file)), 0
        scale = WIDTH / frames[0].shape[1]
        size = (WIDTH, round(frames[0].shape[0] * scale))
        for index, boxes in moving(frames, int(step), int(empty)):
            blank += not boxes
            if not boxes and blank % EMPTY_EVERY:
                continue
            name = f"train/{Path(file).stem}-{index:05d}.jpg"
            small = cv2.resize(frames[index], size, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(out / name), small, [cv2.IMWRITE_JPEG_QUALITY, 95])
            images.append({"id": len(images) + 1, "file_name": name, "width": size[0], "height": size[1]})
            for box in boxes:
                x, y, w, h = (side * scale for side in box)
                row = {"id": len(annotations) + 1, "image_id": len(images), "category_id": labels.index(label) + 1}
                annotations.append({**row, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
    categories = [{"id": i + 1, "name": label} for i, label in enumerate(labels)]
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    (out / "annotations" / "instances_train.json").write_text(json.dumps(dataset))
    print(f"{len(images)} frames, {len(annotations)} boxes in {out}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
