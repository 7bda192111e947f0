"""A model on its way into a `.tflite`: a frozen graph and what is known about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edge.errors import InputError
from edge.spec import ModelSpec
from edge.spec.labels import read_labels

INPUT_NAME = "image"
"""Name of the input tensor in every file that edge writes."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be converted.

    Attributes:
        graph: Frozen concrete function of one float32 image (1, H, W, C).
        output_names: Name of each of its outputs, in order; the tensors of the written file get these names.
        spec: What the file will say about itself, except for the quantisation; `spec.decoder.outputs` maps roles to
            `output_names`.
    """

    graph: Any
    output_names: tuple[str, ...]
    spec: ModelSpec

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the image, (1, H, W, C)."""
        return tuple(int(side) for side in self.graph.inputs[0].shape)  # type: ignore[return-value]


def freeze(
    function: Callable[[Any], Sequence[Any]], input_shape: tuple[int, int, int, int], dtype: Any = tf.float32
) -> Any:
    """Trace a function for one shape and turn its variables into constants.

    Without this the converter leaves variable handles in the graph: no delegate takes those, and integer quantisation
    fails on them.

    Args:
        function: From an image (1, H, W, C) to its outputs, in order.
        input_shape: (1, H, W, C).
        dtype: Type of the image.

    Returns:
        The frozen concrete function; its outputs are those of `function` in the same order.
    """

    def run(image: Any) -> list[Any]:
        # An output that is also read inside the graph, or given twice, gets a tensor of its own to carry its name.
        return [tf.identity(output) for output in function(image)]

    spec = tf.TensorSpec(input_shape, dtype, name=INPUT_NAME)
    concrete = tf.function(run).get_concrete_function(spec)
    return convert_variables_to_constants_v2(concrete, lower_control_flow=False)


def labels_for(path: Path | None, classes: int) -> tuple[str, ...]:
    """Read the names of a model's classes; () without a file.

    Raises:
        InputError: The file cannot be read, or holds another number of names than the model has classes.
    """
    if path is None:
        return ()
    names = read_labels(path)
    if len(names) != classes:
        raise InputError(f"{path}: {len(names)} labels, but the model has {classes} classes; give the file that fits")
    return names
