"""`edge evaluate`: accuracy on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options
from edge.cv import require_opencv
from edge.errors import InputError

if TYPE_CHECKING:
    from edge.evaluate import ClassificationAccuracy, DetectionAccuracy


def evaluate(
    model: options.Model,
    images: Annotated[Path | None, typer.Option(help="Detector: folder of pictures.", show_default=False)] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Detector: COCO instances JSON of those pictures.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Classifier: one subfolder of pictures per class.", show_default=False)
    ] = None,
    conf: Annotated[float, typer.Option(help="Detector: lowest score; mAP wants it low.")] = 0.001,
    iou: Annotated[float | None, typer.Option(help="Detector: NMS overlap; the model's own by default.")] = None,
    max_det: Annotated[int, typer.Option(help="Detector: boxes per picture.")] = 100,
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write the numbers to a file, or - for stdout.")
    ] = None,
    threads: options.Threads = None,
    delegate: options.Delegate = "cpu",
    decoder: options.Decoder = None,
    labels: options.Labels = None,
    input_range: options.InputRange = None,
    color: options.Color = None,
    resize: options.Resize = None,
    layout: options.Layout = None,
) -> None:
    """Measure accuracy with the runtime itself: mAP of a detector, top-1 and top-5 of a classifier."""
    require_opencv()
    from edge.classifier import Classifier
    from edge.detector import Detector
    from edge.evaluate import evaluate_classifier, evaluate_detector
    from edge.spec.resolve import Overrides

    overrides = Overrides(
        decoder=decoder, labels=labels, input_range=input_range, color=color, resize=resize, layout=layout
    )
    report: DetectionAccuracy | ClassificationAccuracy
    if folder is not None and images is None and annotations is None:
        classifier = Classifier.load(model, overrides, top=5, threads=threads, delegate=delegate)
        report = evaluate_classifier(classifier, folder, _progress)
        numbers, show = _classification_numbers(report), _show_classification
    elif images is not None and annotations is not None and folder is None:
        detector = Detector.load(
            model, overrides, conf, iou, max_det, multi_label=True, threads=threads, delegate=delegate
        )
        report = evaluate_detector(detector, images, annotations, _progress)
        numbers, show = _detection_numbers(report), _show_detection
    else:
        raise InputError(
            "expected --images DIR with --annotations FILE for a detector, or --folder DIR for a classifier"
        )
    numbers = {"model": str(model), **numbers}
    if json_path != "-":
        show(report)
    _write(json_path, json.dumps(numbers, indent=2))


def _progress(paths: Sequence[Path]) -> Iterable[Path]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(paths, "Evaluating", console=console, disable=not console.is_terminal, transient=True)


def _write(path: str | None, text: str) -> None:
    if path == "-":
        typer.echo(text)
    elif path is not None:
        try:
            Path(path).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _finite(value: float) -> float | None:
    """JSON has no NaN: a class without boxes has no AP."""
    return value if value == value else None


def _detection_numbers(report: DetectionAccuracy) -> dict[str, Any]:
    return {
        "images": report.images,
        "mAP50": _finite(report.map50),
        "mAP50-95": _finite(report.map50_95),
        "classes": [
            {"label": c.label, "boxes": c.boxes, "AP50": _finite(c.map50), "AP50-95": _finite(c.map50_95)}
            for c in report.classes
        ],
        "unknown": report.unknown,
    }


def _classification_numbers(report: ClassificationAccuracy) -> dict[str, Any]:
    return {
        "images": report.images,
        "top1": report.top1,
        "top5": report.top5,
        "labels": list(report.labels),
        "confusion": report.confusion.tolist(),
    }


def _show_detection(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("class", box=None, header_style="bold")
    for name in ("boxes", "AP50", "AP50-95"):
        table.add_column(name, justify="right")
    for c in report.classes:
        if c.boxes:
            table.add_row(c.label, str(c.boxes), f"{c.map50:.3f}", f"{c.map50_95:.3f}")
    console = Console()
    console.print(table)
    boxes = sum(c.boxes for c in report.classes)
    console.print(
        f"{report.images} images, {boxes} boxes: mAP50 [bold]{report.map50:.4f}[/], "
        f"mAP50-95 [bold]{report.map50_95:.4f}[/]",
        highlight=False,
    )
    if report.unknown:
        listed = ", ".join(f"{name} ({n} boxes)" for name, n in report.unknown.items())
        console.print(f"[yellow]not counted, the model has no label for:[/] {listed}", highlight=False)


def _show_classification(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if len(report.labels) <= 20:
        table = Table("true \\ predicted", box=None, header_style="bold")
        for name in (*report.labels, "other"):
            table.add_column(name, justify="right")
        for name, counts in zip(report.labels, report.confusion, strict=True):
            table.add_row(name, *map(str, counts))
        console.print(table)
    console.print(
        f"{report.images} images, {len(report.labels)} classes: top-1 [bold]{report.top1:.4f}[/], "
        f"top-5 [bold]{report.top5:.4f}[/]",
        highlight=False,
    )
