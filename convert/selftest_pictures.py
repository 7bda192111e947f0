"""The pictures of a self-test: small, telling, and of another shape than the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.frame import Image
from edge.loader import LoadedModel
from edge.selftest import replay
from edge.sources.images import read_image

PICTURES = 3
PICTURE_SIDE = 96
"""Pixels of a picture's longer side: enough to find something in, few enough to carry."""

MAX_CANDIDATES = 16
LOW_CONF = 0.001
SEED = 2026


def choose_pictures(model: LoadedModel, files: Sequence[Path]) -> list[Image]:
    """Return the pictures of a self-test: the two files in which the model sees most, and drawn ones.

    They are wider and taller than the model's input in turn, so that a wrong way to fit them in shows.

    Raises:
        SourceError: A file cannot be read.
    """
    width, height = model.preprocessor.size_wh
    aspects = (width / height * 4 / 3, width / height * 3 / 4)
    spread = np.linspace(0, len(files) - 1, min(MAX_CANDIDATES, len(files))).round().astype(int)
    found = _most_telling(model, [read_image(files[number]) for number in spread], aspects, PICTURES - 1)
    drawn = [draw_picture(seed) for seed in range(MAX_CANDIDATES)]
    return found + _most_telling(model, drawn, aspects[len(found) % 2 :] + aspects, PICTURES - len(found))


def _most_telling(model: LoadedModel, pictures: list[Image], aspects: tuple[float, ...], wanted: int) -> list[Image]:
    """Return the pictures in which the model sees most, each cut to the next of the aspects."""
    worth = []
    for picture in pictures:
        score = replay(model, [_cut(picture, aspects[0])], LOW_CONF)[0].boxes[:, 4]
        # A classifier that is all but sure gives the same answer whatever happens to it.
        worth.append(float((score**2 if model.spec.task == "detect" else score * (1 - score)).sum()))
    best = np.argsort(-np.array(worth), kind="stable")[:wanted]
    return [_cut(pictures[number], aspect) for number, aspect in zip(best, aspects, strict=False)]


def draw_picture(seed: int) -> Image:
    """Draw shapes in many colours over a gradient; the same seed gives the same picture.

    Returns:
        uint8 (96, 96, 3) BGR.
    """
    side = PICTURE_SIDE
    random = np.random.default_rng((SEED, seed))
    corners = random.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    picture = cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR)
    for number in range(14):
        color = tuple(map(int, random.integers(0, 256, 3)))
        x, y = map(int, random.integers(0, side, 2))
        w, h = map(int, random.integers(side // 12, side // 4, 2))
        if number % 3 == 0:
            cv2.rectangle(picture, (x - w, y - h), (x + w, y + h), color, -1)
        elif number % 3 == 1:
            cv2.ellipse(picture, (x, y), (w, h), float(random.integers(0, 180)), 0, 360, color, -1)
        else:
            cv2.line(picture, (x - w, y - h), (x + w, y + h), color, 2)
    return np.asarray(picture, np.uint8)


def _size_wh(aspect: float) -> tuple[int, int]:
    shorter = max(8, round(PICTURE_SIDE / max(aspect, 1 / aspect)))
    return (PICTURE_SIDE, shorter) if aspect >= 1 else (shorter, PICTURE_SIDE)


def _cut(picture: Image, aspect: float) -> Image:
    """Return the middle of a picture, as wide for its height as asked, made small."""
    height, width = picture.shape[:2]
    w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
    x, y = (width - w) // 2, (height - h) // 2
    small = cv2.resize(picture[y : y + h, x : x + w], _size_wh(aspect), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
