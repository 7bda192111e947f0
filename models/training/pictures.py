"""Pictures of a training run: curves, comparisons of runs, confusion matrices and sheets of samples."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

Metrics = Sequence[Mapping[str, Any]]
"""One row an epoch: "epoch", "phase", "loss", "val_loss", "accuracy", "val_accuracy", "learning_rate", "minutes", and
"val_iou" of a localiser."""

_DPI = 120
INK, FAINT, _GRID = "#24292f", "#6e7781", "#e6e9ec"
_TRAIN, _VAL = "#9aa4af", "#0969da"
TRUTH, FOUND = "#2da44e", "#fb8f44"
_RUNS = ("#0969da", "#e16f24", "#2da44e", "#8250df", "#cf222e", "#1b7c83", "#bf8700", "#6e7781")
_COLUMNS = 6
_TITLE_LETTERS = 26
_LOG_RATIO = 8.0
"""Largest over smallest loss from which the axis is logarithmic."""

_MAX_WRITTEN = 20
"""Classes up to which the counts are written into a confusion matrix."""


def draw_curves(metrics: Metrics, path: Path) -> None:
    """Draw loss, accuracy and learning rate by epoch, and the mean IoU of a localiser.

    Where a new phase begins there is a thin vertical line.

    Args:
        metrics: At least one epoch.
        path: PNG to write.
    """
    panels = ["loss", "accuracy"] + (["iou"] if "val_iou" in metrics[-1] else [])
    figure = new_figure(len(panels))
    grid = figure.add_gridspec(2, len(panels), height_ratios=(4, 1))
    for column, name in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        epoch_axes(axes, metrics, "mean IoU" if name == "iou" else name)
        if name != "iou":
            draw_line(axes, metrics, name, color=_TRAIN, label="train")
        draw_line(axes, metrics, f"val_{name}", color=_VAL, label="val")
        if name == "loss":
            axes.legend(frameon=False, labelcolor=INK, fontsize=9)
            losses = [row[key] for row in metrics for key in ("loss", "val_loss") if row.get(key, 0) > 0]
            if losses and max(losses) > _LOG_RATIO * min(losses):
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_locator(NullLocator())
        else:
            mark_best(axes, metrics, f"val_{name}", percent=name == "accuracy")
    draw_rates(figure.add_subplot(grid[1, :]), metrics)
    save_figure(figure, path)


def draw_comparison(runs: Mapping[str, Metrics], path: Path) -> None:
    """Draw the validation accuracy of several runs, by epoch and by minutes of training.

    Args:
        runs: Name -> metrics.
        path: PNG to write.
    """
    figure = Figure(figsize=(10, 4.2), dpi=_DPI, layout="constrained")
    left = figure.add_subplot(1, 2, 1)
    for axes, key in ((left, "epoch"), (figure.add_subplot(1, 2, 2, sharey=left), "minutes")):
        _style(axes)
        axes.set_title("validation accuracy", loc="left", color=INK, fontsize=11)
        axes.set_xlabel("epoch" if key == "epoch" else "minutes of training", color=FAINT, fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        if key == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for i, (name, metrics) in enumerate(runs.items()):
            rows = [row for row in metrics if key in row and "val_accuracy" in row]
            values = [row["val_accuracy"] for row in rows]
            label = f"{name}: {max(values):.1%}" if values else name
            axes.plot([row[key] for row in rows], values, color=_RUNS[i % len(_RUNS)], linewidth=1.8, label=label)
        axes.set_xlim(left=0)
    left.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")
    save_figure(figure, path)


def draw_confusion(matrix: NDArray[np.int64], names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, each row coloured by its shares.

    Args:
        matrix: int (n, n), [true, predicted] counts.
        names: The n classes.
        path: PNG to write.
    """
    n = len(names)
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 2.4 + 0.5 * n) if n <= _MAX_WRITTEN else 8.0
    figure = Figure(figsize=(side + 0.4, side), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    # The root shows the few mistakes of a good network beside the many right answers.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    axes.set_title(
        f"{np.trace(counts) / max(1, counts.sum()):.2%} of {counts.sum():,} right", loc="left", color=INK, fontsize=11
    )
    axes.set_xlabel("predicted", color=FAINT)
    axes.set_ylabel("true", color=FAINT)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if n <= _MAX_WRITTEN:
        turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
        axes.set_xticks(range(n), names, **turn)
        axes.set_yticks(range(n), names)
        axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if share[row, column] > 0.3 else INK
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=color, fontsize=8.5)
    save_figure(figure, path)


