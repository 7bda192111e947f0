"""What a detector's run leaves: its accuracy, and what the converter needs to know about it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import keras

import models.layers  # noqa: F401  registers the layers that best.keras names
from edge import __version__
from edge.spec import ModelSpec, Provenance
from edge.spec.model import Accuracy
from models.detection.config import DetectorConfig
from models.detection.data import Pool
from models.detection.deployed import Deployed
from models.detection.evaluate import measure
from models.detection.weights import file_credit, start_credit
from models.training.report import write_calibration
from models.training.run import RunFolder


def write_report(
    run: RunFolder[DetectorConfig], spec: ModelSpec, train: Pool, val: Pool, test: Pool | None
) -> dict[str, Any]:
    """Measure the best network and write the summary, the description and the calibration pictures.

    Args:
        run: A run with a ``best.keras``.
        spec: Of `models.detection.deployed.deployed_spec`.
        train: What it learned from.
        val: What its best epoch was chosen on.
        test: What nothing was chosen on; None where the sets have no such split.

    Returns:
        The summary that ``summary.json`` holds.
    """
    model = keras.saving.load_model(run.best, compile=False, safe_mode=True)
    pools = {"val": val} | ({"test": test} if test is not None else {})
    network = Deployed(lambda images: model(images, training=False), spec)
    scores = {name: measure(network, pool) for name, pool in pools.items()}
    summary = {
        "model": run.config.model,
        "parameters": model.count_params(),
        "labels": list(train.labels),
        "best_epoch": run.state.best_epoch,
        "epochs": run.state.epoch,
        "minutes": round(run.state.seconds / 60, 2),
        **scores,
    }
    run.write_text("summary.json", json.dumps(summary, indent=2) + "\n")
    for measured in scores.values():
        write_spec(run, spec, measured)
    write_calibration(run, len(train), train.square, "RGB")
    return summary


def write_spec(run: RunFolder[DetectorConfig], spec: ModelSpec, scores: dict[str, Any]) -> None:
    """Write ``best.spec.json``, the ModelSpec of the best network, which `edge convert` finds beside it.

    Args:
        run: A run with a ``best.keras``.
        spec: Of `models.detection.deployed.deployed_spec`.
        scores: What `models.detection.evaluate.measure` gave for it.
    """
    config = run.config
    data = config.training_data or Path(config.data).name
    credits = [config.attribution, start_credit(config.weights)]
    if config.distill is not None:
        credits.append(file_credit(config.distill, "taught by"))
    described = spec.model_copy(
        update={
            "provenance": Provenance(
                source=f"{config.model}, edge {__version__} train detector, seed {config.seed}",
                source_sha256=hashlib.sha256(run.best.read_bytes()).hexdigest(),
                licence=config.licence,
                attribution="; ".join(filter(None, credits)) or None,
                training_data=data,
            ),
            "accuracy": tuple(
                Accuracy(
                    dataset=f"{name}, {part['images']} images, float32 Keras",
                    metrics={"mAP50": round(part["ap50"], 5), "mAP50-95": round(part["ap"], 5)},
                )
                for name, part in scores["parts"].items()
            ),
        }
    )
    run.write_text("best.spec.json", described.model_dump_json(indent=1, exclude_none=True) + "\n")
