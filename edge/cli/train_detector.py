"""`edge train detector`: a detector from labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.bundled import default_model
from edge.cli.train import Attribution, Batch, Cache, DataName, Licence, Resume, Seed, ValFraction
from edge.cli.training import TrainProgress, configured, loading_tensorflow, open_run
from edge.cli.workstation import require, working
from edge.cv import require_opencv
from edge.errors import InputError, OutputError

if TYPE_CHECKING:
    from models.detection.config import DetectorConfig

_SCHEDULE = "Schedule"
_BUNDLED, _SHIPPED = "bundled", "edge-yolo-n"
_FINE_TUNE_RATE, _RATE = 5e-4, 2e-3

Data = Annotated[
    Path | None,
    typer.Option(help="COCO, YOLO or Pascal VOC folder or zip; or a .toml that joins several.", show_default=False),
]
Run = Annotated[Path | None, typer.Option(help="Folder for everything that the run writes.", show_default=False)]
Network = Annotated[str, typer.Option("--model", "-m", help="edge-yolo-n, edge-yolo-s or edge-yolo-m.")]
HeadName = Annotated[str, typer.Option("--head", help="anchor-free, or anchors: YOLOv3's, sizes found in the data.")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="bundled: go on from the model that ships (default of edge-yolo-n); imagenet: the backbone's (of "
        "the others); none; or a .keras or .tflite of ours.",
        show_default=False,
    ),
]
Distill = Annotated[
    Path | None,
    typer.Option(
        help="A larger network of ours, a .keras or .tflite with the same classes: its answers are learned beside the "
        "labels.",
        show_default=False,
    ),
]
Check = Annotated[bool, typer.Option("--check", help="Look the data over, write a contact sheet, and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="With --check: print JSON on stdout.")]
Size = Annotated[int, typer.Option(help="Side of the input in pixels, a multiple of 32.")]
Epochs = Annotated[int, typer.Option(help="Epochs.", rich_help_panel=_SCHEDULE)]
Minutes = Annotated[
    float, typer.Option(help="Training time that the schedule is fitted into; 0: no limit.", rich_help_panel=_SCHEDULE)
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        "--lr",
        help=f"Peak of the cosine; {_RATE} by default, {_FINE_TUNE_RATE} from a trained detector.",
        rich_help_panel=_SCHEDULE,
        show_default=False,
    ),
]
Decay = Annotated[float, typer.Option("--weight-decay", help="AdamW's, on kernels.", rich_help_panel=_SCHEDULE)]
Ema = Annotated[float, typer.Option(help="Decay of the averaged weights.", rich_help_panel=_SCHEDULE)]
EvalEvery = Annotated[int, typer.Option(help="Epochs from one validation to the next.", rich_help_panel=_SCHEDULE)]
Mosaic = Annotated[float, typer.Option(help="Share of training pictures made of four.")]
Rare = Annotated[float, typer.Option(help="Classes in a smaller share of the pictures are shown more often.")]


def detector(
    ctx: typer.Context,
    run: Run = None,
    data: Data = None,
    model: Network = "edge-yolo-n",
    weights: Weights = None,
    distill: Distill = None,
    head: HeadName = "anchor-free",
    resume: Resume = False,
    check: Check = False,
    as_json: AsJson = False,
    size: Size = 320,
    epochs: Epochs = 60,
    max_minutes: Minutes = 0.0,
    batch: Batch = 16,
    learning_rate: Rate = None,
    weight_decay: Decay = 0.02,
    ema: Ema = 0.998,
    mosaic: Mosaic = 0.6,
    rare_threshold: Rare = 0.35,
    val_fraction: ValFraction = 0.1,
    eval_every: EvalEvery = 3,
    seed: Seed = 0,
    cache: Cache = None,
    training_data: DataName = None,
    licence: Licence = None,
    attribution: Attribution = None,
) -> None:
    """Train a detector; best.keras in the run folder is what edge convert takes."""
    if data is None and not resume:
        raise InputError("--data is missing: a COCO, YOLO or Pascal VOC folder or zip, or a .toml that joins several")
    if check and data is not None:
        _check(data, run or Path(), size, as_json)
        return
    opened, cache = open_run("detector", ctx, _settings)
    with loading_tensorflow():
        from models.detection.train import train
    with TrainProgress() as progress:
        summary = train(opened, progress, cache)
    _show(opened.path, summary)


def _settings(task: str, given: dict[str, Any]) -> DetectorConfig:
    """Return the configuration that the options ask for."""
    given = {key: value for key, value in given.items() if key not in ("check", "as_json") and value is not None}
    given |= {"task": task, "batch_size": given.pop("batch"), "data": given["data"].absolute()}
    if "distill" in given:
        given["distill"] = given["distill"].absolute()
    weights = given.setdefault("weights", _BUNDLED if given["model"] == _SHIPPED else "imagenet")
    if weights == "none":
        given["weights"] = None
    elif weights != "imagenet":
        path = default_model() if weights == _BUNDLED else Path(weights).absolute()
        given["weights"] = str(path)
        # Another kind of head starts anew, and has more to learn.
        given.setdefault("learning_rate", _FINE_TUNE_RATE if given["head"] == "anchor-free" else 2 * _FINE_TUNE_RATE)
    from models.detection.config import DetectorConfig

    return configured(DetectorConfig, given)


def _check(data: Path, folder: Path, size: int, as_json: bool) -> None:
    """Report on the data and draw a sheet of it into a folder."""
    require_opencv()
    require("edge train")
    import json

    from rich.console import Console

    from edge.cli.data_check import show
    from models.detection.check import check_sets
    from models.detection.sets import read_sets
    from models.detection.sheet import draw_sheet

    sets = read_sets(data)
    with working("reading the pictures"):
        reports = check_sets(sets, size=size)
    if as_json:
        typer.echo(json.dumps([report.to_json() for report in reports], indent=2))
    else:
        console = Console(highlight=False)
        for report in reports:
            show(report, console)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
    sheets = [folder / f"{one.data.stem}.png" for one in sets.sets]
    with working("drawing"):
        for one, sheet in zip(sets.sets, sheets, strict=True):
            draw_sheet(one.data, sheet)
    typer.echo(f"contact sheet: {', '.join(map(str, sheets))}", err=True)
    if any(report.has_errors for report in reports):
        raise typer.Exit(InputError.exit_code)


def _show(folder: Path, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    scores = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("pictures", "class", "boxes", "AP50", "AP50-95"):
        scores.add_column(heading, justify="left" if heading in ("pictures", "class") else "right")
    for split in ("val", "test"):
        for name, part in summary.get(split, {}).get("parts", {}).items():
            for label, (ap50, ap) in part["per_class"].items():
                scores.add_row(name, label, str(part["boxes"][label]), f"{ap50:.3f}", f"{ap:.3f}")
            total = sum(part["boxes"].values())
            scores.add_row(name, "all", str(total), f"{part['ap50']:.3f}", f"{part['ap']:.3f}", style="bold")
    console.print(scores)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("network", f"{summary['model']}, {summary['parameters']:,} parameters")
    table.add_row("best", f"epoch {summary['best_epoch']} of {summary['epochs']}, {summary['minutes']:.1f} minutes")
    table.add_row("pictures", f"{folder}: curves.png, augmented.png, predictions.png")
    table.add_row("next", f"edge convert {folder}/best.keras --to int8 --calibrate {folder}/calibration")
    console.print(table)
