"""The network of a run: an architecture with its heads, and which of its layers learn in which phase."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

import models.layers  # noqa: F401  registers the layers that a file of weights may name
from edge.errors import InputError
from edge.spec import InputSpec
from models import MODELS, Architecture, architecture, build
from models.training.config import TrainConfig

log = logging.getLogger(__name__)

IMAGENET = "imagenet"
SCORES, BOX = "scores", "box"
"""Names of the two heads, and of their outputs."""

_BOX_CHANNELS = 64
_LOAD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, ImportError, IndexError, OSError, RuntimeError)


class Phase(NamedTuple):
    """A stretch of training with one learning-rate schedule.

    Attributes:
        name: For people: "train", "head" or "fine-tune".
        epochs: Its length.
        learning_rate: Its peak.
        frozen: Base layers that do not learn: a number of them from the input on; None for all.
    """

    name: str
    epochs: int
    learning_rate: float
    frozen: int | None


class Network(NamedTuple):
    """What is trained.

    Attributes:
        model: From normalised pixels (B, H, W, C) to "scores" (B, classes), or to a dictionary with "box" (B, 4) too.
        base: Its layers but for the heads, from the input on.
        pretrained: Whether the base has learnt before: then its batch normalisation keeps its statistics.
    """

    model: keras.Model
    base: list[Any]
    pretrained: bool

    def save(self, path: Path) -> None:
        """Write the network as it is deployed: what it was trained with stays out of the file."""
        keras.Model(self.model.inputs, self.model.output, name=self.model.name).save(path)

    def freeze(self, count: int | None) -> None:
        """Keep the first `count` base layers (None: all) from learning."""
        for number, layer in enumerate(self.base):
            normalises = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = count is not None and number >= count and not (self.pretrained and normalises)


def input_spec(config: TrainConfig) -> InputSpec:
    """Return how pictures become the network's input: what its weights were made for, or 0..1.

    Raises:
        InputError: The network is unknown, or its published weights do not take what the configuration asks for.
    """
    row = _row(config)
    height, width, channels = row.input_shape
    color: str = "GRAY" if channels == 1 else "RGB"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    if config.weights == IMAGENET:
        if row.pretrained is None:
            known = ", ".join(name for name, other in MODELS.items() if other.pretrained)
            raise InputError(f"--weights imagenet: there are none for {config.model}; there are for {known}")
        color, mean, std = row.pretrained
        if config.color not in (None, color):
            raise InputError(f"--color {config.color}: the ImageNet weights of {config.model} take {color}")
    elif config.weights is not None:
        spec = _spec_beside(Path(config.weights))
        if spec is not None:
            color, mean, std = spec.color, spec.mean, spec.std
    return InputSpec(
        size_wh=config.size_wh or (width, height),
        color=config.color or color,  # type: ignore[arg-type]
        mean=mean,
        std=std,
        resize=config.resize,
    )


def _row(config: TrainConfig) -> Architecture:
    row = architecture(config.model)
    if row.task != "classify":
        raise InputError(f"--model {config.model}: is a detector, expected a classification network (edge models list)")
    return row


def build_network(config: TrainConfig, spec: InputSpec, num_classes: int) -> Network:
    """Build the network, with its weights.

    Raises:
        InputError: It cannot take that input, or its weights cannot be had.
    """
    assert spec.size_wh is not None
    shape = (spec.size_wh[1], spec.size_wh[0], 1 if spec.color == "GRAY" else 3)
    keras.utils.set_random_seed(config.seed)
    with _precision(config.mixed_precision):
        try:
            weights = IMAGENET if config.weights == IMAGENET else None
            model = build(config.model, input_shape=shape, num_classes=num_classes, weights=weights)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise InputError(f"{config.model} cannot take {shape[1]} x {shape[0]} pixels: {_line(error)}") from error
        if config.dropout is not None:
            model = _with_dropout(model, config.dropout)
        if config.task == "localizer":
            model = _with_box(model, config.dropout)
    if config.weights not in (None, IMAGENET):
        _take_weights(model, Path(str(config.weights)))
    base = [layer for layer in model.layers if not layer.name.startswith((SCORES, BOX))]
    return Network(model, base, config.weights is not None)


def phases(config: TrainConfig, network: Network) -> list[Phase]:
    """Return the phases of a run.

    Raises:
        InputError: `fine_tune_from` names no layer.
    """
    start = _first_learning(config, network)
    if config.freeze_epochs:
        return [
            Phase("head", config.freeze_epochs, config.learning_rate, None),
            Phase("fine-tune", config.epochs, config.fine_tune_rate, start),
        ]
    return [Phase("train", config.epochs, config.learning_rate, start)]


def _first_learning(config: TrainConfig, network: Network) -> int:
    if isinstance(config.fine_tune_from, float):
        return int(config.fine_tune_from * len(network.base))
    names = [layer.name for layer in network.base]
    if config.fine_tune_from not in names:
        close = difflib.get_close_matches(config.fine_tune_from, names, 3, 0.3)
        raise InputError(
            f"--fine-tune-from {config.fine_tune_from}: {config.model} has no such layer; "
            f"did you mean {', '.join(close) or names[len(names) // 2]}? (edge models summary {config.model})"
        )
    return names.index(config.fine_tune_from)


def _with_dropout(model: keras.Model, rate: float) -> keras.Model:
    """Put this dropout before the class head, in place of the network's own."""
    head = model.get_layer(SCORES)
    before = head.input
    producer = before._keras_history.operation
    if isinstance(producer, keras.layers.Dropout):
        before = producer.input
    x = keras.layers.Dropout(rate, name=f"{SCORES}_dropout")(before)
    return keras.Model(model.input, type(head).from_config(head.get_config())(x), name=model.name)


