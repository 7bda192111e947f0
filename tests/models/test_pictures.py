"""The pictures of a run: that they are drawn from what they are given, and are whole on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models.training.pictures import draw_comparison, draw_confusion, draw_curves, draw_samples

GREEN, ORANGE = (0x2D, 0xA4, 0x4E), (0xFB, 0x8F, 0x44)
BLUE = (0x09, 0x69, 0xDA)


def rows(epochs: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "phase": "a" if e < 3 else "b",
            "loss": 2.0 / e**2,
            "val_loss": 2.1 / e,
            "accuracy": 1 - 0.5 / e,
            "val_accuracy": 1 - 0.6 / e,
            "learning_rate": 1e-3 / e,
            "minutes": e / 2,
            **more,
        }
        for e in range(1, epochs + 1)
    ]


def pixels(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image[..., ::-1]


def count(image: np.ndarray, rgb: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - rgb).max(axis=2) < 12).sum())


@pytest.mark.parametrize("epochs", [1, 2, 12])
def test_curves(tmp_path: Path, epochs: int) -> None:
    draw_curves(rows(epochs), tmp_path / "curves.png")
    image = pixels(tmp_path / "curves.png")
    assert image.shape[1] > 1000 and count(image, BLUE) > 60
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_curves_of_a_localiser_have_one_panel_more(tmp_path: Path) -> None:
    draw_curves(rows(5), tmp_path / "a.png")
    draw_curves(rows(5, val_iou=0.7), tmp_path / "b.png")
    assert pixels(tmp_path / "b.png").shape[1] == pixels(tmp_path / "a.png").shape[1] * 3 // 2


def test_a_new_phase_is_marked(tmp_path: Path) -> None:
    draw_curves(rows(5), tmp_path / "two.png")
    draw_curves(rows(5, phase="a"), tmp_path / "one.png")
    # A dashed line from top to bottom in each panel.
    two, one = (np.sort((pixels(tmp_path / f"{n}.png") < 200).all(axis=2)[30:340].sum(axis=0)) for n in ("two", "one"))
    assert two[-1] > 100 and one[-1] < 100


def test_comparison(tmp_path: Path) -> None:
    unfinished = [{"epoch": 1, "phase": "a", "loss": 3.0}]
    draw_comparison({"one": rows(8), "two": rows(3), "none yet": unfinished}, tmp_path / "c.png")
    image = pixels(tmp_path / "c.png")
    assert count(image, BLUE) > 200 and count(image, (0xE1, 0x6F, 0x24)) > 100


def test_confusion_shows_mistakes(tmp_path: Path) -> None:
    names = ("cat", "dog", "a long name")
    perfect = np.diag([10, 20, 0])
    wrong = perfect.copy()
    wrong[0, 2] = 10
    draw_confusion(perfect, names, tmp_path / "perfect.png")
    draw_confusion(wrong, names, tmp_path / "wrong.png")
    a, b = pixels(tmp_path / "perfect.png"), pixels(tmp_path / "wrong.png")
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max(axis=2).astype(bool).sum() > 2000  # a cell and the share that is right


def test_confusion_of_many_classes(tmp_path: Path) -> None:
    draw_confusion(np.eye(60, dtype=np.int64), [f"class {i}" for i in range(60)], tmp_path / "c.png")
    image = pixels(tmp_path / "c.png")
    assert max(image.shape) < 1100 and count(image, (8, 48, 107)) > 60 * 50


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 7])
def test_samples(tmp_path: Path, n: int, channels: int) -> None:
    images = np.full((n, 20, 30, channels), 200, np.uint8)
    images[..., 0] = 50
    color = (50,) * 3 if channels == 1 else (50, 200, 200)
    draw_samples(images, ["cat"] * n, tmp_path / "s.png")
    image = pixels(tmp_path / "s.png")
    assert count(image, color) > n * 20_000  # each about 200 x 130 pixels large
    assert count(image, ORANGE) == count(image, GREEN) == 0
    boxes = np.tile(np.array([3, 3, 20, 15], np.float32), (n, 1))
    draw_samples(images, ["a title that is far too long for one"] * n, tmp_path / "b.png", boxes, boxes + 4)
    image = pixels(tmp_path / "b.png")
    assert count(image, ORANGE) > n * 300 and count(image, GREEN) > n * 300


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.png").mkdir()
    with pytest.raises(OSError, match="s.png"):
        draw_samples(np.zeros((1, 4, 4, 3), np.uint8), ["x"], tmp_path / "s.png")
    assert [p.name for p in tmp_path.iterdir()] == ["s.png"]
