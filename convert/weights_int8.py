"""8-bit kernels in a float `.tflite`: weight-only and dynamic-range quantisation.

Kernels are quantised per output channel, symmetrically: `q = round(w / scale)` with `scale = max |w| / 127`, as the
TFLite 8-bit quantisation specification asks of weights. "Weight-only" puts a DEQUANTIZE in front of each, which the
runtime folds away when it prepares the graph, so arithmetic stays float. "Dynamic" leaves the 8-bit kernel to the
operator, which quantises its input as it runs.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

_MIN_ELEMENTS = 1024
"""Kernels of fewer numbers stay float: first layers and small depthwise ones, where 8 bits cost most and save least."""

_DEQUANTIZE_VERSION = 5
_KERNEL = 1
"""Position of the kernel among an operator's inputs."""


class _Operator(NamedTuple):
    """An operator whose kernel can be stored in 8 bits.

    Attributes:
        axis: Axis of the kernel's output channels.
        version: Of the operator with an 8-bit kernel per channel and float input; 0 where XNNPACK has none: such a
            layer would leave the partition, to save little.
    """

    axis: int
    version: int


_OPERATORS = {
    schema.BuiltinOperator.CONV_2D: _Operator(0, 5),
    schema.BuiltinOperator.FULLY_CONNECTED: _Operator(0, 12),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: _Operator(3, 0),
}


def quantize_weights(model: bytes, dynamic: bool) -> bytes:
    """Store the large kernels of a float model in 8 bits.

    Args:
        model: A float32 `.tflite`.
        dynamic: Whether convolutions and matrices compute in integers; else all arithmetic stays float.

    Returns:
        The smaller model; inputs and outputs stay float32.
    """
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    for graph in parsed.subgraphs:
        _quantize_graph(parsed, graph, dynamic)
    _drop_unused_buffers(parsed)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _quantize_graph(parsed: Any, graph: Any, dynamic: bool) -> None:
    readers = Counter(int(tensor) for operator in graph.operators for tensor in operator.inputs)
    dequantized: dict[int, int] = {}
    operators: list[Any] = []
    for operator in graph.operators:
        code = parsed.operatorCodes[operator.opcodeIndex]
        kind = _OPERATORS.get(code.builtinCode)
        kernel = int(operator.inputs[_KERNEL]) if kind is not None else -1
        values = _large_constant(parsed, graph.tensors[kernel]) if kernel >= 0 else None
        if kind is None or values is None:
            pass
        elif dynamic and kind.version and readers[kernel] == 1:
            _store(parsed, graph.tensors[kernel], values, kind.axis)
            operator.opcodeIndex = _code(parsed, code.builtinCode, kind.version)
            if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
                operator.builtinOptions.asymmetricQuantizeInputs = True
        elif not dynamic:
            if kernel not in dequantized:
                dequantized[kernel] = _add_dequantize(parsed, graph, operators, kernel, values, kind.axis)
            operator.inputs = np.array(operator.inputs, np.int32)
            operator.inputs[_KERNEL] = dequantized[kernel]
        operators.append(operator)
    graph.operators = operators


def _large_constant(parsed: Any, tensor: Any) -> npt.NDArray[np.float32] | None:
    """Return the values of a constant float32 tensor that is worth storing in 8 bits."""
    data = parsed.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None or np.prod(tensor.shape) < _MIN_ELEMENTS:
        return None
    return np.asarray(data, np.uint8).view("<f4").reshape(tensor.shape)


def _store(parsed: Any, tensor: Any, values: npt.NDArray[np.float32], axis: int) -> None:
    """Make a tensor an 8-bit constant, quantised per channel along `axis`."""
    largest = np.abs(values).max(axis=tuple(a for a in range(values.ndim) if a != axis), keepdims=True)
    scale = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(127)
    quantized = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
    buffer = schema.BufferT()
    buffer.data = quantized.view(np.uint8).ravel()
    parsed.buffers.append(buffer)
    tensor.type = schema.TensorType.INT8
    tensor.buffer = len(parsed.buffers) - 1
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scale.ravel()
    tensor.quantization.zeroPoint = np.zeros(scale.size, np.int64)
    tensor.quantization.quantizedDimension = axis


def _add_dequantize(
    parsed: Any, graph: Any, operators: list[Any], kernel: int, values: npt.NDArray[np.float32], axis: int
) -> int:
    """Append the operator that makes floats of a kernel; return the index of its output."""
    source = graph.tensors[kernel]
    output = schema.TensorT()
    output.shape, output.type, output.hasRank = source.shape, schema.TensorType.FLOAT32, source.hasRank
    output.name = source.name + b"_float"
    graph.tensors.append(output)
    _store(parsed, source, values, axis)
    operator = schema.OperatorT()
    operator.opcodeIndex = _code(parsed, schema.BuiltinOperator.DEQUANTIZE, _DEQUANTIZE_VERSION)
    operator.inputs = np.array([kernel], np.int32)
    operator.outputs = np.array([len(graph.tensors) - 1], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    operators.append(operator)
    return len(graph.tensors) - 1


def _code(parsed: Any, builtin: int, version: int) -> int:
    """Return the index of an operator code, which is added when the model has none of that version."""
    for index, code in enumerate(parsed.operatorCodes):
        if code.builtinCode == builtin and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = min(builtin, 127)  # where readers older than the wide field look
    code.version = version
    parsed.operatorCodes.append(code)
    return len(parsed.operatorCodes) - 1


def _drop_unused_buffers(parsed: Any) -> None:
    """Empty the buffers that nothing refers to any more, the float kernels."""
    used = {tensor.buffer for graph in parsed.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in parsed.metadata or ()}
    for index, buffer in enumerate(parsed.buffers):
        if index not in used:
            buffer.data = None
