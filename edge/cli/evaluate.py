"""`edge evaluate`: accuracy on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from edge.cli import options, reports, running
from edge.cv import require_opencv
from edge.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from edge.detector import Detector
    from edge.evaluate import (
        ClassificationAccuracy,
        ClassLocalization,
        DetectionAccuracy,
        LocalizationAccuracy,
        Look,
    )
    from edge.labelled import LabelledPictures
    from edge.loader import LoadedModel

_LOCALIZER = "localizer"
_MAX_TABLE = 20
"""Classes up to which a confusion matrix is shown."""


class _View(NamedTuple):
    """A report as JSON, as a table (None where it would be too wide), and as lines below it."""

    numbers: dict[str, Any]
    table: Table | None
    lines: list[str]


def evaluate(
    model: options.Model,
    images: Annotated[Path | None, typer.Option(help="Detector: folder of pictures.", show_default=False)] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="Detector: COCO instances JSON of those pictures. Localiser: the same.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "--folder",
            help="Detector: a COCO, YOLO or Pascal VOC folder or zip. Classifier: one subfolder of pictures per class, "
            "a .npz, idx files. Localiser: a COCO folder.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which of the splits of --data; test by default, else val.", show_default=False)
    ] = None,
    conf: Annotated[float, typer.Option(help="Detector: lowest score; mAP wants it low.")] = 0.001,
    iou: Annotated[float | None, typer.Option(help="Detector: NMS overlap; the model's own by default.")] = None,
    max_det: Annotated[int, typer.Option(help="Detector: boxes per picture.")] = 100,
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write the numbers to a file, or - for stdout.")
    ] = None,
    mistakes: Annotated[
        Path | None,
        typer.Option(
            help="Detector: write a sheet of the twelve pictures with most missed and invented boxes.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")] = False,
    threads: options.Threads = None,
    delegate: options.Delegate = "cpu",
    decoder: options.Decoder = None,
    labels: options.Labels = None,
    input_range: options.InputRange = None,
    color: options.Color = None,
    resize: options.Resize = None,
    layout: options.Layout = None,
) -> None:
    """Measure with the runtime itself: mAP of a detector, top-1 and top-5 of a classifier, IoU of a localiser."""
    require_opencv()
    from edge.detector import Detector
    from edge.evaluate import evaluate_detector, evaluate_objects
    from edge.labelled import default_split, open_labelled
    from edge.labelled.coco import one_box_pictures
    from edge.labelled.objects import object_splits, open_objects
    from edge.loader import load_model
    from edge.spec.resolve import Overrides

    overrides = Overrides(
        decoder=decoder, labels=labels, input_range=input_range, color=color, resize=resize, layout=layout
    )
    targets = {"--json": json_path, "--mistakes": None if mistakes is None else str(mistakes)}
    reports.check_targets({flag: target for flag, target in targets.items() if target is not None}, force)
    if mistakes is not None:
        running.checked_sheet("--mistakes", str(mistakes))
    for target in map(Path, filter(None, targets.values())):
        # Numbers that were put beside the pictures are no input; what could be one of these is.
        beside = images if target.suffix.lower() != ".json" else None
        reports.keep_inputs(target, (model, annotations, data, labels, beside))
    numbers: dict[str, Any] = {"model": str(model)}
    if data is not None and images is None and annotations is None:
        loaded = load_model(model, overrides, threads, delegate)
        if loaded.spec.task == "detect":
            split = split or object_splits(data)[-1]
            objects = open_objects(data, split)
            detector = Detector(loaded, conf, iou, max_det, multi_label=True)
            sheet = _Sheet(mistakes, detector)
            view = sheet.told(_detection(evaluate_objects(detector, objects, _progress, sheet.look)))
            numbers["notes"] = list(objects.notes)
            view.lines.extend(f"[yellow]mended:[/] {_escape(note)}" for note in objects.notes)
        else:
            split = split or default_split(data)
            view = _measure(loaded, open_labelled(data, split), mistakes)
        numbers |= {"data": str(data), "split": split}
        view.lines.insert(0, _escape(f"{data}, split {split}" if split else f"{data}"))
    elif images is not None and annotations is not None and data is None and split is None:
        loaded = load_model(model, overrides, threads, delegate)
        if loaded.spec.decoder.name == _LOCALIZER:
            view = _measure(loaded, one_box_pictures(annotations, [images]), mistakes)
        else:
            detector = Detector(loaded, conf, iou, max_det, multi_label=True)
            sheet = _Sheet(mistakes, detector)
            view = sheet.told(_detection(evaluate_detector(detector, images, annotations, _progress, sheet.look)))
    else:
        raise InputError(
            "expected --images DIR with --annotations FILE for a detector, or --data DIR with or without --split for "
            "any model"
        )
    if json_path != "-":
        _show(view)
    if json_path is not None:
        reports.put(json_path, json.dumps(numbers | view.numbers, indent=2) + "\n")


class _Sheet:
    """What `--mistakes` asks for, if it does."""

    def __init__(self, path: Path | None, detector: Detector) -> None:
        from edge.mistakes import Mistakes

        self._mistakes = None if path is None else Mistakes(path, detector.spec.labels, detector.spec.conf)
        self.look: Look | None = None if self._mistakes is None else self._mistakes.look

    def told(self, view: _View) -> _View:
        """Write it, and add a line that says so to a report."""
        if self._mistakes is not None:
            written = [_escape(str(path)) for path in self._mistakes.close()]
            view.lines.append(f"the worst mistakes: {written[0]}" if written else "no mistakes, and no sheet of them")
        return view


def _measure(model: LoadedModel, pictures: LabelledPictures, mistakes: Path | None) -> _View:
    if mistakes is not None:
        raise InputError(f"--mistakes {mistakes}: expected a detector, found a model that classifies")
    from edge.classifier import Classifier
    from edge.evaluate import evaluate_classifier, evaluate_localizer

    classifier = Classifier(model, top=5)
    if model.spec.decoder.name == _LOCALIZER:
        return _localization(evaluate_localizer(classifier, pictures, _progress))
    return _classification(evaluate_classifier(classifier, pictures, _progress))


def _progress(items: Sequence[Any]) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, "Evaluating", console=console, disable=not console.is_terminal, transient=True)


def _show(view: _View) -> None:
    from rich.console import Console

    console = Console()
    if view.table is not None:
        console.print(view.table)
    for line in view.lines:
        console.print(line, highlight=False, soft_wrap=True)


def _escape(text: str) -> str:
    """Keep brackets in a name from being read as style."""
    from rich.markup import escape

    return escape(text)


def _table(head: str, *numbers: str) -> Table:
    from rich.table import Table

    table = Table(head, box=None, header_style="bold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _finite(value: float) -> float | None:
    """JSON has no NaN: a class without boxes has no AP."""
    return value if value == value else None


def _detection(report: DetectionAccuracy) -> _View:
    numbers = {
        "images": report.images,
        "mAP50": _finite(report.map50),
        "mAP50-95": _finite(report.map50_95),
        "classes": [
            {"label": c.label, "boxes": c.boxes, "AP50": _finite(c.map50), "AP50-95": _finite(c.map50_95)}
            for c in report.classes
        ],
        "unknown": report.unknown,
    }
    table = _table("class", "boxes", "AP50", "AP50-95")
    for c in report.classes:
        if c.boxes:
            table.add_row(_escape(c.label), str(c.boxes), f"{c.map50:.3f}", f"{c.map50_95:.3f}")
    boxes = sum(c.boxes for c in report.classes)
    lines = [
        f"{report.images} images, {boxes} boxes: mAP50 [bold]{report.map50:.4f}[/], "
        f"mAP50-95 [bold]{report.map50_95:.4f}[/]"
    ]
    if report.unknown:
        listed = ", ".join(f"{_escape(name)} ({n} boxes)" for name, n in report.unknown.items())
        lines.append(f"[yellow]not counted, the model has no label for:[/] {listed}")
    return _View(numbers, table, lines)


def _classification(report: ClassificationAccuracy) -> _View:
    numbers = {
        "images": report.images,
        "top1": report.top1,
        "top5": report.top5,
        "labels": list(report.labels),
        "confusion": report.confusion.tolist(),
        "ms": report.ms,
    }
    table = None
    if len(report.labels) <= _MAX_TABLE:
        table = _table("true \\ predicted", *map(_escape, report.labels), "other")
        for name, counts in zip(report.labels, report.confusion, strict=True):
            table.add_row(_escape(name), *map(str, counts))
    line = (
        f"{report.images} images, {len(report.labels)} classes: top-1 [bold]{report.top1:.4f}[/], "
        f"top-5 [bold]{report.top5:.4f}[/]"
    )
    return _View(numbers, table, [line, _times(report.ms)])


def _localization(report: LocalizationAccuracy) -> _View:
    def row(c: ClassLocalization) -> dict[str, Any]:
        return {"images": c.images, "top1": c.top1, "mean_iou": c.mean_iou, "located": c.located}

    total = report.total
    numbers = {**row(total), "classes": [{"label": c.label, **row(c)} for c in report.classes], "ms": report.ms}
    table = _table("class", "images", "top-1", "mean IoU", "located")
    for c in report.classes:
        table.add_row(_escape(c.label), str(c.images), f"{c.top1:.3f}", f"{c.mean_iou:.3f}", f"{c.located:.3f}")
    line = (
        f"{total.images} images with one box, {len(report.classes)} classes: top-1 [bold]{total.top1:.4f}[/], mean IoU "
        f"[bold]{total.mean_iou:.4f}[/], right class and IoU >= 0.5 [bold]{total.located:.4f}[/]"
    )
    return _View(numbers, table, [line, _times(report.ms)])


def _times(ms: dict[str, float]) -> str:
    stages = " + ".join(f"{name} {value:.2f}" for name, value in ms.items() if name != "total")
    return f"{ms['total']:.2f} ms per picture ({stages})"
