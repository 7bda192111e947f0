"""COCO results: one JSON list of boxes, as pycocotools' `loadRes` reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge.coco import CATEGORY_IDS, canonical
from edge.result import Result
from edge.sinks.text import TextSinkBase


class CocoSink(TextSinkBase):
    """Results of all frames as one list, valid JSON on disk after every frame.

    `image_id` is the number that the file's name is (`000000000139.jpg` is 139), else a count of the frames
    from 1; `file_name`, which COCO does not ask for, tells which picture that was. `category_id` is as
    `category_ids` says.
    """

    def __init__(self, path: str, labels: Sequence[str]) -> None:
        """Create the file; see `TextSinkBase`."""
        super().__init__(path, labels, ending="\n]\n")
        self._ids = category_ids(labels)
        self._frames = 0
        self._separator = ""
        self._file.append("[")

    def write(self, result: Result) -> None:
        """Add the boxes of one frame; x, y, width, height in pixels of the frame."""
        self._frames += 1
        name = Path(result.frame.source).name
        stem = Path(name).stem
        numbered = result.frame.still and stem.isascii() and stem.isdigit()
        rows = [
            json.dumps(
                {
                    "image_id": int(stem) if numbered else self._frames,
                    "file_name": name,
                    "category_id": self._ids[class_id] if class_id < len(self._ids) else class_id + 1,
                    "bbox": [round(float(v), 5) for v in (x1, y1, x2 - x1, y2 - y1)],
                    "score": round(score, 5),
                },
                ensure_ascii=False,
            )
            for (x1, y1, x2, y2), score, class_id, _ in result.detections
        ]
        if rows:
            self._file.append(self._separator + "\n" + ",\n".join(rows))
            self._separator = ","


def category_ids(labels: Sequence[str]) -> list[int]:
    """Return the COCO category id of each class index.

    Where every label is a name that COCO has (in any spelling that Darknet, TensorFlow or Ultralytics use; `???`
    and empty labels aside), these are COCO's own ids 1..90; else class index + 1.
    """
    ids = [CATEGORY_IDS.get(canonical(label)) for label in labels]
    named = [known for label, known in zip(labels, ids, strict=True) if label.strip("? ")]
    if named and all(named):
        return [known or i + 1 for i, known in enumerate(ids)]
    return [i + 1 for i in range(len(labels))]
