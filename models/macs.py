"""What a network costs: parameters and multiply-accumulates (MACs), layer by layer.

Counted are the multiplications of weights with activations for one picture: convolutions and dense layers. Batch
normalisation folds into them when a model is converted; additions, poolings and activations multiply no weights.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras

from models import build


class LayerCost(NamedTuple):
    """One layer of a network.

    Attributes:
        name: Its name.
        kind: Its class.
        output_shape: Of its output for one picture, without the batch.
        parameters: Numbers that it holds, batch-norm statistics included.
        trainable: Those of them that training moves.
        macs: Multiply-accumulates for one picture.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    macs: int


def measure(name: str, **kwargs: Any) -> list[LayerCost]:
    """Return the layers of a network, without ever giving its weights values.

    VGG-19 holds half a gigabyte of them, and to draw them takes longer than all the rest.

    Args:
        name: A key of `models.MODELS`.
        **kwargs: Of `models.build`.

    Raises:
        InputError: No network has this name.
    """

    def run() -> list[LayerCost]:
        with keras.StatelessScope(initialize_variables=False):
            return layer_costs(build(name, **kwargs))

    # Keras keeps a list of variables that still wait for values, one for each thread, and fills them the next time that
    # anything is built there: in a thread of its own they are forgotten.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def layer_costs(model: keras.Model) -> list[LayerCost]:
    """Return the layers of a flat functional model of fixed size, in order."""
    return [
        LayerCost(
            layer.name,
            type(layer).__name__,
            _shape(layer),
            _count(layer.weights),
            _count(layer.trainable_weights),
            macs(layer),
        )
        for layer in model.layers
    ]


def macs(layer: keras.layers.Layer) -> int:
    """Return the multiply-accumulates of a layer that was called once, for one picture.

    Every weight of a kernel is used once for each cell of the output, or of the input where the convolution is
    transposed; a separable convolution is two of them.
    """
    cells, per_cell = math.prod(_shape(layer)[:-1]), 0
    if isinstance(layer, keras.layers.SeparableConv2D):
        per_cell = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense):
        per_cell = math.prod(layer.kernel.shape)
    elif isinstance(layer, keras.layers.Conv2DTranspose):
        cells, per_cell = math.prod(layer.input.shape[1:-1]), math.prod(layer.kernel.shape)
    return cells * per_cell


def _shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    return tuple(layer.output.shape[1:])


def _count(weights: list[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