def draw_samples(
    images: NDArray[np.uint8],
    titles: Sequence[str],
    path: Path,
    boxes: NDArray[np.float32] | None = None,
    boxes_true: NDArray[np.float32] | None = None,
) -> None:
    """Draw pictures in a grid, each under its title.

    Args:
        images: uint8 (n, H, W, 3) RGB or (n, H, W, 1) gray.
        titles: n short texts.
        path: PNG to write.
        boxes: float32 (n, 4), x1 y1 x2 y2 in pixels: found boxes, or the only ones.
        boxes_true: Likewise: true boxes.
    """
    n, height, width = images.shape[:3]
    columns = min(_COLUMNS, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(1.75 * columns, (1.75 * height / width + 0.2) * rows), dpi=_DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0, hspace=0)
    # Long titles shrink, so that none runs into its neighbour's.
    size = min(8.0, 8.0 * _TITLE_LETTERS / max(map(len, titles)))
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if i >= n:
            continue
        gray = images.shape[3] == 1
        axes.imshow(
            images[i, ..., 0] if gray else images[i],
            cmap="gray" if gray else None,
            vmin=0,
            vmax=255,
            interpolation="nearest" if width < 100 else "antialiased",
        )
        axes.set_title(titles[i], fontsize=size, color=INK, pad=3)
        for given, color in ((boxes_true, TRUTH), (boxes, FOUND)):
            if given is not None:
                x1, y1, x2, y2 = given[i]
                # Coordinates begin at the edge of the first pixel, Matplotlib's in its middle.
                axes.add_patch(
                    Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.8)
                )
    if boxes is not None and boxes_true is not None:
        handles = [Line2D([], [], color=color, linewidth=1.8) for color in (TRUTH, FOUND)]
        figure.legend(handles, ["true", "found"], loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    save_figure(figure, path)


def new_figure(panels: int) -> Figure:
    """Return a figure with room for some panels side by side."""
    return Figure(figsize=(4.6 * panels, 4.2), dpi=_DPI, layout="constrained")


def draw_rates(axes: Axes, metrics: Metrics) -> None:
    """Draw the learning rate by epoch, phase by phase."""
    epoch_axes(axes, metrics, "learning rate by epoch")
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    for phase in dict.fromkeys(row.get("phase") for row in metrics):
        rows = [row for row in metrics if row.get("phase") == phase]
        draw_line(axes, rows, "learning_rate", color=FAINT, linewidth=1.2)


def epoch_axes(axes: Axes, metrics: Metrics, title: str) -> None:
    """Prepare a panel over epochs, with the borders of phases."""
    _style(axes)
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(metrics[0]["epoch"] - 0.5, metrics[-1]["epoch"] + 0.5)
    for before, row in zip(metrics, metrics[1:], strict=False):
        if row.get("phase") != before.get("phase"):
            axes.axvline((before["epoch"] + row["epoch"]) / 2, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))


def draw_line(axes: Axes, metrics: Metrics, key: str, **look: Any) -> None:
    """Draw a metric by epoch; epochs without it are left out."""
    rows = [row for row in metrics if row.get(key) is not None]
    marker = {"marker": "o", "markersize": 4} if len(rows) == 1 else {}
    axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], **{"linewidth": 1.8, **marker, **look})


def mark_best(axes: Axes, metrics: Metrics, key: str, percent: bool) -> None:
    """Mark the epoch with the highest value of a metric."""
    rows = [row for row in metrics if row.get(key) is not None]
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if rows:
        best = max(rows, key=lambda row: float(row[key]))
        text = f"{best[key]:.2%}" if percent else f"{best[key]:.3f}"
        axes.plot(best["epoch"], best[key], "o", color=_VAL, markersize=5)
        axes.annotate(
            f"{text}, epoch {best['epoch']}",
            (best["epoch"], best[key]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="right" if best["epoch"] > rows[-1]["epoch"] / 2 else "left",
            color=_VAL,
            fontsize=9,
        )
        axes.margins(y=0.12)


def _style(axes: Axes) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both", labelcolor=FAINT, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)


def save_figure(figure: Figure, path: Path) -> None:
    """Write beside and rename: a picture on disk is always whole."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        FigureCanvasAgg(figure).print_png(str(partial))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
