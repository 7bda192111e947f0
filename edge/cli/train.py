"""`edge train`: networks from labelled pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options
from edge.cli.training import TrainProgress, configured, loading_tensorflow, open_run
from edge.cli.workstation import require, working
from edge.errors import InputError

if TYPE_CHECKING:
    from models.training.config import TrainConfig
    from models.training.run import RunFolder

_TRANSFER = "Transfer learning"
_NOTES = "What the deployed file says"
_FREEZE_EPOCHS = 5
_COMPARED = {"val_accuracy": "accuracy", "val_iou": "IoU", "val_ap50": "AP50", "val_ap": "AP50-95"}

Data = Annotated[
    Path | None,
    typer.Option(help="Folder tree, .npz, idx files, or COCO folder.", show_default=False),
]
Run = Annotated[Path, typer.Option(help="Folder for everything that the run writes.", show_default=False)]
Network = Annotated[str | None, typer.Option("--model", "-m", help="See: edge models list.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --run; takes no other option.")]
Size = Annotated[str | None, typer.Option(help="Input WxH in pixels; the network's own by default.")]
Color = Annotated[str | None, typer.Option(help="RGB, BGR or GRAY; the network's own by default.", show_default=False)]
Resize = Annotated[
    str | None,
    typer.Option(help="stretch (default), letterbox-center, letterbox-topleft or center-crop.", show_default=False),
]
Epochs = Annotated[int, typer.Option(help="Epochs (after the frozen ones).")]
Batch = Annotated[int, typer.Option("--batch", help="Pictures a step.")]
Rate = Annotated[float, typer.Option("--learning-rate", "--lr", help="Peak of the cosine schedule.")]
Decay = Annotated[float, typer.Option("--weight-decay", help="AdamW's, on kernels.")]
Augment = Annotated[
    str | None, typer.Option(help="photos, digits, clothing or none; by the colour of the input by default.")
]
Balance = Annotated[bool, typer.Option("--balance", help="Draw every class equally often.")]
ValFraction = Annotated[float, typer.Option(help="Held out where the data has no validation split.")]
Smoothing = Annotated[float, typer.Option("--label-smoothing", help="Taken from the true class.")]
Dropout = Annotated[float | None, typer.Option(help="Before the class head; the network's own by default.")]
Patience = Annotated[int, typer.Option(help="Epochs without a better validation that end a phase; 0: never.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result on one machine.")]
Mixed = Annotated[bool, typer.Option("--mixed-precision", help="Compute in 16 bits (for GPUs).")]
Cache = Annotated[Path | None, typer.Option(help="Folder for decoded pictures; RUN/cache by default.")]
Weights = Annotated[
    str | None,
    typer.Option(help="imagenet, or a .keras file; random by default.", rich_help_panel=_TRANSFER, show_default=False),
]
Freeze = Annotated[
    int | None,
    typer.Option(
        "--freeze-epochs",
        help=f"Epochs with the new head alone; {_FREEZE_EPOCHS} with --weights.",
        rich_help_panel=_TRANSFER,
        show_default=False,
    ),
]
FineTune = Annotated[
    str,
    typer.Option(
        "--fine-tune-from",
        help="Layer, or share of layers that stay frozen, from where on the rest learns.",
        rich_help_panel=_TRANSFER,
    ),
]
FineRate = Annotated[
    float, typer.Option("--fine-tune-rate", help="Peak rate after the frozen epochs.", rich_help_panel=_TRANSFER)
]
DataName = Annotated[
    str | None, typer.Option("--training-data", help="Name and version of the data.", rich_help_panel=_NOTES)
]
Licence = Annotated[str | None, typer.Option(help="SPDX identifier or a sentence.", rich_help_panel=_NOTES)]
Attribution = Annotated[str | None, typer.Option(help="Text that must travel with it.", rich_help_panel=_NOTES)]

app = typer.Typer(no_args_is_help=True, help="Train a network on labelled pictures.")


@app.command()
def classifier(
    ctx: typer.Context,
    run: Run,
    data: Data = None,
    model: Network = None,
    resume: Resume = False,
    size: Size = None,
    epochs: Epochs = 20,
    batch: Batch = 64,
    learning_rate: Rate = 1e-3,
    weight_decay: Decay = 1e-4,
    label_smoothing: Smoothing = 0.0,
    dropout: Dropout = None,
    augment: Augment = None,
    balance: Balance = False,
    val_fraction: ValFraction = 0.1,
    patience: Patience = 0,
    seed: Seed = 0,
    mixed_precision: Mixed = False,
    cache: Cache = None,
    weights: Weights = None,
    freeze_epochs: Freeze = None,
    fine_tune_from: FineTune = "0",
    fine_tune_rate: FineRate = 2e-4,
    color: Color = None,
    resize: Resize = None,
    training_data: DataName = None,
    licence: Licence = None,
    attribution: Attribution = None,
) -> None:
    """Train a classifier; best.keras in the run folder is what edge convert takes."""
    _train("classifier", ctx)


@app.command()
def localizer(
    ctx: typer.Context,
    run: Run,
    data: Data = None,
    model: Network = None,
    resume: Resume = False,
    size: Size = None,
    epochs: Epochs = 20,
    batch: Batch = 64,
    learning_rate: Rate = 1e-3,
    weight_decay: Decay = 1e-4,
    label_smoothing: Smoothing = 0.0,
    loss_weights: Annotated[str, typer.Option(help="Of the class loss and of the box loss.")] = "0.8,0.2",
    dropout: Dropout = None,
    augment: Augment = None,
    balance: Balance = False,
    val_fraction: ValFraction = 0.1,
    patience: Patience = 0,
    seed: Seed = 0,
    mixed_precision: Mixed = False,
    cache: Cache = None,
    weights: Weights = None,
    freeze_epochs: Freeze = None,
    fine_tune_from: FineTune = "0",
    fine_tune_rate: FineRate = 2e-4,
    color: Color = None,
    resize: Resize = None,
    training_data: DataName = None,
    licence: Licence = None,
    attribution: Attribution = None,
) -> None:
    """Train a localiser: the class of a picture's one object, and the box around it.

    Of a COCO folder (annotations/instances_train.json, ...) the pictures with exactly one box are used.
    """
    _train("localizer", ctx)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", show_default=False)],
    save: Annotated[Path | None, typer.Option(help="Draw their curves into this .png.", show_default=False)] = None,
) -> None:
    """Compare runs: a table, and their curves in one picture."""
    require("edge train")
    with working("reading the runs"):
        from models.training.pictures import draw_comparison
        from models.training.run import RunFolder
    opened = {str(path): RunFolder.open(path) for path in runs}
    _show_runs(opened)
    if save is not None:
        curves = {name: run.metrics() for name, run in opened.items() if run.metrics()}
        if not curves:
            raise InputError("none of the runs has finished an epoch; there is nothing to draw")
        try:
            draw_comparison(curves, save)
        except (OSError, ValueError) as error:
            raise InputError(f"{save}: cannot be written ({error})") from error


def _train(task: str, ctx: typer.Context) -> None:
    run, cache = open_run(task, ctx, _settings)
    with loading_tensorflow():
        from models.training.trainer import train
    with TrainProgress() as progress:
        summary = train(run, progress, cache)
    _show(run.path, summary)


def _settings(task: str, given: dict[str, Any]) -> TrainConfig:
    """Return the configuration that the options ask for."""
    for name in ("data", "model"):
        if given[name] is None:
            raise InputError(f"--{name} is missing; edge train {task} --help lists what there is")
    given = {key: value for key, value in given.items() if value is not None}
    given |= {"task": task, "batch_size": given.pop("batch"), "data": given["data"].absolute()}
    if "size" in given:
        given["size_wh"] = options.size_wh(given.pop("size"))
    if "weights" in given:
        given.setdefault("freeze_epochs", _FREEZE_EPOCHS)
        if given["weights"] != "imagenet":
            given["weights"] = str(Path(given["weights"]).absolute())
    if re.fullmatch(r"[\d.]+(e-?\d+)?", given["fine_tune_from"]):
        given["fine_tune_from"] = float(given["fine_tune_from"])
    if "loss_weights" in given:
        given["loss_weights"] = given["loss_weights"].split(",")
    for name, change in (("color", str.upper), ("resize", str.lower)):
        if name in given:
            given[name] = change(given[name])
    from models.training.config import TrainConfig

    return configured(TrainConfig, given)


def _show_runs(runs: dict[str, RunFolder[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("run", "network"):
        table.add_column(column, overflow="fold")
    found = {key for run in runs.values() for row in run.metrics() for key in row}
    shown = {key: title for key, title in _COMPARED.items() if key in found}
    for column in ("epochs", "minutes", *shown.values()):
        table.add_column(column, justify="right", no_wrap=True)
    for name, run in runs.items():
        config, metrics = run.config, run.metrics()
        best = next((row for row in metrics if row["epoch"] == run.state.best_epoch), {})
        table.add_row(
            name,
            config.model + (f", {Path(config.weights).name}" if config.weights else ""),
            str(run.state.epoch),
            f"{run.state.seconds / 60:.1f}",
            *(f"{best[key]:.4f}" if key in best else "" for key in shown),
        )
    Console(highlight=False).print(table)


def _show(folder: Path, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("network", f"{summary['model']}, {summary['parameters']:,} parameters")
    table.add_row("best", f"epoch {summary['best_epoch']} of {summary['epochs']}, {summary['minutes']:.1f} minutes")
    for split in ("val", "test"):
        if split in summary:
            scores = summary[split]
            text = f"accuracy {scores['accuracy']:.4f} on {scores['images']} images"
            if "iou" in scores:
                text += f", mean IoU {scores['iou']:.4f}, right with IoU of 0.5 or more {scores['both']:.4f}"
            table.add_row(split, text)
    table.add_row("pictures", f"{folder}: curves.png, augmented.png, confusion.png, mistakes.png")
    table.add_row("next", f"edge convert {folder}/best.keras --to int8 --calibrate {folder}/calibration")
    Console(highlight=False).print(table)
