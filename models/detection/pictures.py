"""Pictures of a detector's training run: curves, augmented samples, and what it finds in validation pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from models.detection.data import Part, Pool, take
from models.detection.deployed import Deployed
from models.detection.evaluate import detect
from models.detection.sheet import COLUMNS, class_colors, class_legend, draw_box, picture_grid
from models.training.pictures import (
    FOUND,
    INK,
    TRUTH,
    Metrics,
    draw_line,
    draw_rates,
    epoch_axes,
    mark_best,
    new_figure,
    save_figure,
)

_SHOWN = 24
_CONFIDENCE = 0.3
_BLUE, _ORANGE = class_colors(2)


def draw_detector_curves(metrics: Metrics, path: Path) -> None:
    """Draw both losses, the validation's average precision, and the learning rate, by epoch.

    Args:
        metrics: At least one epoch: "class_loss", "box_loss", "learning_rate", and where validated "val_ap50" and
            "val_ap".
        path: PNG to write.
    """
    figure = new_figure(2)
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1))
    axes = figure.add_subplot(grid[0, 0])
    epoch_axes(axes, metrics, "loss")
    draw_line(axes, metrics, "class_loss", color=_BLUE, label="classes")
    draw_line(axes, metrics, "box_loss", color=_ORANGE, label="boxes")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    axes = figure.add_subplot(grid[0, 1])
    epoch_axes(axes, metrics, "validation: average precision")
    draw_line(axes, metrics, "val_ap50", color=_ORANGE, label="AP50")
    draw_line(axes, metrics, "val_ap", color=_BLUE, label="AP50-95")
    if any("val_ap" in row for row in metrics):
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
        mark_best(axes, metrics, "val_ap", percent=False)
    draw_rates(figure.add_subplot(grid[1, :]), metrics)
    save_figure(figure, path)


def draw_augmented(images: NDArray[np.uint8], rows: NDArray[np.float32], labels: Sequence[str], path: Path) -> None:
    """Draw a batch as the network sees it, one colour a class; regions that are left open are hatched.

    Args:
        images: uint8 (n, S, S, 3) RGB.
        rows: (n, M, 5) truth rows, padded.
        labels: Class names.
        path: PNG to write.
    """
    colors = class_colors(len(labels))
    figure, places = _grid(len(images))
    for axes, image, truth in zip(places, images, rows, strict=False):
        axes.imshow(image)
        for kind, x1, y1, x2, y2 in truth.tolist():
            if kind >= 0:
                draw_box(axes, (x1, y1, x2, y2), colors[int(kind)])
            elif kind <= -2 and min(x2 - x1, y2 - y1) < 0.9 * image.shape[0]:
                draw_box(axes, (x1, y1, x2, y2), colors[int(-2 - kind)], crowd=True)
    if len(labels) <= 2 * COLUMNS:
        class_legend(figure, dict(zip(labels, colors, strict=True)))
    save_figure(figure, path)


def draw_predictions(network: Deployed, pool: Pool, path: Path) -> None:
    """Draw validation pictures with true boxes and those found with a score of 0.3 or more, the same ones every time.

    Args:
        network: The detector.
        pool: The validation pictures.
        path: PNG to write.
    """
    shown = [
        (part, int(i))
        for part in pool.parts
        for i in np.linspace(0, len(part) - 1, min(len(part), max(1, _SHOWN // len(pool.parts)))).astype(int)
    ]
    figure, places = _grid(len(shown))
    for axes, (part, i) in zip(places, shown, strict=False):
        x1, y1, x2, y2 = part.content_xyxy[i]
        axes.imshow(part.images[i, y1:y2, x1:x2], extent=(x1 - 0.5, x2 - 0.5, y2 - 0.5, y1 - 0.5))
        for kind, *box in part.rows[i].tolist():
            if kind >= 0:
                draw_box(axes, box, TRUTH)
        for result in _found(network, part, i):
            x, y, w, h = result["bbox"]
            box = part.transforms[i].to_input(np.array([[x, y, x + w, y + h]], np.float32))[0].tolist()
            draw_box(axes, box, FOUND)
            text = f"{pool.labels[result['category_id'] - 1]} {result['score']:.2f}"
            axes.text(box[0], box[1] - 2, text, fontsize=5, color="white", va="bottom",
                      bbox={"facecolor": FOUND, "linewidth": 0, "pad": 0.6}, clip_on=True)  # fmt: skip
    handles = [Line2D([], [], color=color, linewidth=1.8) for color in (TRUTH, FOUND)]
    figure.legend(handles, ["true", "found"], loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    save_figure(figure, path)


def _found(network: Deployed, part: Part, index: int) -> list[dict[str, Any]]:
    return detect(network, take(part, np.array([index])), confidence=_CONFIDENCE)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, count)
    figure = Figure(figsize=(2.2 * columns, 2.2 * -(-count // columns) + 0.3), dpi=120, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    return figure, picture_grid(figure, count)
