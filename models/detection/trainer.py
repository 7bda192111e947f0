"""The weights of a detector's training run, their average, the optimiser, and the steps that move them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import InputError
from models.detection.augment import Augmentation, batches
from models.detection.config import DetectorConfig
from models.detection.data import Pool, epoch_order
from models.detection.deployed import Deployed, deployed_spec
from models.detection.heads import HEADS, Head
from models.detection.heads.anchor_free import distillation_loss
from models.detection.network import edge_yolo
from models.detection.weights import Start, set_folded, teaching

_SIZE_STEP = 32
_WARM_UP = 0.03
_LAST_PLAIN = 0.8
"""Progress from which pictures are seen one at a time and at the size of the device."""


def learning_rate_at(progress: float, peak: float) -> float:
    """Return the rate at a progress of 0..1: linear warm-up over the first 3%, then a cosine down to 2% of `peak`."""
    if progress < _WARM_UP:
        return peak * max(progress, 0.001) / _WARM_UP
    return peak * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - _WARM_UP) / (1 - _WARM_UP)))))


def sizes_at(progress: float, size: int) -> tuple[int, ...]:
    """Return the sides that batches have at a progress of 0..1.

    Around 0.8 of `size` in the first half, around `size` then, and `size` alone in the last fifth.
    """
    if progress >= _LAST_PLAIN:
        return (size,)
    middle = size if progress >= 0.5 else max(_SIZE_STEP, round(0.8 * size / _SIZE_STEP) * _SIZE_STEP)
    return tuple(side for side in (middle - _SIZE_STEP, middle, middle + _SIZE_STEP) if side >= _SIZE_STEP)


def make_head(name: str, anchors: Any = None) -> Head:
    """Return the head of a name, with its anchors where it has some."""
    module, kind = HEADS[name].split(":")
    made: Head = getattr(import_module(module), kind)(*([] if anchors is None else [anchors]))
    return made


class DetectorTrainer:
    """A run's networks and optimiser."""

    def __init__(
        self,
        config: DetectorConfig,
        labels: tuple[str, ...],
        head: Head,
        start: Start | None = None,
        teacher: Start | None = None,
    ) -> None:
        """Build the network that is trained (any size) and the one that is deployed (fixed size, averaged weights).

        Args:
            config: The run's.
            labels: Class names.
            head: Of `make_head`.
            start: Of `load_start`; None for none, or where `restore` brings the weights of the run itself.
            teacher: Of `load_start`, for the same classes; None for none.

        Raises:
            InputError: The weights to start from cannot be used.
        """
        keras.utils.set_random_seed(config.seed)
        self.config = config
        self.head = head
        self.spec = deployed_spec(config.model, config.size, labels, head)
        self.folded = config.start_file is not None
        backbone = "imagenet" if config.weights == "imagenet" else None
        size = config.model.removeprefix("edge-yolo-")
        self.model = edge_yolo(size, len(labels), None, backbone, self.folded, head)
        if start is not None:
            set_folded(self.model, *start, labels)
        side = (config.size, config.size)
        self.average = edge_yolo(size, len(labels), side, None, self.folded, head)
        self.average.set_weights(self.model.get_weights())
        self.teacher = None if teacher is None else teaching(*teacher, labels)
        self.optimizer = keras.optimizers.AdamW(
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, global_clipnorm=10.0
        )
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        self.optimizer.build(self.model.trainable_variables)
        self.epoch = 0
        self.seconds = 0.0
        self._step = tf.function(
            self._train_step,
            input_signature=[
                tf.TensorSpec((None, None, None, 3), tf.uint8),
                tf.TensorSpec((None, None, 5), tf.float32),
            ],
        )
        predict = tf.function(lambda images: self.average(images, training=False), reduce_retracing=True)
        self.deployed = Deployed(predict, self.spec)

    def _train_step(self, images: Any, truth: Any) -> Any:
        pixels = tf.cast(images, tf.float32) / 255.0
        taught = None if self.teacher is None else self.teacher(pixels, training=False)
        with tf.GradientTape() as tape:
            outputs = self.model(pixels, training=True)
            class_loss, box_loss = self.head.loss(outputs, truth)
            if taught is not None:
                of_classes, of_boxes = distillation_loss(outputs, taught)
                class_loss, box_loss = class_loss + of_classes, box_loss + of_boxes
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

    def augmentation(self, progress: float) -> Augmentation:
        """Return what is done to pictures at a progress of 0..1."""
        return Augmentation(mosaic=self.config.mosaic if progress < _LAST_PLAIN else 0.0)

    def order(self, pool: Pool) -> NDArray[np.int64]:
        """Return the image indices of the current epoch, at least one batch of them."""
        config = self.config
        order = epoch_order(pool, np.random.default_rng([config.seed, self.epoch]), config.rare_threshold)
        return order if len(order) >= config.batch_size else np.resize(order, config.batch_size)

    def run_epoch(
        self, pool: Pool, order: NDArray[np.int64], told: Callable[[dict[str, float]], None] = lambda logs: None
    ) -> dict[str, Any]:
        """Train one epoch, or what of it the time allows, and return its metrics.

        Args:
            pool: The data.
            order: Of `order`.
            told: Called after each step with the running mean of the loss.

        Raises:
            InputError: The loss is no number any more.
        """
        config, began = self.config, self.progress()
        seed = [config.seed, self.epoch]
        total, steps, rate = np.zeros(2), 0, 0.0
        start, carried = time.monotonic(), self.seconds
        sizes = sizes_at(began, config.size)
        feed = batches(pool, order, config.batch_size, sizes, seed, self.augmentation(began))
        try:
            for images, truth in feed:
                progress = self.progress(steps * config.batch_size / len(order))
                if progress >= 1.0:
                    break
                rate = learning_rate_at(progress, config.learning_rate)
                self.optimizer.learning_rate = rate
                losses = self._step(tf.constant(images), tf.constant(truth)).numpy()
                if not np.isfinite(losses).all():
                    raise InputError(
                        f"{config.data}: the loss became {losses.tolist()} in epoch {self.epoch + 1}; start again with "
                        "a lower --learning-rate"
                    )
                total += losses
                steps += 1
                self.seconds = carried + time.monotonic() - start
                told({"loss": float(total.sum()) / steps})
        finally:
            feed.close()
        self.epoch += 1
        taken = max(time.monotonic() - start, 1e-9)
        class_loss, box_loss = (total / max(steps, 1)).tolist()
        return {
            "epoch": self.epoch,
            "progress": round(self.progress(), 4),
            "loss": round(class_loss + box_loss, 4),
            "class_loss": round(class_loss, 4),
            "box_loss": round(box_loss, 4),
            "learning_rate": float(f"{rate:.3g}"),
            "size": max(sizes),
            "images_per_s": round(steps * config.batch_size / taken, 1),
            "minutes": round(self.seconds / 60, 2),
        }

    def save(self, path: Path) -> None:
        """Write everything that `restore` needs."""
        arrays = {f"weight_{i}": value for i, value in enumerate(self.model.get_weights())}
        arrays |= {f"average_{i}": value for i, value in enumerate(self.average.get_weights())}
        arrays |= {f"optimizer_{i}": np.asarray(var) for i, var in enumerate(self.optimizer.variables)}
        with path.open("wb") as stream:
            np.savez(stream, **arrays, state=np.array([self.epoch, self.seconds]))

    def restore(self, path: Path) -> None:
        """Continue from a file of `save`.

        Raises:
            InputError: The file cannot be read or belongs to another network.
        """
        try:
            with np.load(path) as arrays:
                targets = {"weight": self.model.weights, "average": self.average.weights}
                for kind, variables in {**targets, "optimizer": self.optimizer.variables}.items():
                    for index, variable in enumerate(variables):
                        variable.assign(arrays[f"{kind}_{index}"])
                epoch, self.seconds = arrays["state"].tolist()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: not a checkpoint of this run ({str(error).splitlines()[0]})") from error
        self.epoch = int(epoch)
