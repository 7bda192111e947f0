"""The training loop: `train` carries a run from where it stands to its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edge.errors import InputError
from edge.spec import InputSpec
from models.detection.loss import ciou
from models.training.augment import POLICIES, Augmenter, without_rotation
from models.training.config import TrainConfig
from models.training.data import Split, TrainingData, batches, epoch_order, load_training_data
from models.training.network import BOX, SCORES, Network, Phase, build_network, input_spec, phases
from models.training.pictures import draw_curves, draw_samples
from models.training.report import write_report, write_spec
from models.training.reporter import Reporter
from models.training.run import RunFolder
from models.training.scores import Scores, measure

_WARM_UP = 0.05
_FLOOR = 0.01
"""The rate rises over the first share of a phase, and its cosine ends at the second share of its peak."""

_EVALUATION_PIXELS = 1 << 22
_EVALUATION_BATCH = 256
"""Pixels and pictures that are evaluated at once at most: activations of large pictures take gigabytes."""


class _Steps(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    def __init__(self, tell: Callable[[dict[str, float]], None]) -> None:
        super().__init__()
        self._tell = tell

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._tell(logs or {})


def train(run: RunFolder[TrainConfig], reporter: Reporter, cache: Path | None = None) -> dict[str, Any]:
    """Train, from the last checkpoint of the run when it has one, and write the report.

    Args:
        run: The run; its state moves on with every epoch.
        reporter: Told how it goes.
        cache: Folder for decoded pictures; a folder in the run when None.

    Returns:
        The summary that ``summary.json`` holds.

    Raises:
        InputError: The data, the network or the checkpoint cannot be used, or the loss is no number any more.
        OutputError: The run folder cannot be written.
    """
    config = run.config
    tf.config.experimental.enable_op_determinism()
    spec = input_spec(config)
    data = load_training_data(
        config.data, spec, cache or run.path / "cache", config.val_fraction, config.seed, reporter.loading
    )
    if config.task == "localizer" and data.train.boxes_xyxy is None:
        raise InputError(f"{config.data}: a localizer needs boxes; expected COCO annotations/instances_train.json")
    network = build_network(config, spec, len(data.names))
    plan = phases(config, network)
    run.begin(data.names)
    feed = _Feed(run, data.train, spec, len(data.names))
    feed.draw_augmented(data.names)

    state = run.state
    resumed = state.epoch > 0
    while state.phase < len(plan):
        phase = plan[state.phase]
        steps = math.ceil(len(data.train) / config.batch_size)
        network.freeze(phase.frozen)
        _compile(network.model, run, phase, steps)
        if resumed:
            _restore(network.model, run)
            resumed = False
        while state.phase_epoch < phase.epochs and not _out_of_patience(run):
            _epoch(run, network, phase, data, feed, spec, steps, reporter)
        state.phase += 1
        state.phase_epoch, state.phase_best, state.phase_best_epoch = 0, -1.0, state.epoch
        if state.phase < len(plan) or not state.epoch:
            run.save_state(network.model.save_weights)
    return write_report(run, data, spec, lambda split, model: evaluate(model, split, spec, len(data.names)))


def _epoch(
    run: RunFolder[TrainConfig],
    network: Network,
    phase: Phase,
    data: TrainingData,
    feed: _Feed,
    spec: InputSpec,
    steps: int,
    reporter: Reporter,
) -> None:
    state = run.state
    reporter.epoch_began(phase.name, state.phase_epoch + 1, phase.epochs, steps)
    began = time.monotonic()
    history = network.model.fit(
        feed(state.epoch), epochs=1, verbose=0, shuffle=False, callbacks=[_Steps(reporter.step)]
    ).history
    took = time.monotonic() - began
    logs = {key: values[-1] for key, values in history.items()}
    if not math.isfinite(logs["loss"]):
        raise InputError(
            f"{run.path}: the loss became {logs['loss']} in epoch {state.epoch + 1}; start again with a lower "
            "--learning-rate"
        )
    scores = evaluate(network.model, data.val, spec, len(data.names))
    state.epoch += 1
    state.phase_epoch += 1
    state.seconds += took
    accuracy = logs.get(f"{SCORES}_accuracy", logs.get("accuracy", math.nan))
    metrics: dict[str, Any] = {"epoch": state.epoch, "phase": phase.name}
    metrics |= {"loss": round(logs["loss"], 5), "accuracy": round(accuracy, 5)}
    metrics |= {f"val_{key}": round(value, 5) for key, value in scores.numbers.items()}
    metrics |= {"learning_rate": float(f"{float(network.model.optimizer.learning_rate):.3g}")}
    metrics |= {"images_per_s": round(len(data.train) / took, 1), "minutes": round(state.seconds / 60, 2)}
    if scores.selection > state.phase_best:
        state.phase_best, state.phase_best_epoch = scores.selection, state.epoch
    if scores.selection > state.best:
        state.best, state.best_epoch = scores.selection, state.epoch
        run.replace(run.best, network.save)
        write_spec(run, spec, data, scores)
    run.log(metrics)
    run.save_state(network.model.save_weights)
    run.replace(run.path / "curves.png", lambda path: draw_curves(run.metrics(), path))
    reporter.epoch_ended({**metrics, "best": state.best_epoch == state.epoch})


def _out_of_patience(run: RunFolder[TrainConfig]) -> bool:
    return 0 < run.config.patience <= run.state.epoch - run.state.phase_best_epoch


class _Feed:
    """The augmented, normalised batches of each epoch, the same ones whenever that epoch is trained."""

    def __init__(self, run: RunFolder[TrainConfig], split: Split, spec: InputSpec, classes: int) -> None:
        config = run.config
        policy = POLICIES[config.augment or ("digits" if spec.color == "GRAY" else "photos")]
        if config.task == "localizer":
            policy = without_rotation(policy)
        self._augmenter = Augmenter(policy)
        self._run, self._split, self._spec, self._classes = run, split, spec, classes

    def __call__(self, epoch: int) -> Any:
        """Return the dataset of an epoch."""
        config, split = self._run.config, self._split
        order = epoch_order(split.class_id, np.random.default_rng([config.seed, epoch]), config.balance)
        self._augmenter.reseed(config.seed, epoch)
        # One thread draws the random numbers: their order is what makes two runs equal.
        return batches(split, order, config.batch_size).map(self._prepare).prefetch(2)

    def _prepare(self, images: Any, class_id: Any, boxes: Any = None) -> tuple[Any, Any]:
        pixels, boxes = self._augmenter(tf.cast(images, tf.float32), boxes)
        truth = tf.one_hot(class_id, self._classes)
        return normalise(pixels, self._spec), truth if boxes is None else {SCORES: truth, BOX: boxes}

    def draw_augmented(self, names: tuple[str, ...]) -> None:
        """Write a picture of what the network will see."""
        split = self._split
        order = epoch_order(split.class_id, np.random.default_rng(self._run.config.seed), False)[:24]
        self._augmenter.reseed(self._run.config.seed, 0)
        given = None if split.boxes_xyxy is None else tf.constant(split.boxes_xyxy[order])
        pixels, boxes = self._augmenter(tf.cast(split.images[order], tf.float32), given)
        images = _displayed(np.clip(pixels, 0, 255).astype(np.uint8), self._spec)
        titles = [names[i] for i in split.class_id[order]]
        scale = np.array([images.shape[2], images.shape[1]] * 2, np.float32)
        drawn = None if boxes is None else np.asarray(boxes) * scale
        target = self._run.path / "augmented.png"
        self._run.replace(target, lambda path: draw_samples(images, titles, path, boxes=drawn))


def _displayed(images: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.uint8]:
    return images[..., ::-1] if spec.color == "BGR" else images


def normalise(pixels: Any, spec: InputSpec) -> Any:
    """Return (pixel - mean) / std, as the runtime's table does it on the device."""
    return (tf.cast(pixels, tf.float32) - tf.constant(spec.mean)) / tf.constant(spec.std)


