"""The operators of a float `.tflite` in TensorFlow, with the rounding of int8 where it is asked for.

Runs whole batches and can be differentiated: that is what the bias correction and the fine-tuning need and the runtime
cannot give. Rounding follows the TFLite 8-bit quantisation specification: activations asymmetric over the full range of
int8, kernels symmetric in -127..127 with one scale for each output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from convert.rescue.network import CONVOLUTIONS, Network, Op, channel_axis
from edge.errors import InputError

Range = tuple[float, float]

_PADDING = ("SAME", "VALID")
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda x: x,
    "RELU": tf.nn.relu,
    "RELU6": tf.nn.relu6,
    "RELU_N1_TO_1": lambda x: tf.clip_by_value(x, -1.0, 1.0),
    "TANH": tf.tanh,
}


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _round(x: Any) -> Any:
    """Round; the gradient passes (straight-through estimator, Bengio et al. 2013)."""
    return tf.round(x), lambda upstream: upstream


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _rounded(x: Any, low: Any, high: Any) -> Any:
    """Round over a range; the gradient passes inside of it, and tells its ends what clipping and what levels cost.

    Source: S. K. Esser et al., "Learned Step Size Quantization", 2020: a value moves with the level that it lies on.
    """
    y = tf.quantization.fake_quant_with_min_max_vars(x, low, high)

    def gradient(upstream: Any) -> tuple[Any, Any, Any]:
        inside, below, above = tf.quantization.fake_quant_with_min_max_vars_gradient(upstream, x, low, high)
        wider = tf.reduce_sum(inside * (y - x)) / (high - low)
        return inside, below - wider, above + wider

    return y, gradient


def fake_quantized(x: Any, low: Any, high: Any) -> Any:
    """Return activations as int8 would hold them; the gradient is 1 inside of the range and 0 outside.

    The range is widened to hold 0, and TensorFlow moves it by less than a level so that 0 is one. Its ends are numbers,
    or tensors, which get a gradient too.
    """
    low, high = tf.minimum(low, 0.0), tf.maximum(high, 0.0)
    return _rounded(x, low, tf.where(high > low, high, low + 1.0))


def fake_quantized_kernel(kernel: Any, axis: int) -> Any:
    """Return a kernel as int8 holds it, with a scale for each channel along `axis`."""
    others = [a for a in range(len(kernel.shape)) if a != axis]
    largest = tf.reduce_max(tf.abs(kernel), axis=others, keepdims=True)
    scale = tf.stop_gradient(tf.where(largest > 0, largest, 1.0) / 127.0)
    return _round(kernel / scale) * scale


def run_op(
    network: Network, op: Op, inputs: list[Any], kernel: Any = None, bias: Any = None, activated: bool = True
) -> Any:
    """Compute an operator on a batch.

    Args:
        network: Holds its constants.
        op: The operator.
        inputs: Its inputs that are not constants, in order.
        kernel: For a convolution, its kernel in TFLite's layout.
        bias: And its bias.
        activated: Whether the activation that is fused into it is applied, too.

    Raises:
        InputError: It is of a kind that is not known here.
    """
    if op.kind in CONVOLUTIONS:
        y = _convolve(op, inputs[0], kernel) + bias
    elif op.kind in _OPERATORS:
        y = _OPERATORS[op.kind](network, op, inputs)
    else:
        raise InputError(f"cannot be rescued: no step knows the operator {op.kind}; quantise it with --to int8 alone")
    return activate(op, y) if activated else y


def activate(op: Op, x: Any) -> Any:
    """Return what the activation that is fused into an operator makes of its result."""
    return _ACTIVATIONS[op.activation](x)


def forward(
    network: Network,
    image: Any,
    ranges: Mapping[int, Any] | None = None,
    kernels: Mapping[int, tuple[Any, Any]] | None = None,
    keep: frozenset[int] = frozenset(),
) -> dict[int, Any]:
    """Run a network on a batch.

    Args:
        network: The network.
        image: (N, H, W, C).
        ranges: Where given, tensors in it are rounded to int8 over their range, and kernels to int8.
        kernels: Output tensor of a convolution -> (kernel, bias) to use instead of the network's own.
        keep: Output tensors of operators that stay float: neither their kernel nor the output is rounded.

    Returns:
        Every activation by tensor; `tf.function` drops those that nothing needs.
    """
    rounded = ranges if ranges is not None else {}

    def hold(tensor: int, x: Any) -> Any:
        return fake_quantized(x, *rounded[tensor]) if tensor in rounded and tensor not in keep else x

    values = {network.input: hold(network.input, image)}
    for op in network.ops:
        out = op.outputs[0]
        kernel = bias = None
        if op.kind in CONVOLUTIONS:
            kernel, bias = kernels[out] if kernels is not None and out in kernels else network.kernel(op)
            if ranges is not None and out not in keep:
                kernel = fake_quantized_kernel(tf.convert_to_tensor(kernel), channel_axis(op))
        inputs = [values[index] for index in op.inputs if index in values]
        values[out] = hold(out, run_op(network, op, inputs, kernel, bias))
    return values


def named_outputs(network: Network, names: Sequence[str], values: Mapping[int, Any]) -> dict[str, Any]:
    """Return the outputs out of all activations, by name."""
    return {name: values[tensor] for name, tensor in zip(names, network.outputs, strict=True)}


def _convolve(op: Op, x: Any, kernel: Any) -> Any:
    if op.kind == "FULLY_CONNECTED":
        return tf.matmul(tf.reshape(x, (-1, kernel.shape[-1])), kernel, transpose_b=True)
    options = op.options
    strides, padding = [1, options.strideH, options.strideW, 1], _PADDING[options.padding]
    dilations = [options.dilationHFactor, options.dilationWFactor]
    if op.kind == "CONV_2D":
        return tf.nn.conv2d(x, tf.transpose(kernel, (1, 2, 3, 0)), strides, padding, dilations=dilations)
    kernel = tf.reshape(kernel, (*kernel.shape[1:3], x.shape[-1], -1))
    return tf.nn.depthwise_conv2d(x, kernel, strides, padding, dilations=dilations)


def _pool(kind: str) -> Callable[[Network, Op, list[Any]], Any]:
    def run(network: Network, op: Op, inputs: list[Any]) -> Any:
        o = op.options
        size, strides = (o.filterHeight, o.filterWidth), (o.strideH, o.strideW)
        return tf.nn.pool(inputs[0], size, kind, strides, _PADDING[o.padding])

    return run


def _reshape(network: Network, op: Op, inputs: list[Any]) -> Any:
    # The graph was traced for a batch of one; the leading 1 becomes the batch.
    shape = network.shape(op.outputs[0])
    return tf.reshape(inputs[0], (-1, *shape[1:]))


def _two(function: Callable[[Any, Any], Any]) -> Callable[[Network, Op, list[Any]], Any]:
    def run(network: Network, op: Op, inputs: list[Any]) -> Any:
        rest = list(inputs)
        pair = []
        for index in op.inputs:
            constant = network.constant(index)
            pair.append(rest.pop(0) if constant is None else constant)
        return function(*pair)

    return run


def _constant(network: Network, op: Op, place: int) -> Any:
    values = network.constant(op.inputs[place])
    if values is None:
        raise InputError(f"cannot be rescued: an argument of {network.name(op.outputs[0])} ({op.kind}) is computed")
    return values


_OPERATORS: dict[str, Callable[[Network, Op, list[Any]], Any]] = {
    "ADD": _two(tf.add),
    "SUB": _two(tf.subtract),
    "MUL": _two(tf.multiply),
    "DIV": _two(tf.divide),
    "MAXIMUM": _two(tf.maximum),
    "MINIMUM": _two(tf.minimum),
    "SQUARE": lambda network, op, inputs: tf.square(inputs[0]),
    "RSQRT": lambda network, op, inputs: tf.math.rsqrt(inputs[0]),
    "SLICE": lambda network, op, inputs: tf.slice(
        inputs[0], _constant(network, op, 1), [-1, *_constant(network, op, 2)[1:]]
    ),
    "CONCATENATION": lambda network, op, inputs: tf.concat(inputs, op.options.axis),
    "LEAKY_RELU": lambda network, op, inputs: tf.nn.leaky_relu(inputs[0], op.options.alpha),
    "RELU": lambda network, op, inputs: tf.nn.relu(inputs[0]),
    "RELU6": lambda network, op, inputs: tf.nn.relu6(inputs[0]),
    "LOGISTIC": lambda network, op, inputs: tf.sigmoid(inputs[0]),
    "TANH": lambda network, op, inputs: tf.tanh(inputs[0]),
    "HARD_SWISH": lambda network, op, inputs: inputs[0] * tf.nn.relu6(inputs[0] + 3.0) / 6.0,
    "SOFTMAX": lambda network, op, inputs: tf.nn.softmax(inputs[0] * op.options.beta),
    "MAX_POOL_2D": _pool("MAX"),
    "AVERAGE_POOL_2D": _pool("AVG"),
    "MEAN": lambda network, op, inputs: tf.reduce_mean(
        inputs[0], [int(axis) for axis in _constant(network, op, 1).ravel()], keepdims=op.options.keepDims
    ),
    "PAD": lambda network, op, inputs: tf.pad(inputs[0], _constant(network, op, 1)),
    "RESHAPE": _reshape,
    "DEPTH_TO_SPACE": lambda network, op, inputs: tf.nn.depth_to_space(inputs[0], op.options.blockSize),
}
