"""A sheet of labelled pictures, every class on it, and what such sheets are drawn with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from edge.errors import InputError
from edge.labelled.objects import LabelledObjects, object_splits, open_objects
from edge.sources.images import decode_image
from models.training.pictures import FAINT, INK, save_figure

COLUMNS = 6
_SIDE_IN = 2.2
_LINE_IN = 0.3
_PALETTE = ("#0969da", "#e16f24", "#2da44e", "#8250df", "#cf222e", "#1b7c83", "#bf8700", "#e85aad")
_GOLDEN = 0.618
_MAX_LEGEND = 36
_DPI = 120


def draw_sheet(data: Path, path: Path, per_split: int = 24, seed: int = 0) -> None:
    """Draw some pictures of each split with their boxes, one colour a class; rare classes are shown as well.

    Regions that are left open (crowds, what VOC calls difficult) are hatched. Pictures that cannot be read are left
    out: the check names them.

    Args:
        data: The data set, see `edge.labelled.objects`.
        path: PNG to write.
        per_split: Pictures of each split.
        seed: Of the choice.

    Raises:
        InputError: There is no picture to draw.
        OutputError: The PNG cannot be written.
    """
    chosen: list[tuple[LabelledObjects, list[tuple[dict[str, Any], NDArray[np.uint8]]]]] = []
    problem = "has no picture that can be read"
    for split in object_splits(data):
        try:
            objects = open_objects(data, split)
        except InputError as error:
            problem = str(error)
            continue
        if pictures := _choose(objects, per_split, np.random.default_rng(seed)):
            chosen.append((objects, pictures))
    if not chosen:
        raise InputError(f"{data}: {problem}")
    counts: Counter[str] = Counter()
    for objects, _ in chosen:
        named = {row["id"]: row["name"] for row in objects.dataset["categories"]}
        counts.update(dict.fromkeys(named.values(), 0))
        counts.update(named[row["category_id"]] for row in objects.dataset["annotations"] if not row["iscrowd"])
    labels = [name for name in counts if counts[name]]
    colors = dict(zip(labels, class_colors(len(labels)), strict=True))
    rows = [-(-len(pictures) // COLUMNS) for _, pictures in chosen]
    heights = [_SIDE_IN * n + _LINE_IN for n in rows]
    legend = -(-min(len(labels), _MAX_LEGEND) // COLUMNS) * 0.2 + 0.1
    figure = Figure(figsize=(_SIDE_IN * COLUMNS, sum(heights) + legend), dpi=_DPI, layout="constrained")
    sections = figure.subfigures(len(chosen), 1, height_ratios=heights, squeeze=False)[:, 0]
    for section, (objects, pictures) in zip(sections, chosen, strict=True):
        title = f"{objects.split}: {len(pictures)} of {len(objects.dataset['images']):,} pictures"
        section.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12, weight="bold")
        _draw_split(section, objects, pictures, colors)
    most = sorted(labels, key=lambda name: -counts[name])
    shown = {f"{name} ({counts[name]:,})": colors[name] for name in most[:_MAX_LEGEND]}
    class_legend(figure, shown, f"and {len(most) - _MAX_LEGEND} more classes" if len(most) > _MAX_LEGEND else "")
    save_figure(figure, path)


def class_colors(count: int) -> list[str]:
    """Return a colour for each class; up to eight are easy to tell apart."""
    more = range(max(0, count - len(_PALETTE)))
    hues = [(i * _GOLDEN % 1, 0.75, (0.85, 0.6)[i % 2]) for i in more]
    return [*_PALETTE, *(matplotlib.colors.to_hex(matplotlib.colors.hsv_to_rgb(hue)) for hue in hues)][:count]


def class_legend(figure: Figure, colors: dict[str, str], more: str = "") -> None:
    """Put a line with the names and colours of classes below a figure."""
    handles = [Line2D([], [], color=color, linewidth=2.4, label=name) for name, color in colors.items()]
    handles += [Line2D([], [], linewidth=0, label=more)] if more else []
    columns = min(COLUMNS, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK)


def picture_grid(figure: FigureBase, count: int) -> list[Axes]:
    """Return places for pictures, six in a row, without axes."""
    columns = min(COLUMNS, count)
    places = list(figure.subplots(-(-count // columns), columns, squeeze=False).flat)
    for axes in places:
        axes.set_axis_off()
    return places


def draw_box(axes: Axes, box: Sequence[float], color: str, crowd: bool = False) -> None:
    """Draw a box, hatched where it is left open what is there.

    Args:
        axes: A picture.
        box: x1 y1 x2 y2 in its pixels.
        color: Of the class.
        crowd: Whether it is left open.
    """
    x1, y1, x2, y2 = box
    look: dict[str, Any] = {"hatch": "///", "linewidth": 0} if crowd else {"linewidth": 1.4}
    # Coordinates begin at the edge of the first pixel, Matplotlib's in its middle.
    axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=color, **look))


def _choose(
    objects: LabelledObjects, count: int, rng: np.random.Generator
) -> list[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Read pictures, each time one of the class that was shown least; RGB."""
    of: defaultdict[int, set[int]] = defaultdict(set)
    place = {row["id"]: i for i, row in enumerate(objects.dataset["images"])}
    for row in objects.dataset["annotations"]:
        of[place[row["image_id"]]].add(row["category_id"])
    queues: dict[int, list[int]] = {row["id"]: [] for row in objects.dataset["categories"]}
    order = rng.permutation(len(place)).tolist()
    for i in order:
        for category in of[i]:
            queues[category].append(i)
    plain = [i for i in order if not of[i]]
    shown: Counter[int] = Counter()
    taken: set[int] = set()
    found: list[tuple[dict[str, Any], NDArray[np.uint8]]] = []
    with objects.reader() as read:
        while len(found) < count:
            queues = {category: rest for category, rest in queues.items() if rest}
            if not queues and not plain:
                break
            queue = queues[min(queues, key=lambda category: shown[category])] if queues else plain
            i = queue.pop()
            if i in taken:
                continue
            taken.add(i)
            row = objects.dataset["images"][i]
            try:
                found.append((row, decode_image(read(row["file_name"]), row["file_name"])[..., ::-1]))
            except InputError:
                continue
            shown.update(of[i])
    return found


def _draw_split(
    section: FigureBase,
    objects: LabelledObjects,
    pictures: list[tuple[dict[str, Any], NDArray[np.uint8]]],
    colors: dict[str, str],
) -> None:
    named = {row["id"]: row["name"] for row in objects.dataset["categories"]}
    boxes: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in objects.dataset["annotations"]:
        boxes[row["image_id"]].append(row)
    for axes, (image, pixels) in zip(picture_grid(section, len(pictures)), pictures, strict=False):
        axes.imshow(pixels)
        for row in boxes[image["id"]]:
            x, y, w, h = row["bbox"]
            name = named[row["category_id"]]
            color = colors.get(name, FAINT)
            draw_box(axes, (x, y, x + w, y + h), color, bool(row["iscrowd"]))
            if len(colors) > len(_PALETTE):  # colours alone do not tell
                axes.text(x, y, name, fontsize=4.5, color="white", va="bottom", clip_on=True,
                          bbox={"facecolor": color, "linewidth": 0, "pad": 0.5})  # fmt: skip
        height, width = pixels.shape[:2]
        side = max(height, width)
        # Squares, so that pictures of every shape stand in rows.
        axes.set_xlim((width - side) / 2 - 0.5, (width + side) / 2 - 0.5)
        axes.set_ylim((height + side) / 2 - 0.5, (height - side) / 2 - 0.5)
