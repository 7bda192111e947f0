"""Quantisation-aware fine-tuning with the float network as teacher.

The network is run with the rounding of int8 in it, and its kernels and biases are trained until its outputs, and the
feature maps on the way, are those of the float network again. Labels are not needed: the float network's answer is
right by definition, on any picture. Rounding passes gradients straight through (Bengio et al., "Estimating or
Propagating Gradients Through Stochastic Neurons", 2013; Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", 2018).

Kernels move in units of their own int8 step, biases in units of their output's, and the ends of a tensor's range in
`_RANGE_STEPS` of its steps, so that one learning rate fits every layer of every network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import tensorflow as tf

from convert.rescue.importance import output_error, relative_error
from convert.rescue.network import CONVOLUTIONS, Float32, Network, channel_axis
from convert.rescue.ranges import free_scales
from convert.rescue.simulate import Range, forward, named_outputs
from edge.spec import ModelSpec

_WARM_UP = 0.05
_RANGE_STEPS = 4.0
"""Ranges are wanted to change by tenths where kernels change by hundredths."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        steps: Gradient steps.
        batch: Pictures a step.
        rate: Highest learning rate, in int8 steps of a kernel.
        features: Weight of the feature maps on the way against the outputs.
        decay: Of the moving average of the weights that is kept in the end.
        seed: Of order and augmentation.
        minutes: What it may take: fewer steps are made then, and the rate falls faster. What comes of it depends on the
            machine then. None for all steps.
    """

    steps: int = 1500
    batch: int = 8
    rate: float = 0.03
    features: float = 0.5
    decay: float = 0.99
    seed: int = 0
    minutes: float | None = None


@dataclass(frozen=True)
class Tuned:
    """What came of it: the loss on pictures kept back before and after so many steps, and the ranges in the end."""

    before: float
    after: float
    steps: int
    ranges: dict[int, Range]


def finetune(
    network: Network,
    ranges: Mapping[int, Range],
    samples: Sequence[Float32],
    names: Sequence[str],
    spec: ModelSpec,
    plan: Plan,
    keep: frozenset[int] = frozenset(),
) -> Tuned:
    """Train a network in place; it is left as it was where that does not help on pictures that were kept back.

    Args:
        network: The network, its own teacher as it comes.
        ranges: Of its activations in int8, from which the trained ones start.
        samples: Pictures, each float32 (1, H, W, C); every eighth is kept back.
        names: Of its outputs.
        spec: Says what the outputs are.
        plan: How long and how fast.
        keep: Output tensors of the operators that stay float.
    """
    held, used = np.concatenate(samples[::8]), [s for i, s in enumerate(samples) if i % 8] or list(samples)
    student = _Student(network, ranges, names, spec, plan, keep)
    before = student.loss_on(held, plan.batch)
    steps = len(student.train(np.concatenate(used)))
    after = student.loss_on(held, plan.batch)
    if after >= before:
        return Tuned(before, before, steps, dict(ranges))
    return Tuned(before, after, steps, student.store())


class _Student:
    """The network's kernels and biases as variables."""

    def __init__(
        self,
        network: Network,
        ranges: Mapping[int, Range],
        names: Sequence[str],
        spec: ModelSpec,
        plan: Plan,
        keep: frozenset[int],
    ) -> None:
        self._network, self._ranges, self._names, self._spec, self._plan = network, ranges, names, spec, plan
        self._keep = keep
        self._layers = [op for op in network.ops if op.kind in CONVOLUTIONS]
        self._start: list[Any] = []
        self._units: list[Any] = []
        for op in self._layers:
            kernel, bias = network.kernel(op)
            axes = tuple(axis for axis in range(kernel.ndim) if axis != channel_axis(op))
            unit = np.maximum(np.abs(kernel).max(axis=axes, keepdims=True), 1e-8) / 127
            low, high = ranges[op.outputs[0]]
            self._start += [kernel, bias]
            self._units += [unit, np.float32((high - low) / 255 if network.has_bias(op) else 0)]
        self._scales = free_scales(network, ranges)
        ends = np.array([ranges[tensors[0]] for tensors in self._scales], np.float32).reshape(-1, 2)
        self._start.append(ends)
        self._units.append((ends[:, 1:] - ends[:, :1]) * np.float32(_RANGE_STEPS / 255))
        self._moves = [tf.Variable(tf.zeros_like(value)) for value in self._start]
        self._average = [tf.Variable(move) for move in self._moves]
        self._optimizer = tf.keras.optimizers.Adam(_rate(plan.rate, 0.0), beta_2=0.99)
        self._optimizer.build(self._moves)
        self._features = _features(network)
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._measure = tf.function(self._loss, reduce_retracing=True)

    def _moved(self, moves: Sequence[Any]) -> tuple[dict[int, tuple[Any, Any]], dict[int, tuple[Any, Any]]]:
        """Return kernels and biases of convolutions, and ranges of activations."""
        *values, ends = (s + u * m for s, u, m in zip(self._start, self._units, moves, strict=True))
        kernels = {op.outputs[0]: (values[2 * i], values[2 * i + 1]) for i, op in enumerate(self._layers)}
        trained = {tensor: (ends[i, 0], ends[i, 1]) for i, tensors in enumerate(self._scales) for tensor in tensors}
        return kernels, {**self._ranges, **trained}

    def _loss(self, image: Any, moves: Sequence[Any]) -> Any:
        kernels, ranges = self._moved(moves)
        teacher = forward(self._network, image)
        student = forward(self._network, image, ranges, kernels, self._keep)
        loss = output_error(
            self._spec,
            named_outputs(self._network, self._names, teacher),
            named_outputs(self._network, self._names, student),
        )
        if self._features:
            parts = [relative_error(student[tensor], teacher[tensor]) for tensor in self._features]
            loss += self._plan.features * tf.add_n(parts) / len(parts)
        return loss

    def _train_step(self, image: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._moves)
            loss = self._loss(image, self._moves)
        gradients = tape.gradient(loss, self._moves, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients, _ = tf.clip_by_global_norm(gradients, 10.0)
        self._optimizer.apply_gradients(zip(gradients, self._moves, strict=True))
        for average, move in zip(self._average, self._moves, strict=True):
            average.assign(self._plan.decay * average + (1 - self._plan.decay) * move)
        return loss

    def train(self, images: Float32) -> list[float]:
        """Go through shuffled, augmented pictures; return the loss of each step."""
        random = np.random.default_rng(self._plan.seed)
        order: list[int] = []
        losses: list[float] = []
        limit_s = math.inf if self._plan.minutes is None else 60 * self._plan.minutes
        start = perf_counter()
        for step in range(self._plan.steps):
            progress = max(step / self._plan.steps, (perf_counter() - start) / limit_s)
            if progress >= 1:
                break
            self._optimizer.learning_rate = _rate(self._plan.rate, progress)
            while len(order) < self._plan.batch:
                order += random.permutation(len(images)).tolist()
            chosen, order = order[: self._plan.batch], order[self._plan.batch :]
            losses.append(float(self._step(tf.constant(_augmented(images[chosen], random)))))
            if step == 0:  # which traces the graph: preparation, not training
                start = perf_counter()
        return losses

    def loss_on(self, images: Float32, batch: int) -> float:
        """Return the mean loss, with the averaged weights."""
        parts = [images[i : i + batch] for i in range(0, len(images), batch)]
        losses = [float(self._measure(tf.constant(part), self._average)) for part in parts]
        return math.fsum(loss * len(part) for loss, part in zip(losses, parts, strict=True)) / len(images)

    def store(self) -> dict[int, Range]:
        """Write the averaged weights into the network, and return the averaged ranges."""
        kernels, ranges = self._moved(self._average)
        for op in self._layers:
            kernel, bias = kernels[op.outputs[0]]
            self._network.set_kernel(op, np.asarray(kernel), np.asarray(bias))
        return {tensor: (float(low), float(high)) for tensor, (low, high) in ranges.items()}


def _rate(highest: float, progress: float) -> float:
    """Return the learning rate: up for a twentieth of the training (progress 0..1), then down along a cosine."""
    if progress < _WARM_UP:
        return highest * (0.1 + 0.9 * progress / _WARM_UP)
    falling = (progress - _WARM_UP) / (1 - _WARM_UP)
    return highest * (0.01 + 0.99 * (1 + math.cos(math.pi * falling)) / 2)


def _features(network: Network) -> list[int]:
    """Return the feature maps that are compared: where blocks end, in additions and linear convolutions."""
    outputs = set(network.outputs)
    readers = network.readers()
    return [
        op.outputs[0]
        for op in network.ops
        if op.outputs[0] not in outputs
        and (op.kind == "ADD" or (op.kind == "CONV_2D" and op.activation == "NONE"))
        and not any(reader.kind in ("LEAKY_RELU", "RELU", "RELU6", "ADD") for reader in readers[op.outputs[0]])
    ]


def _augmented(images: Float32, random: np.random.Generator) -> Float32:
    """Return pictures mirrored, shifted and lit at random; the teacher sees the same."""
    result = images.copy()
    for i, image in enumerate(images):
        if random.random() < 0.5:
            image = image[:, ::-1]
        shift = tuple(int(random.integers(-side // 8, side // 8 + 1)) for side in image.shape[:2])
        result[i] = np.roll(image, shift, axis=(0, 1)) * np.float32(random.uniform(0.7, 1.2))
    return np.clip(result, images.min(), images.max())
