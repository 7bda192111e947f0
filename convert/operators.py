"""The operators of a `.tflite` as plain records, for the checks that look at one operator at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edge.errors import ModelFileError

_IDENTIFIER = b"TFL3"
_OPERATOR_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPE_NAMES = {number: name.lower() for name, number in vars(schema.TensorType).items() if not name.startswith("_")}


@dataclass(frozen=True)
class Tensor:
    """A tensor that an operator reads or writes.

    Attributes:
        index: Number in its graph.
        shape: Sizes; -1 where one is free.
        dtype: "int8", "float32", ...
        quantized: Whether it has a scale.
        zero_point: What stands for 0 where it has one scale for all; 0 otherwise.
        constant: Whether its values are in the file.
        data: Those values as bytes; empty where they are not.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str
    quantized: bool
    zero_point: int
    constant: bool
    data: bytes

    def values(self) -> npt.NDArray[Any]:
        """Return the values of a constant, flat."""
        return np.frombuffer(self.data, np.dtype(self.dtype))

    @property
    def dynamic(self) -> bool:
        """Whether one of its sizes is only known when the model runs."""
        return -1 in self.shape


@dataclass(frozen=True)
class Operator:
    """An operator in the order of execution.

    Attributes:
        index: Position in that order.
        name: "CONV_2D", or the name of a custom operator.
        custom: Whether it is one of those.
        version: Which revision of TFLite's operator the file asks for.
        inputs: Tensors that it reads; None where an optional one is left out.
        outputs: Tensors that it writes.
        options: Its options as the schema names them; None without.
    """

    index: int
    name: str
    custom: bool
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    def option(self, name: str, default: Any = 0) -> Any:
        """Return an option by its name in the schema, `default` where the operator has none."""
        return getattr(self.options, name, default)

    @property
    def given(self) -> tuple[Tensor, ...]:
        """Inputs without those that are left out."""
        return tuple(tensor for tensor in self.inputs if tensor is not None)


def read_operators(model: bytes) -> tuple[Operator, ...]:
    """Return the operators of a model's main graph.

    Args:
        model: A `.tflite`, with or without an archive behind it.

    Raises:
        ModelFileError: It is none, or its tables are broken.
    """
    if model[4:8] != _IDENTIFIER:
        raise ModelFileError("model: expected a .tflite model, found something else")
    try:
        parsed = schema.ModelT.InitFromPackedBuf(model, 0)
        graph = parsed.subgraphs[0]
        tensors = [_tensor(parsed, graph, index) for index in range(len(graph.tensors))]
        return tuple(_operator(parsed, tensors, operator, i) for i, operator in enumerate(graph.operators or ()))
    except (struct.error, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"model: broken tables ({type(error).__name__}: {error})") from error


def parts(operators: Sequence[Operator], mappable: Sequence[bool]) -> Iterator[set[int]]:
    """Give the parts of a graph that a delegate can take, in the order in which they run.

    Parts alternate between mappable and not; each takes all that is ready and of its kind, so that an operator
    beside an unmapped one, which does not depend on it, still is in the part before.
    Source: PartitionGraphIntoIndependentNodeSubsets in TFLite's graph_info.cc.

    Args:
        operators: All of the graph.
        mappable: Which of them the delegate knows.

    Yields:
        Positions of the operators of a part.
    """
    made = {tensor.index for operator in operators for tensor in operator.outputs}
    waiting = list(operators)
    while waiting:
        part: set[int] = set()
        kind: bool | None = None
        grew = True
        while grew:
            grew = False
            for operator in list(waiting):
                ready = not any(tensor.index in made for tensor in operator.given)
                if ready and kind in (None, mappable[operator.index]):
                    kind, grew = mappable[operator.index], True
                    part.add(operator.index)
                    waiting.remove(operator)
                    made -= {tensor.index for tensor in operator.outputs}
        if kind is None:  # nothing is ready: the graph goes round in a circle
            return
        if kind:
            yield part


def _tensor(model: Any, graph: Any, index: int) -> Tensor:
    tensor = graph.tensors[index]
    shape = () if tensor.shape is None else tensor.shape
    signature = tensor.shapeSignature
    if signature is not None and len(signature) == len(shape):
        shape = signature
    quantization = tensor.quantization
    scale = None if quantization is None else quantization.scale
    points = None if quantization is None else quantization.zeroPoint
    data = model.buffers[tensor.buffer].data
    return Tensor(
        index=index,
        shape=tuple(int(size) for size in shape),
        dtype=_TYPE_NAMES[tensor.type],
        quantized=scale is not None and len(scale) > 0,
        zero_point=int(points[0]) if points is not None and len(points) == 1 else 0,
        constant=data is not None and len(data) > 0,
        data=b"" if data is None else bytes(bytearray(data)),
    )


def _operator(model: Any, tensors: list[Tensor], operator: Any, index: int) -> Operator:
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # the first is 0 in old files, the second ends at 127
    custom = number == schema.BuiltinOperator.CUSTOM
    name = code.customCode.decode(errors="replace") if custom else _OPERATOR_NAMES[number]
    inputs = () if operator.inputs is None else operator.inputs
    outputs = () if operator.outputs is None else operator.outputs
    return Operator(
        index=index,
        name=name,
        custom=custom,
        version=int(code.version),
        inputs=tuple(tensors[i] if i >= 0 else None for i in inputs),
        outputs=tuple(tensors[i] for i in outputs),
        options=operator.builtinOptions,
    )
