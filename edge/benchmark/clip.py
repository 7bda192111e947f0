"""A moving picture to measure on where the user gives none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.errors import OutputError

SIZE_WH = (640, 480)
FPS = 30.0
FRAMES = 120
_SHAPES = 8


def write_clip(folder: Path, frames: int = FRAMES, size_wh: tuple[int, int] = SIZE_WH) -> Path:
    """Write a video of shapes that move over a textured ground, the same one each time.

    Args:
        folder: Where to.
        frames: How many.
        size_wh: Width and height in pixels.

    Returns:
        The file: MPEG-4, or motion JPEG where OpenCV cannot write that.

    Raises:
        OutputError: It cannot be written.
    """
    width, height = size_wh
    random = np.random.default_rng(7)
    # Noise that was blurred compresses as a real picture does; plain areas would decode in no time.
    ground = cv2.GaussianBlur(random.integers(0, 255, (height, width, 3), np.uint8), (0, 0), 3)
    ground = cv2.normalize(ground, None, 30, 200, cv2.NORM_MINMAX)
    start = random.uniform(0, 1, (_SHAPES, 2)) * size_wh
    speed = random.uniform(-6, 6, (_SHAPES, 2))
    sizes = random.uniform(0.05, 0.2, _SHAPES) * height
    colors = random.integers(0, 255, (_SHAPES, 3)).tolist()
    for name, codec in (("clip.mp4", "mp4v"), ("clip.avi", "MJPG")):
        path = folder / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, size_wh)
        if not writer.isOpened():
            continue
        for number in range(frames):
            image = np.roll(ground, number * 2, axis=1)
            for place, step, size, color in zip(start, speed, sizes, colors, strict=True):
                x, y = (int(v) for v in (place + step * number) % size_wh)
                cv2.rectangle(image, (x, y), (x + int(size), y + int(size * 1.6)), color, -1)
                cv2.circle(image, (x + int(size / 2), y), int(size / 3), color[::-1], -1)
            writer.write(image)
        writer.release()
        if path.is_file() and path.stat().st_size:
            return path
    raise OutputError(f"{folder}: no clip to measure on can be written there; give one with --source")
