"""What the converter needs to know about a trained run: ``python -m models.export_detector RUN``."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import keras

import models.layers  # noqa: F401  registers the layers that best.keras names
from models.detection_data import PAD_VALUE, load_split
from models.detection_eval import average_precision, detect
from models.edge_yolo import STRIDES, output_names

BACKBONE = "MobileNetV2 0.35 ImageNet weights (Keras applications, Apache-2.0)"
ACCURACY_FILE = "accuracy.json"
NMS_IOU = 0.55
"""Overlap above which the weaker box goes: as good as any of 0.5 ... 0.7 on the highway valid split, few doubles."""


def load_best(run: Path) -> keras.Model:
    """Load the best averaged weights of a run.

    Raises:
        FileNotFoundError: The run has not reached its first validation.
    """
    file = run / "best.keras"
    if not file.exists():
        raise FileNotFoundError(f"{file} not found: the run has not been validated yet")
    return keras.models.load_model(file, compile=False, safe_mode=True)


def measure(run: Path, split: str, data: Path | None = None, cache: Path | None = None) -> dict[str, Any]:
    """Measure the float model of a run on a split and note the result in the run's ``accuracy.json``.

    Args:
        run: Folder of the run.
        split: "valid" or "test".
        data: Zip or folder; the run's own when None.
        cache: Folder for decoded images; the run's own when None.

    Returns:
        What `models.detection_eval.average_precision` gives, and ``images``, the number of them.
    """
    model = load_best(run)
    config = json.loads((run / "config.json").read_text())
    cache = cache or Path(config["cache"] or run / "cache")
    samples = load_split(data or Path(config["data"]), split, cache, model.input_shape[1])
    scores = average_precision(samples, detect(lambda images: model(images, training=False), samples))
    measured = {**scores, "images": len(samples)}
    (run / ACCURACY_FILE).write_text(json.dumps({**_accuracy(run), split: measured}, indent=2) + "\n")
    return measured


def model_spec(run: Path) -> dict[str, Any]:
    """Return the fields of an `edge.spec.ModelSpec` for a run's ``best.keras``.

    Output roles are the names of the Keras outputs; the converter replaces the values by its tensors' names.

    Raises:
        FileNotFoundError: `run` lacks ``best.keras`` or ``config.json``.
    """
    config = json.loads((run / "config.json").read_text())
    model = load_best(run)
    height, width = model.input_shape[1:3]
    source = run / "best.keras"
    licences = ["Apache-2.0"] if config["backbone_weights"] else []
    licences += [config["data_licence"]] if config.get("data_licence") else []
    credits = [f"Backbone: {BACKBONE}."] if config["backbone_weights"] else []
    credits += [config["attribution"]] if config.get("attribution") else []
    data_name = config.get("training_data") or Path(config["data"]).name
    return {
        "name": model.name,
        "task": "detect",
        "input": {
            "size_wh": (width, height),
            "layout": "NHWC",
            "color": "RGB",
            "mean": (0.0,),
            "std": (255.0,),
            "resize": "letterbox-center",
            "pad_value": PAD_VALUE,
        },
        "decoder": {
            "name": "anchor_free",
            "outputs": {name: name for name in output_names()},
            "params": {"strides": list(STRIDES)},
        },
        "iou": NMS_IOU,
        "labels": tuple(config["labels"]),
        "provenance": {
            "source": f"{model.name} trained by models.train_detector, seed {config['seed']}",
            "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "licence": " AND ".join(licences) or None,
            "attribution": " ".join(credits) or None,
            "training_data": data_name,
        },
        "accuracy": tuple(
            {
                "dataset": f"{data_name}, {split} split, {scores['images']} images, float32 Keras model",
                "metrics": {"mAP50": scores["ap50"], "mAP50-95": scores["ap"]},
            }
            for split, scores in _accuracy(run).items()
        ),
    }


def _accuracy(run: Path) -> dict[str, Any]:
    file = run / ACCURACY_FILE
    return dict(json.loads(file.read_text())) if file.exists() else {}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line: measure the splits that are asked for, then print the fields as JSON."""
    parser = argparse.ArgumentParser(prog="python -m models.export_detector", description="Describe a trained run.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument(
        "--measure", action="append", default=[], choices=["valid", "test"], help="measure a split first"
    )
    parser.add_argument("--data", type=Path, help="zip or folder (default: the run's own)")
    parser.add_argument("--cache", type=Path, help="folder for decoded images (default: the run's own)")
    options = parser.parse_args(arguments)
    for split in options.measure:
        measure(options.run, split, options.data, options.cache)
    print(json.dumps(model_spec(options.run), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
