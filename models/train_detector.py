"""Training of the small detector: ``python -m models.train_detector --data DATA --run DIR``.

A run folder holds ``config.json``, ``metrics.jsonl`` (one line per epoch), ``last.npz`` (everything needed to resume),
``best.keras`` (averaged weights of the best validation so far, ready to deploy) and ``labels.txt``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.augment import Augmentation, batches
from models.detection_data import DetectionSplit, epoch_order, load_split
from models.detection_eval import average_precision, detect
from models.detection_loss import detection_loss
from models.edge_yolo import edge_yolo_n

log = logging.getLogger(__name__)

_SIZE_STEP = 32


@dataclass(frozen=True)
class DetectorConfig:
    """What a training run depends on.

    Attributes:
        data: Zip or folder, see `models.detection_data`.
        run: Folder of the run.
        epochs: Epochs of the schedule.
        max_minutes: Minutes of training after which the schedule ends even if epochs are left; 0 for no limit. All
            schedules follow whichever of the two is further, so a slow machine gets a short but complete schedule.
        seed: Seed of weights, order and augmentation.
        size: Side of the input in pixels; the first half of the run uses 0.8 of it.
        batch_size: Images per step.
        learning_rate: Peak of the cosine schedule.
        weight_decay: AdamW's, on kernels only.
        ema: Decay per step of the averaged weights.
        mosaic: Probability of a mosaic; none in the last fifth of the run.
        rare_threshold: Images of classes shown in fewer than this fraction of images are repeated.
        eval_every: Epochs between two validations.
        width: Channels of the feature pyramid.
        backbone_weights: "imagenet", a file, or None for random ones.
        cache: Folder for decoded images; ``run/cache`` when None.
        training_data: Name, version and author of the data, for the file that is deployed.
        data_licence: SPDX identifier of the data's licence.
        attribution: Text that the data's licence asks to travel with the model.
    """

    data: Path
    run: Path
    epochs: int = 60
    max_minutes: float = 0.0
    seed: int = 0
    size: int = 320
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema: float = 0.998
    mosaic: float = 0.6
    rare_threshold: float = 0.35
    eval_every: int = 3
    width: int = 64
    backbone_weights: str | None = "imagenet"
    cache: Path | None = None
    training_data: str | None = None
    data_licence: str | None = None
    attribution: str | None = None


def learning_rate_at(progress: float, peak: float) -> float:
    """Return the rate at a progress of 0..1: linear warm-up over the first 3%, then a cosine down to 2% of `peak`."""
    if progress < 0.03:
        return peak * max(progress, 0.001) / 0.03
    return peak * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - 0.03) / 0.97))))


def size_at(progress: float, size: int) -> int:
    """Return the side for a progress of 0..1: 0.8 of `size`, to a multiple of 32, in the first half."""
    return size if progress >= 0.5 else max(_SIZE_STEP, round(0.8 * size / _SIZE_STEP) * _SIZE_STEP)


class DetectorTrainer:
    """The weights of a run, their average, the optimiser, and the step that moves them."""

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        """Build the model that is trained (any size) and the one that is deployed (fixed size, averaged weights)."""
        keras.utils.set_random_seed(config.seed)
        self.config = config
        self.model = edge_yolo_n(num_classes, None, config.width, config.backbone_weights)
        self.average = edge_yolo_n(num_classes, (config.size, config.size), config.width, None)
        self.average.set_weights(self.model.get_weights())
        self.optimizer = keras.optimizers.AdamW(
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, global_clipnorm=10.0
        )
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        self.optimizer.build(self.model.trainable_variables)
        self.epoch = 0
        self.seconds = 0.0
        self.best = -1.0
        self._step = tf.function(
            self._train_step,
            input_signature=[
                tf.TensorSpec((None, None, None, 3), tf.uint8),
                tf.TensorSpec((None, None, 5), tf.float32),
            ],
        )
        self.predict = tf.function(lambda images: self.average(images, training=False), reduce_retracing=True)

    def _train_step(self, images: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = self.model(tf.cast(images, tf.float32) / 255.0, training=True)
            class_loss, box_loss = detection_loss(outputs, truth)
            loss = class_loss + box_loss
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        # The average starts short, or the first thousand steps would drag the random start along.
        steps = tf.cast(self.optimizer.iterations.value, tf.float32)
        decay = tf.minimum(self.config.ema, (1.0 + steps) / (10.0 + steps))
        for averaged, current in zip(self.average.weights, self.model.weights, strict=True):
            averaged.assign(averaged * decay + current * (1.0 - decay))
        return tf.stack([class_loss, box_loss])

    def progress(self, fraction: float = 0.0) -> float:
        """Return how far the schedule is, 0..1, `fraction` into the current epoch."""
        done = (self.epoch + fraction) / self.config.epochs
        if self.config.max_minutes > 0:
            done = max(done, self.seconds / (60.0 * self.config.max_minutes))
        return min(done, 1.0)

    def run_epoch(self, split: DetectionSplit) -> dict[str, Any]:
        """Train one epoch, or what of it the time allows, and return its metrics."""
        config, began = self.config, self.progress()
        size = size_at(began, config.size)
        seed = [config.seed, self.epoch]
        order = epoch_order(split, np.random.default_rng(seed), config.rare_threshold)
        if len(order) < config.batch_size:
            order = np.resize(order, config.batch_size)
        augmentation = Augmentation(mosaic=config.mosaic if began < 0.8 else 0.0)
        total, steps, rate = np.zeros(2), 0, 0.0
        start, carried = time.monotonic(), self.seconds
        feed = batches(split, order, config.batch_size, size, seed, augmentation)
        try:
            for images, truth in feed:
                progress = self.progress(steps * config.batch_size / len(order))
                if progress >= 1.0:
                    break
                rate = learning_rate_at(progress, config.learning_rate)
                self.optimizer.learning_rate = rate
                losses = self._step(tf.constant(images), tf.constant(truth)).numpy()
                if not np.isfinite(losses).all():
                    raise FloatingPointError(f"loss became {losses.tolist()} in epoch {self.epoch}, step {steps}")
                total += losses
                steps += 1
                self.seconds = carried + time.monotonic() - start
        finally:
            feed.close()
        self.epoch += 1
        taken = max(time.monotonic() - start, 1e-9)
        class_loss, box_loss = (total / max(steps, 1)).tolist()
        return {
            "epoch": self.epoch,
            "progress": round(self.progress(), 4),
            "class_loss": round(class_loss, 4),
            "box_loss": round(box_loss, 4),
            "learning_rate": float(f"{rate:.3g}"),
            "size": size,
            "images_per_s": round(steps * config.batch_size / taken, 1),
            "minutes": round(self.seconds / 60, 2),
        }

    def save(self, path: Path) -> None:
        """Write everything that `restore` needs; a run killed meanwhile keeps the file that was there."""
        arrays = {f"weight_{i}": value for i, value in enumerate(self.model.get_weights())}
        arrays |= {f"average_{i}": value for i, value in enumerate(self.average.get_weights())}
        arrays |= {f"optimizer_{i}": np.asarray(var) for i, var in enumerate(self.optimizer.variables)}
        partial = path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, **arrays, state=np.array([self.epoch, self.seconds, self.best]))
        os.replace(partial, path)

    def restore(self, path: Path) -> None:
        """Continue from a file of `save`.

        Raises:
            ValueError: The file belongs to another architecture.
        """
        with np.load(path) as arrays:
            targets = {"weight": self.model.weights, "average": self.average.weights}
            for kind, variables in {**targets, "optimizer": self.optimizer.variables}.items():
                for index, variable in enumerate(variables):
                    variable.assign(arrays[f"{kind}_{index}"])
            epoch, self.seconds, self.best = arrays["state"].tolist()
        self.epoch = int(epoch)


def _write_run_files(config: DetectorConfig, labels: tuple[str, ...]) -> None:
    config.run.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(config).items()}
    (config.run / "config.json").write_text(json.dumps({**settings, "labels": labels}, indent=2) + "\n")
    (config.run / "labels.txt").write_text("\n".join(labels) + "\n")


def train(
    config: DetectorConfig, resume: bool = False, on_epoch: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Train a detector and leave the best one in ``best.keras``.

    Args:
        config: The run.
        resume: Continue from ``last.npz`` when there is one; at most the epoch under way is lost.
        on_epoch: Called with the metrics of each epoch after they and the checkpoint are written.

    Returns:
        The metrics of the last epoch, with ``best_ap``: the best AP (0.50:0.95) on the valid split.

    Raises:
        FileExistsError: The folder holds a run already and `resume` is not set.
        FileNotFoundError: The data set or one of its splits is missing.
        ValueError: The data set, the size or the checkpoint does not fit.
        FloatingPointError: The loss became infinite or not a number.
    """
    last = config.run / "last.npz"
    if last.exists() and not resume:
        raise FileExistsError(f"{config.run} holds a run already: resume it or choose another folder")
    cache = config.cache or config.run / "cache"
    splits = {name: load_split(config.data, name, cache, config.size) for name in ("train", "valid")}
    trainer = DetectorTrainer(config, len(splits["train"].labels))
    if last.exists():
        trainer.restore(last)
        log.info("resumed %s after epoch %d", config.run, trainer.epoch)
    _write_run_files(config, splits["train"].labels)

    metrics: dict[str, Any] = {"epoch": trainer.epoch}
    while trainer.progress() < 1.0:
        metrics = trainer.run_epoch(splits["train"])
        if trainer.epoch % config.eval_every == 0 or trainer.progress() >= 1.0:
            scores = average_precision(splits["valid"], detect(trainer.predict, splits["valid"]))
            metrics |= scores
            if scores["ap"] > trainer.best:
                trainer.best = scores["ap"]
                partial = config.run / "partial.keras"
                trainer.average.save(partial)
                os.replace(partial, config.run / "best.keras")
        trainer.save(last)
        with (config.run / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(metrics) + "\n")
        if on_epoch is not None:
            on_epoch(metrics)
    return {**metrics, "best_ap": trainer.best}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.train_detector", description="Train the small detector.")
    parser.add_argument("--data", type=Path, required=True, help="zip or folder with COCO annotations")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    parser.add_argument("--cache", type=Path, help="folder for decoded images (default: RUN/cache)")
    parser.add_argument("--training-data", help="name, version and author of the data")
    parser.add_argument("--data-licence", help="SPDX identifier of the data's licence")
    parser.add_argument("--attribution", help="text that must travel with the model")
    parser.add_argument("--backbone-weights", default="imagenet", help="imagenet, none or a file")
    defaults = {field.name: field.default for field in dataclasses.fields(DetectorConfig)}
    for name in ("epochs", "seed", "size", "batch_size", "eval_every", "width"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=defaults[name], help="%(default)s")
    for name in ("max_minutes", "learning_rate", "weight_decay", "ema", "mosaic", "rare_threshold"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=defaults[name], help="%(default)s")
    options = vars(parser.parse_args(arguments))
    resume = options.pop("resume")
    if options["backbone_weights"] == "none":
        options["backbone_weights"] = None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(DetectorConfig(**options), resume, on_epoch=lambda metrics: print(json.dumps(metrics), flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
