"""What a finished run leaves: its accuracy, pictures of its mistakes, and what the converter needs to know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from edge import __version__
from edge.spec import DecoderSpec, InputSpec, ModelSpec, Provenance
from edge.spec.model import Accuracy
from models.training.config import TrainConfig
from models.training.data import Split, TrainingData
from models.training.network import BOX, IMAGENET, SCORES
from models.training.pictures import draw_confusion, draw_samples
from models.training.run import RunFolder
from models.training.scores import Scores, iou

_CALIBRATION = 200
_MISTAKES = 24
_NOTICE = "ImageNet weights from Keras applications"


def write_report(
    run: RunFolder[TrainConfig], data: TrainingData, spec: InputSpec, evaluate: Callable[[Split, keras.Model], Scores]
) -> dict[str, Any]:
    """Measure the best network and write the summary, its pictures, and the calibration pictures.

    Args:
        run: A run with a ``best.keras``.
        data: What it was trained on.
        spec: Its input.
        evaluate: Measures a network on a split.

    Returns:
        The summary: per split the number of pictures and the metrics.
    """
    model = keras.saving.load_model(run.best, compile=False, safe_mode=True)
    splits = {"val": data.val} | ({"test": data.test} if data.test is not None else {})
    measured = {name: evaluate(split, model) for name, split in splits.items()}
    last = "test" if data.test is not None else "val"
    summary = {
        "model": run.config.model,
        "parameters": model.count_params(),
        "best_epoch": run.state.best_epoch,
        "epochs": run.state.epoch,
        "minutes": round(run.state.seconds / 60, 2),
        **{name: {"images": len(splits[name]), **scores.numbers} for name, scores in measured.items()},
    }
    run.write_text("summary.json", json.dumps(summary, indent=2) + "\n")
    for name, scores in measured.items():
        write_spec(run, spec, data, scores, name)
    _draw_mistakes(run, splits[last], measured[last], data.names, spec)
    matrix = measured[last].confusion
    run.replace(run.path / "confusion.png", lambda path: draw_confusion(matrix, data.names, path))
    write_calibration(run, len(data.train), lambda i: np.asarray(data.train.images[i]), spec.color)
    return summary


def write_spec(
    run: RunFolder[TrainConfig], spec: InputSpec, data: TrainingData, scores: Scores, split: str = "val"
) -> None:
    """Write ``best.spec.json``, the ModelSpec of the best network, which `edge convert` finds beside it."""
    config = run.config
    outputs = {SCORES: SCORES} if scores.boxes is None else {SCORES: SCORES, BOX: BOX}
    names = {"accuracy": "top1", "iou": "IoU", "both": "top1 and IoU>=0.5"}
    metrics = {names[key]: round(value, 5) for key, value in scores.numbers.items() if key in names}
    name = config.training_data or config.data.name
    credits = [_NOTICE] if config.weights == IMAGENET else []
    described = ModelSpec(
        name=config.model if config.task == "classifier" else f"{config.model}-localizer",
        task="classify",
        input=spec,
        decoder=DecoderSpec(
            name="classifier" if scores.boxes is None else "localizer", outputs=outputs, params={"activation": "none"}
        ),
        labels=data.names,
        provenance=Provenance(
            source=f"{config.model}, edge {__version__} train {config.task}, seed {config.seed}",
            source_sha256=hashlib.sha256(run.best.read_bytes()).hexdigest(),
            licence=config.licence,
            attribution="; ".join(filter(None, [config.attribution, *credits])) or None,
            training_data=name,
        ),
        accuracy=(Accuracy(dataset=f"{name} {split}, {len(scores.class_id)} images, float32 Keras", metrics=metrics),),
    )
    run.write_text("best.spec.json", described.model_dump_json(indent=1, exclude_none=True) + "\n")


def _draw_mistakes(
    run: RunFolder[TrainConfig], split: Split, scores: Scores, names: tuple[str, ...], spec: InputSpec
) -> None:
    """Write the pictures that the network is most wrong about; of a localiser, those with the worst boxes too."""
    wrong = scores.class_id != split.class_id
    badness = np.where(wrong, scores.losses, -1.0)
    if scores.boxes is not None and split.boxes_xyxy is not None:
        badness = badness.clip(0) + 3 * (1 - iou(scores.boxes, split.boxes_xyxy))
        wrong = badness > 0
    worst = np.argsort(-badness, kind="stable")[: min(_MISTAKES, int(wrong.sum()))]
    if not len(worst):
        return
    images = np.asarray(split.images[worst])
    images = images[..., ::-1] if spec.color == "BGR" else images
    titles = [
        f"{names[split.class_id[i]]} -> {names[scores.class_id[i]]} {scores.confidence[i]:.2f}" for i in worst.tolist()
    ]
    scale = np.array([images.shape[2], images.shape[1]] * 2, np.float32)
    boxes = None if scores.boxes is None else scores.boxes[worst] * scale
    truth = None if split.boxes_xyxy is None or boxes is None else split.boxes_xyxy[worst] * scale
    run.replace(
        run.path / "mistakes.png", lambda path: draw_samples(images, titles, path, boxes=boxes, boxes_true=truth)
    )


def write_calibration(run: RunFolder[Any], count: int, picture: Callable[[int], NDArray[np.uint8]], color: str) -> None:
    """Write pictures of the training split, evenly drawn, as the network saw them.

    Args:
        run: Gets a folder ``calibration``.
        count: Number of training pictures.
        picture: Gives one by its index: uint8 (H, W, C).
        color: Their channel order, "RGB", "BGR" or "GRAY".
    """
    folder = run.path / "calibration"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(run.config.seed)
    for number, index in enumerate(rng.permutation(count)[:_CALIBRATION]):
        image = picture(int(index))
        encoded = cv2.imencode(".png", image[..., ::-1] if color == "RGB" else image)[1].tobytes()
        (folder / f"{number:03d}.png").write_bytes(encoded)
