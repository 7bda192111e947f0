"""What the commands of `edge train` share: opening a run, and showing how it goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from edge.cli.workstation import require, working
from edge.cv import require_opencv
from edge.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from models.training.run import RunFolder

Config = TypeVar("Config", bound="BaseModel")

_SHOWN = {
    "accuracy": "accuracy",
    "val_loss": "val loss",
    "val_accuracy": "accuracy",
    "val_iou": "IoU",
    "val_ap50": "val AP50",
    "val_ap": "AP50-95",
}
"""Metrics of an epoch and their names on a terminal, in order."""


def open_run(
    task: str, ctx: typer.Context, settings: Callable[[str, dict[str, Any]], Any]
) -> tuple[RunFolder[Any], Path | None]:
    """Plan a run, or open the one to resume.

    Args:
        task: What is trained.
        ctx: Of the command: its options, among them ``run``, ``resume`` and ``cache``.
        settings: Makes the configuration from the task and the other options.

    Returns:
        The run, and the folder for decoded pictures.

    Raises:
        InputError: The options or the folder do not fit.
    """
    given = dict(ctx.params)
    folder, resume, cache = given.pop("run"), given.pop("resume"), given.pop("cache")
    if folder is None:
        raise InputError("--run is missing: the folder for everything that the run writes")
    require_opencv()
    require("edge train")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    changed = [name for name in given if ctx.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]
    if resume and changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise InputError(f"--resume continues the run as it was configured; leave out {flags}")
    config: Any = None if resume else settings(task, given)
    with loading_tensorflow():
        from models.training.run import RunFolder
    run: RunFolder[Any] = RunFolder.open(folder) if resume else RunFolder.create(folder, config)
    if run.config.task != task:
        raise InputError(f"{folder}: holds a {run.config.task} run; continue it with: edge train {run.config.task}")
    return run, cache


@contextlib.contextmanager
def loading_tensorflow() -> Iterator[None]:
    """Show that TensorFlow loads, and hold back how it greets."""
    from edge.backends.litert import quiet_stderr

    with working("loading TensorFlow"), quiet_stderr():
        yield


def configured(kind: type[Config], given: dict[str, Any]) -> Config:
    """Make a configuration.

    Raises:
        InputError: A value is out of place; the flag is named.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            said = f"--{str(first['loc'][0]).replace('_', '-')} {first['input']}: {said[0].lower()}{said[1:]}"
        raise InputError(said) from error


class TrainProgress:
    """Bars on a terminal while an epoch runs, and one line for each that is done."""

    def __init__(self) -> None:
        """Prepare; nothing is shown yet."""
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

    def __enter__(self) -> TrainProgress:
        """Start to show."""
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Clear the bars."""
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

    def epoch_began(self, phase: str, number: int, epochs: int, steps: int) -> None:
        """Show a new bar."""
        self._begin(f"{phase} {number}/{epochs}", steps)

    def step(self, logs: dict[str, float]) -> None:
        """Move the bar."""
        self._bars.update(self._task, advance=1, note=f"loss {logs.get('loss', 0.0):.3f}")

    def epoch_ended(self, metrics: dict[str, Any]) -> None:
        """Print the line of an epoch."""
        words = [f"epoch {metrics['epoch']:3d}"]
        words += [f"{metrics['phase']:9s}"] if "phase" in metrics else []
        words += [f"loss {metrics['loss']:.4f}"]
        for key, name in _SHOWN.items():
            words += [f"{name} {metrics[key]:.4f}"] if key in metrics else []
        words.append(f"{metrics['images_per_s']:.0f} images/s" + ("  best" if metrics["best"] else ""))
        self._console.print("  ".join(words), soft_wrap=True)
