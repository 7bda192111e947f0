"""Which operators the Edge TPU runs, and under which conditions.

Source of the table: Coral, "TensorFlow models on the Edge TPU" (coral.ai/docs/edgetpu/models-intro), sections "Model
requirements" and "Supported operations", as for Edge TPU runtime 14 and compiler 16; Axis, "Supported ops" of ARTPEC-7,
prints the same table for the same silicon. Notes name the threads of github.com/google-coral/edgetpu where a limit that
the table leaves open was met.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from convert.operators import Operator, Tensor

Condition = Callable[[Operator], str | None]
"""Returns why an operator does not map; None where it does."""

_NO_ACTIVATION = 0  # schema.ActivationFunctionType.NONE
_SOFTMAX_ELEMENTS = 16_000
_RESIZE_MAPPED = 128 * 128
"""Pixels of a resized picture that are known to map; 256 x 256 stayed on the CPU (threads 31 and 187)."""

CHIP_BYTES = 8 << 20
"""Memory on the chip, for weights and activations together (Coral, "Edge TPU Compiler", on caching parameters)."""


def requirements(operator: Operator) -> str | None:
    """Return which of the requirements on every operator is not met: constant sizes, 8-bit types, three dimensions."""
    for tensor in (*operator.given, *operator.outputs):
        if tensor.dynamic:
            return f"dynamic shape {_shape(tensor)}: sizes must be fixed when the model is compiled"
    for tensor in (*operator.outputs, *(t for t in operator.given if not t.constant)):
        if tensor.dtype not in ("int8", "uint8") or not tensor.quantized:
            return f"type {tensor.dtype}{'' if tensor.quantized else ' without scale'}: only int8 and uint8 are mapped"
        if len(tensor.shape) > 3 and prod(tensor.shape[:-3]) > 1:
            return f"shape {_shape(tensor)}: only the three innermost dimensions may be larger than 1"
    for tensor in operator.given:
        if tensor.constant and tensor.dtype not in ("int8", "uint8", "int32"):
            return f"constant of type {tensor.dtype}: only int8 and uint8 are mapped"
    return None


def note(operator: Operator) -> str:
    """Return why an operator that meets its conditions may still stay on the CPU; "" where nothing is known."""
    if operator.name.startswith("RESIZE_") and _pixels(operator.outputs[0]) > _RESIZE_MAPPED:
        return "large resizes have stayed on the CPU; the compiler decides"
    if operator.name == "QUANTIZE":
        return "changes of scale have stayed on the CPU; the compiler decides"
    if operator.name == "TRANSPOSE_CONV" or (operator.name == "RESHAPE" and prod(operator.outputs[0].shape) > 1 << 20):
        return "large ones have stayed on the CPU; the compiler decides"
    return ""


def _same_dilation(operator: Operator) -> str | None:
    height, width = operator.option("dilationHFactor", 1), operator.option("dilationWFactor", 1)
    return None if height == width else f"dilation {width} x {height}: must be the same in x and y"


def _constant_parameters(operator: Operator) -> str | None:
    computed = any(not tensor.constant for tensor in operator.given[1:])
    return "weights that are computed: must be constant when the model is compiled" if computed else None


def _transposed_parameters(operator: Operator) -> str | None:
    # Its inputs are the output's shape, the weights, the data, the bias.
    shape, weights, *_ = operator.given
    return None if shape.constant and weights.constant else "weights or shape that are computed: must be constant"


def _no_activation(operator: Operator) -> str | None:
    fused = operator.option("fusedActivationFunction") != _NO_ACTIVATION
    return "a fused activation, which this operator must not have" if fused else None


def _zero_constant(operator: Operator) -> str | None:
    constants = [tensor for tensor in operator.given if tensor.constant]
    if not constants:
        return None
    if len(operator.given) != 2 or (constants[0].values() != constants[0].zero_point).any():
        return "joins a constant: allowed only as one of two inputs, and all zero"
    return None


def _default_weights(operator: Operator) -> str | None:
    return None if operator.option("weightsFormat") == 0 else "weights in a shuffled format"


def _one_dimension(tensor: Tensor) -> str | None:
    return None if prod(tensor.shape[:-1]) == 1 else f"shape {_shape(tensor)}: must have one dimension"


def _one_dimensional_output(operator: Operator) -> str | None:
    return _one_dimension(operator.outputs[0])


def _softmax(operator: Operator) -> str | None:
    source = operator.given[0]
    if source.shape and source.shape[-1] > _SOFTMAX_ELEMENTS:
        return f"{source.shape[-1]} elements: at most {_SOFTMAX_ELEMENTS}"
    return _one_dimension(source)


def _one_dimensional_alpha(operator: Operator) -> str | None:
    return _one_dimension(operator.given[1])


def _axes(operator: Operator) -> set[int]:
    axes, rank = operator.given[1], len(operator.given[0].shape)
    return {int(axis) % rank for axis in axes.values()} if axes.constant and rank else {0}


def _keeps_batch(operator: Operator) -> str | None:
    return "works on the batch dimension" if 0 in _axes(operator) else None


def _mean(operator: Operator) -> str | None:
    shape = operator.given[0].shape
    if len(shape) - 1 in _axes(operator) and shape[-1] % 4:
        return f"mean over {shape[-1]} channels: must be a multiple of 4"
    return None


def _unpadded_batch(operator: Operator) -> str | None:
    padding = operator.given[1]
    if not padding.constant or padding.values()[:2].any():
        return "pads the batch dimension, or as much as is only known when it runs"
    return None


def _axis_option(operator: Operator) -> str | None:
    rank = len(operator.outputs[0].shape)
    return "works on the batch dimension" if rank and operator.option("axis") % rank == 0 else None


def _split(operator: Operator) -> str | None:
    axis, source = operator.given
    if not axis.constant or int(axis.values()[0]) % max(1, len(source.shape)) == 0:
        return "splits the batch dimension"
    return None


def _unit_strides(operator: Operator) -> str | None:
    if operator.option("ellipsisMask") or operator.option("newAxisMask"):
        return "an ellipsis or a new axis"
    strides = operator.given[3]
    return None if strides.constant and (strides.values() == 1).all() else "strides other than 1"


def _pixels(tensor: Tensor) -> int:
    return prod(tensor.shape[1:3])


def _shape(tensor: Tensor) -> str:
    return "x".join("?" if size == -1 else str(size) for size in tensor.shape)


OPERATORS: dict[str, tuple[Condition, ...]] = {
    "ADD": (),
    "AVERAGE_POOL_2D": (_no_activation,),
    "CONCATENATION": (_no_activation, _zero_constant),
    "CONV_2D": (_same_dilation, _constant_parameters),
    "DEPTHWISE_CONV_2D": (_same_dilation, _constant_parameters),
    "EXPAND_DIMS": (),
    "FULLY_CONNECTED": (_default_weights, _one_dimensional_output, _constant_parameters),
    "L2_NORMALIZATION": (),
    "LOGISTIC": (),
    "MAXIMUM": (),
    "MAX_POOL_2D": (_no_activation,),
    "MEAN": (_keeps_batch, _mean),
    "MINIMUM": (),
    "MUL": (),
    "PACK": (_axis_option,),
    "PAD": (_unpadded_batch,),
    "PRELU": (_one_dimensional_alpha, _constant_parameters),
    "QUANTIZE": (),
    "REDUCE_MAX": (_keeps_batch,),
    "REDUCE_MIN": (_keeps_batch,),
    "RELU": (),
    "RELU6": (),
    "RELU_N1_TO_1": (),
    "RESHAPE": (),
    "RESIZE_BILINEAR": (),
    "RESIZE_NEAREST_NEIGHBOR": (),
    "RSQRT": (),
    "SLICE": (),
    "SOFTMAX": (_softmax,),
    "SPACE_TO_DEPTH": (),
    "SPLIT": (_split,),
    "SQUARED_DIFFERENCE": (),
    "SQUEEZE": (),
    "STRIDED_SLICE": (_unit_strides,),
    "SUB": (),
    "SUM": (_keeps_batch,),
    "TANH": (),
    "TRANSPOSE_CONV": (_transposed_parameters,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (),
}
"""TFLite operator -> its conditions, beside `requirements`. Every other operator runs on the CPU."""

_RETRAIN = "train the network again with ReLU6 in its place (a finished file cannot be changed: its weights fit)"

REWRITES: dict[str, str] = {
    "LEAKY_RELU": f"leaky ReLU has no place on the Edge TPU: {_RETRAIN}",
    "HARD_SWISH": f"hard-swish has no place on the Edge TPU: {_RETRAIN}",
    "ELU": f"ELU has no place on the Edge TPU: {_RETRAIN}",
    "GELU": f"GELU has no place on the Edge TPU: {_RETRAIN}",
    "TRANSPOSE": "transposes come from layouts with channels first, or from a decoder inside of the graph: export with "
    "channels last, and with raw heads (decoding is done outside)",
    "DEQUANTIZE": "float outputs are made on the CPU: convert with --io int8 or --io uint8",
    "TFLite_Detection_PostProcess": "box decoding and suppression always run on the CPU: nothing to mend",
}
"""Operator that does not map -> what can be done about it, in words: none of it is done to a file."""
