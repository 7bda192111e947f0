"""A tiny synthetic data set: coloured rectangles on grey, one colour per class."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = 64
COLOURS = ((220, 30, 30), (30, 60, 220))  # RGB of "red" and "blue"


def draw_rectangles(rng, width, height):
    """Return a BGR image and its (class, x, y, w, h) rows, with at most one rectangle in each half."""
    image = np.full((height, width, 3), 128, np.uint8)
    rows = []
    for half in range(2):
        w, h = (int(value) for value in rng.integers(14, width // 2 - 4, 2))
        x = int(rng.integers(0, width // 2 - w)) + half * (width // 2)
        y = int(rng.integers(0, height - h))
        label = int(rng.integers(2))
        image[y : y + h, x : x + w] = COLOURS[label][::-1]
        rows.append((label, x, y, w, h))
    return image, rows


def write_dataset(root: Path, images: int = 16) -> Path:
    """Write train and valid splits of 64 x 48 images in COCO form."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "valid"):
        (root / split).mkdir()
        records, annotations = [], []
        for index in range(images):
            image, rows = draw_rectangles(rng, 64, 48)
            name = f"{split}/{index}.png"
            cv2.imwrite(str(root / name), image)
            records.append({"id": index, "file_name": name, "width": 64, "height": 48})
            for label, x, y, w, h in rows:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": (3, 7)[label],
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
        content = {
            "images": records,
            "annotations": annotations,
            "categories": [{"id": 7, "name": "blue"}, {"id": 3, "name": "red"}],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