def evaluate(model: keras.Model, split: Split, spec: InputSpec, classes: int) -> Scores:
    """Measure a network on a split, without augmentation."""
    order = np.arange(len(split))
    batch = max(1, min(_EVALUATION_BATCH, _EVALUATION_PIXELS // int(np.prod(split.images.shape[1:3]))))
    dataset = batches(split, order, batch).map(lambda images, *truth: normalise(images, spec))
    outputs = model.predict(dataset, verbose=0)
    scores, boxes = (outputs[SCORES], outputs[BOX]) if isinstance(outputs, dict) else (outputs, None)
    return measure(scores, boxes, split.class_id, split.boxes_xyxy)


def _box_loss(truth: Any, boxes: Any) -> Any:
    """1 - CIoU (Zheng et al. 2020) of corners (B, 4), fractions of the picture."""
    # In hundredths, so that the guards against division by zero in `ciou` stay far below a real box.
    return 1.0 - ciou(tf.cast(boxes, tf.float32) * 100.0, truth * 100.0)


def _compile(model: keras.Model, run: RunFolder[TrainConfig], phase: Phase, steps: int) -> None:
    config = run.config
    total = max(1, steps * phase.epochs)
    warm = max(1, round(_WARM_UP * total))
    schedule = keras.optimizers.schedules.CosineDecay(
        phase.learning_rate / warm,
        max(1, total - warm),
        alpha=_FLOOR,
        warmup_target=phase.learning_rate,
        warmup_steps=warm,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, clipnorm=10.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    loss: Any = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    metric: Any = keras.metrics.CategoricalAccuracy(name="accuracy")
    weights = None
    if config.task == "localizer":
        loss, metric = {SCORES: loss, BOX: _box_loss}, {SCORES: metric}
        weights = dict(zip((SCORES, BOX), config.loss_weights, strict=True))
    model.compile(optimizer=optimizer, loss=loss, metrics=metric if weights else [metric], loss_weights=weights)
    model.optimizer.build(model.trainable_variables)


def _restore(model: keras.Model, run: RunFolder[TrainConfig]) -> None:
    try:
        model.load_weights(run.checkpoint)
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"{run.checkpoint}: not a checkpoint of this run ({str(error).splitlines()[0]})") from error
