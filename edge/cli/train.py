"""`edge train`: networks from labelled pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import options
from edge.cli.workstation import require, working
from edge.cv import require_opencv
from edge.errors import InputError

if TYPE_CHECKING:
    from models.training.network import Phase
    from models.training.run import RunFolder

_TRANSFER = "Transfer learning"
_NOTES = "What the deployed file says"
_FREEZE_EPOCHS = 5

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
    given = dict(ctx.params)
    folder, resume, cache = given.pop("run"), given.pop("resume"), given.pop("cache")
    require_opencv()
    require("edge train")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    changed = [name for name in given if ctx.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]
    if resume and changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise InputError(f"--resume continues the run as it was configured; leave out {flags}")
    if not resume:
        given = _settings(task, given)
    from edge.backends.litert import quiet_stderr

    with working("loading TensorFlow"), quiet_stderr():  # where it greets
        from models.training.run import RunFolder
        from models.training.trainer import train
    run = RunFolder.open(folder) if resume else RunFolder.create(folder, _config(given))
    if run.config.task != task:
        raise InputError(f"{folder}: holds a {run.config.task} run; continue it with: edge train {run.config.task}")
    with _Progress() as progress:
        summary = train(run, progress, cache)
    _show(folder, summary)


def _settings(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a TrainConfig from the options."""
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
    return given


def _config(given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from models.training.config import TrainConfig

    try:
        return TrainConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            said = f"--{str(first['loc'][0]).replace('_', '-')} {first['input']}: {said[0].lower()}{said[1:]}"
        raise InputError(said) from error


def _show_runs(runs: dict[str, RunFolder]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("run", "network"):
        table.add_column(column, overflow="fold")
    for column in ("epochs", "minutes", "accuracy", "IoU"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, run in runs.items():
        config, metrics = run.config, run.metrics()
        best = next((row for row in metrics if row["epoch"] == run.state.best_epoch), {})
        table.add_row(
            name,
            config.model + (f", {Path(config.weights).name}" if config.weights else ""),
            str(run.state.epoch),
            f"{run.state.seconds / 60:.1f}",
            *(f"{best[key]:.4f}" if key in best else "" for key in ("val_accuracy", "val_iou")),
        )
    Console(highlight=False).print(table)


class _Progress:
    """Bars on a terminal while an epoch runs, and one line for each that is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task: Any = None
        self._epochs = 0

    def __enter__(self) -> _Progress:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def _begin(self, text: str, total: int) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(text, total=total, note="")

    def loading(self, chunks: Sequence[range]) -> Iterator[range]:
        """Show the pictures that are decoded."""
        self._begin("Decoding", sum(map(len, chunks)))
        for chunk in chunks:
            yield chunk
            self._bars.advance(self._task, len(chunk))

    def epoch_began(self, phase: Phase, number: int, steps: int) -> None:
        """Show a new bar."""
        self._epochs = phase.epochs
        self._begin(f"{phase.name} {number}/{phase.epochs}", steps)

    def step(self, logs: dict[str, float]) -> None:
        """Move the bar."""
        self._bars.update(self._task, advance=1, note=f"loss {logs.get('loss', 0.0):.3f}")

    def epoch_ended(self, metrics: dict[str, Any]) -> None:
        """Print the line of an epoch."""
        words = [
            f"epoch {metrics['epoch']:3d} {metrics['phase']:9s}",
            f"loss {metrics['loss']:.4f}  accuracy {metrics['accuracy']:.4f}",
            f"val loss {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.4f}",
        ]
        if "val_iou" in metrics:
            words.append(f"IoU {metrics['val_iou']:.4f}")
        words.append(f"{metrics['images_per_s']:.0f} images/s" + ("  best" if metrics["best"] else ""))
        self._console.print("  ".join(words), soft_wrap=True)


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
