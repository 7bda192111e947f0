"""A float `.tflite` taken apart: its operators, its constants, and the bytes back again.

The steps of a rescue work on this form because every source, Darknet or Keras, ends in it: batch normalisation is
folded, activations are fused where they can be, and a dozen kinds of operators are left.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edge.errors import InputError

Float32 = npt.NDArray[np.float32]

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Kinds of operators with a kernel as second and a bias as third input."""

FOLLOWS = ("RESHAPE", "MAX_POOL_2D", "PAD", "CONCATENATION", "TRANSPOSE", "STRIDED_SLICE", "SLICE", "DEPTH_TO_SPACE")
"""Kinds that only move values: in int8 their inputs and outputs share one scale."""

_KINDS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_ACTIVATIONS = {value: name for name, value in vars(schema.ActivationFunctionType).items() if isinstance(value, int)}
_DTYPES = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.INT32: "<i4", schema.TensorType.INT64: "<i8"}


class Op(NamedTuple):
    """An operator.

    Attributes:
        kind: Its name in the schema, "CONV_2D".
        inputs: Tensor indices, constants included; -1 for one that is left out.
        outputs: Tensor indices.
        options: The schema's table of its options, or None.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    @property
    def activation(self) -> str:
        """The activation that is fused into it: "NONE", "RELU", "RELU6", ..."""
        return str(_ACTIVATIONS[getattr(self.options, "fusedActivationFunction", 0)])


class Network:
    """The main graph of a float model; constants may be replaced, and convolutions at the end split."""

    def __init__(self, parsed: Any) -> None:
        """Wrap a parsed model.

        Raises:
            InputError: It has several graphs (loops, branches) or an input that is no float32 tensor.
        """
        self._parsed = parsed
        self._graph = parsed.subgraphs[0]
        if len(parsed.subgraphs) != 1 or len(self._graph.inputs) != 1:
            raise InputError("cannot be rescued: expected a graph with one input and without loops or branches")
        if self._graph.tensors[self._graph.inputs[0]].type != schema.TensorType.FLOAT32:
            raise InputError("cannot be rescued: expected a float32 input")

    @classmethod
    def parse(cls, content: bytes) -> Network:
        """Take a model apart; see `__init__` for what is refused."""
        return cls(schema.ModelT.InitFromPackedBuf(content, 0))

    def copy(self) -> Network:
        """Return a network whose changes do not reach this one."""
        return Network(copy.deepcopy(self._parsed))

    def pack(self, ranges: dict[int, tuple[float, float]] | None = None) -> bytes:
        """Return the model as bytes.

        Args:
            ranges: Tensor -> smallest and largest value, which is what TensorFlow's quantiser reads as calibration.
        """
        for index, tensor in enumerate(self._graph.tensors):
            tensor.quantization = None
            if ranges is not None and index in ranges:
                tensor.quantization = schema.QuantizationParametersT()
                tensor.quantization.min, tensor.quantization.max = ([float(side)] for side in ranges[index])
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._parsed.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    @property
    def ops(self) -> list[Op]:
        """The operators in the order in which they run."""
        return [
            Op(
                _KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)],
                tuple(int(index) for index in operator.inputs),
                tuple(int(index) for index in operator.outputs),
                operator.builtinOptions,
            )
            for operator in self._graph.operators
            for code in (self._parsed.operatorCodes[operator.opcodeIndex],)
        ]

    @property
    def input(self) -> int:
        """The tensor of the image."""
        return int(self._graph.inputs[0])

    @property
    def outputs(self) -> tuple[int, ...]:
        """The output tensors, in order."""
        return tuple(int(index) for index in self._graph.outputs)

    def name(self, tensor: int) -> str:
        """Return a tensor's name."""
        return bytes(self._graph.tensors[tensor].name).decode(errors="replace")

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        shape = self._graph.tensors[tensor].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def activations(self) -> list[int]:
        """Return the float tensors that depend on the image, itself first, in the order in which they are computed."""
        computed = [self.input, *(tensor for op in self.ops for tensor in op.outputs)]
        return [index for index in computed if self._graph.tensors[index].type == schema.TensorType.FLOAT32]

    def readers(self) -> dict[int, list[Op]]:
        """Return the operators that read each tensor."""
        result: dict[int, list[Op]] = defaultdict(list)
        for op in self.ops:
            for index in op.inputs:
                result[index].append(op)
        return result

    def constant(self, tensor: int) -> npt.NDArray[Any] | None:
        """Return the values of a constant (read-only), or None for a tensor that is computed or left out."""
        if tensor < 0:
            return None
        table = self._graph.tensors[tensor]
        data = self._parsed.buffers[table.buffer].data
        if data is None or not len(data) or table.type not in _DTYPES:
            return None
        values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), _DTYPES[table.type])
        return values.reshape(self.shape(tensor))

    def set_constant(self, tensor: int, values: npt.NDArray[Any]) -> None:
        """Replace the values of a constant float32 tensor, whose buffer may be shared with others."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values, "<f4").tobytes(), np.uint8)
        self._parsed.buffers.append(buffer)
        self._graph.tensors[tensor].buffer = len(self._parsed.buffers) - 1

    def kernel(self, op: Op) -> tuple[Float32, Float32]:
        """Return kernel and bias of a convolution or matrix; the bias is zeros where it has none.

        Raises:
            InputError: The kernel is computed, not constant.
        """
        kernel = self.constant(op.inputs[1])
        if kernel is None:
            raise InputError(f"cannot be rescued: the kernel of {self.name(op.outputs[0])} is not a constant")
        bias = self.constant(op.inputs[2]) if len(op.inputs) > 2 else None
        channels = kernel.shape[channel_axis(op)]
        return kernel, np.zeros(channels, np.float32) if bias is None else bias

    def set_kernel(self, op: Op, kernel: Float32, bias: Float32) -> None:
        """Replace kernel and bias of a convolution or matrix; without a bias tensor, `bias` must be zeros."""
        self.set_constant(op.inputs[1], kernel)
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            self.set_constant(op.inputs[2], bias)

    def has_bias(self, op: Op) -> bool:
        """Return whether an operator has a bias that can be changed."""
        return len(op.inputs) > 2 and self.constant(op.inputs[2]) is not None

    def own_constants(self) -> None:
        """Give each operator its own kernel and bias, so that changing one changes no other."""
        seen: set[int] = set()
        for operator, op in zip(self._graph.operators, self.ops, strict=True):
            if op.kind not in CONVOLUTIONS:
                continue
            for place, index in enumerate(op.inputs[1:3], 1):
                if index in seen:
                    self._graph.tensors.append(copy.copy(self._graph.tensors[index]))
                    operator.inputs = np.array(operator.inputs, np.int32)
                    operator.inputs[place] = len(self._graph.tensors) - 1
                seen.add(index)

    def split_output(self, output: int, channels: Sequence[npt.NDArray[np.intp]], names: Sequence[str]) -> list[int]:
        """Replace a convolution that gives an output by several that give some of its channels each.

        Args:
            output: The output tensor.
            channels: Of each part, in order.
            names: Of the parts' tensors.

        Returns:
            The new output tensors, which take the place of `output`.
        """
        place = next(i for i, op in enumerate(self.ops) if output in op.outputs)
        op, operator = self.ops[place], self._graph.operators[place]
        kernel, bias = self.kernel(op)
        parts, indices = [], []
        for chosen, name in zip(channels, names, strict=True):
            part = copy.copy(operator)
            tensors = [
                self._add_tensor(op.inputs[1], f"{name}_kernel", kernel[chosen]),
                self._add_tensor(op.inputs[2], f"{name}_bias", bias[chosen]),
                self._add_tensor(output, name, np.empty((*self.shape(output)[:-1], len(chosen)), np.float32)),
            ]
            self._graph.tensors[tensors[2]].buffer = 0
            part.inputs = np.array([op.inputs[0], *tensors[:2]], np.int32)
            part.outputs = np.array(tensors[2:], np.int32)
            parts.append(part)
            indices.append(tensors[2])
        self._graph.operators[place : place + 1] = parts
        position = self.outputs.index(output)
        outputs = [*self.outputs[:position], *indices, *self.outputs[position + 1 :]]
        self._graph.outputs = np.array(outputs, np.int32)
        # A signature would name the output that is gone.
        self._parsed.signatureDefs = None
        return indices

    def _add_tensor(self, like: int, name: str, values: Float32) -> int:
        tensor = copy.copy(self._graph.tensors[like])
        tensor.name, tensor.shape, tensor.shapeSignature = name.encode(), np.array(values.shape, np.int32), None
        self._graph.tensors.append(tensor)
        self.set_constant(len(self._graph.tensors) - 1, values)
        return len(self._graph.tensors) - 1


def channel_axis(op: Op) -> int:
    """Return the axis of a kernel's output channels, along which it has a scale each."""
    return 3 if op.kind == "DEPTHWISE_CONV_2D" else 0
