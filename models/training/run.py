"""A run folder: what a training run writes, so that it can be looked at, resumed and deployed.

::

    config.json       the whole configuration
    metrics.jsonl     one line an epoch
    state.json        where the run is: names the checkpoint to continue from
    last-N...         that checkpoint: weights and optimiser after epoch N
    best.keras        the best validated network, without augmentation; best.spec.json tells `edge convert` the rest
    summary.json      final accuracy
    labels.txt        class names
    calibration/      training pictures to calibrate an int8 conversion on
    *.png             curves, augmented samples, and what the network gets wrong
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from edge.errors import InputError, OutputError
from models.detection.config import DetectorConfig
from models.training.config import TrainConfig

Config = TypeVar("Config", bound=TrainConfig | DetectorConfig)

_CONFIG: TypeAdapter[TrainConfig | DetectorConfig] = TypeAdapter(
    Annotated[TrainConfig | DetectorConfig, Field(discriminator="task")]
)


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        phase: Index of the phase under way.
        epoch: Epochs done, of all phases.
        phase_epoch: Epochs done in this phase.
        best: Best validation score so far, -1 before the first.
        best_epoch: Its epoch.
        phase_best_epoch: Epoch of the best validation of this phase, or its start: where patience counts from.
        seconds: Time spent training.
    """

    phase: int = 0
    epoch: int = 0
    phase_epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    phase_best: float = -1.0
    phase_best_epoch: int = 0
    seconds: float = 0.0


@dataclass
class RunFolder(Generic[Config]):
    """The files of one run; every one of them is replaced whole or not at all."""

    path: Path
    config: Config
    state: RunState = field(default_factory=RunState)

    @classmethod
    def create(cls, path: Path, config: Config) -> RunFolder[Config]:
        """Plan a run; nothing is written before `begin`.

        Raises:
            InputError: The folder holds a run already.
        """
        if (path / "config.json").exists():
            raise InputError(f"{path}: holds a run already; continue it with --resume, or choose another folder")
        return cls(path, config)

    def begin(self, labels: Sequence[str]) -> None:
        """Write the configuration and the class names: from here on the folder holds a run.

        Raises:
            OutputError: The folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be made ({error.strerror})") from error
        self.write_text("labels.txt", "\n".join(labels) + "\n")
        self.write_text("config.json", self.config.model_dump_json(indent=2) + "\n")

    @classmethod
    def open(cls, path: Path) -> RunFolder[Any]:
        """Continue a run from its last checkpoint, or from the start when it has none yet.

        Raises:
            InputError: The folder holds no run, or a broken one.
        """
        try:
            config = _CONFIG.validate_json((path / "config.json").read_bytes())
        except FileNotFoundError as error:
            raise InputError(f"{path}: no run to resume here (it has no config.json)") from error
        except (OSError, ValidationError) as error:
            raise InputError(f"{path / 'config.json'}: not readable ({_first(error)})") from error
        run: RunFolder[Any] = RunFolder(path, config)
        try:
            run.state = RunState(**json.loads((path / "state.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return run
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path / 'state.json'}: not readable ({_first(error)})") from error
        if run.state.epoch and not run.checkpoint.exists():
            raise InputError(f"{run.checkpoint}: the checkpoint to continue from is missing")
        return run

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the state."""
        suffix = "npz" if self.config.task == "detector" else "weights.h5"
        return self.path / f"last-{self.state.epoch}.{suffix}"

    @property
    def best(self) -> Path:
        """The best network so far."""
        return self.path / "best.keras"

    def save_state(self, save: Callable[[Path], None]) -> None:
        """Write the checkpoint of the state, then the state that names it, then remove older checkpoints."""
        self.replace(self.checkpoint, save)
        self.write_text("state.json", json.dumps(vars(self.state), indent=2) + "\n")
        for old in self.path.glob("last-*"):
            if old != self.checkpoint:
                old.unlink()

    def replace(self, target: Path, save: Callable[[Path], None]) -> None:
        """Write a file beside its place and move it there.

        Raises:
            OutputError: It cannot be written; what was there stays.
        """
        # Keras chooses the format by the end of the name, so the mark goes in front.
        partial = target.with_name(f"partial-{target.name}")
        try:
            save(partial)
            os.replace(partial, target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error

    def write_text(self, name: str, text: str) -> None:
        """Write a small file; raises like `replace`."""
        self.replace(self.path / name, lambda path: _write(path, text))

    def log(self, metrics: dict[str, Any]) -> None:
        """Append the metrics of an epoch, in place of those of a lost attempt at it and what came after."""
        kept = [row for row in self.metrics() if row["epoch"] < metrics["epoch"]]
        self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in [*kept, metrics]))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of all epochs so far."""
        try:
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / 'metrics.jsonl'}: not readable ({_first(error)})") from error


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