def _with_box(model: keras.Model, dropout: float | None) -> keras.Model:
    """Lay a class head and a box head on the last feature map of a classifier.

    The box head sees every cell, because an average over the picture would forget where things are.
    """
    features = next(
        (x.output for x in reversed(model.layers) if len(x.output.shape) == 4 and x.output.shape[1] > 1), None
    )
    if features is None:
        raise InputError(f"{model.name}: no feature map is left at this input size; give a larger --size")
    classes = model.get_layer(SCORES).units
    x = keras.layers.GlobalAveragePooling2D(name=f"{SCORES}_pool")(features)
    x = keras.layers.Dropout(0.2 if dropout is None else dropout, name=f"{SCORES}_dropout")(x)
    scores = keras.layers.Dense(classes, activation="softmax", dtype="float32", name=SCORES)(x)
    y = keras.layers.Conv2D(_BOX_CHANNELS, 1, activation="relu", name=f"{BOX}_reduce")(features)
    y = keras.layers.Flatten(name=f"{BOX}_cells")(y)
    y = keras.layers.Dense(_BOX_CHANNELS * 2, activation="relu", name=f"{BOX}_hidden")(y)
    # Logits of 1/4 and 3/4: every box starts in the middle.
    middle = keras.initializers.Constant([-1.1, -1.1, 1.1, 1.1])
    box = keras.layers.Dense(4, activation="sigmoid", bias_initializer=middle, dtype="float32", name=BOX)(y)
    return keras.Model(model.input, {BOX: box, SCORES: scores}, name=model.name)


def _take_weights(model: keras.Model, path: Path) -> None:
    """Copy the weights of the layers of a file that have the same name and shapes here."""
    try:
        source = keras.saving.load_model(path, compile=False, safe_mode=True)
    except _LOAD_ERRORS as error:
        raise InputError(f"--weights {path}: not a Keras model ({_line(error)})") from error
    given = {layer.name: layer.get_weights() for layer in source.layers}
    taken = 0
    for layer in model.layers:
        values = given.get(layer.name, [])
        if values and [v.shape for v in values] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(values)
            taken += 1
    if not taken:
        raise InputError(f"--weights {path}: none of its layers has the name and shape of one of {model.name}")
    log.info("%s: weights of %d layers from %s", model.name, taken, path)


def _spec_beside(path: Path) -> InputSpec | None:
    try:
        data = json.loads(path.with_name(f"{path.stem}.spec.json").read_text(encoding="utf-8"))
        return InputSpec.model_validate(data["input"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _precision(mixed: bool) -> Iterator[None]:
    """Build layers that compute in 16 bits where the machine is fast at it."""
    before = keras.config.dtype_policy()
    if mixed:
        keras.config.set_dtype_policy("mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
