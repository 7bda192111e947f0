"""Writes small `.tflite` files operator by operator, with nothing but the runtime's own schema: no TensorFlow."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}
Quant = tuple[float, int]
"""Scale and zero point."""


class Builder:
    """A graph in the making; tensors are known by their number."""

    def __init__(self) -> None:
        self._buffers: list[schema.BufferT] = [_buffer(b"")]
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: dict[tuple[int, str], int] = {}

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "float32",
        quant: Quant | None = None,
        data: bytes = b"",
        signature: tuple[int, ...] | None = None,
        variable: bool = False,
    ) -> int:
        """Add a tensor; `signature` is the shape with -1 where it is free, a variable keeps its value between runs."""
        made = schema.TensorT()
        made.name = name.encode()
        made.shape = list(shape)
        made.shapeSignature = None if signature is None else list(signature)
        made.type = _TYPES[dtype]
        made.buffer = 0
        made.hasRank = True
        made.isVariable = variable
        if data:
            made.buffer = len(self._buffers)
            self._buffers.append(_buffer(data))
        if quant is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [quant[0]], [quant[1]]
        self._tensors.append(made)
        return len(self._tensors) - 1

    def constant(
        self, values: npt.ArrayLike, dtype: str = "float32", name: str = "", quant: Quant | None = None
    ) -> int:
        """Add a constant."""
        array = np.ascontiguousarray(np.asarray(values, dtype))
        return self.tensor(name or f"constant_{len(self._tensors)}", array.shape, dtype, quant, array.tobytes())

    def op(
        self,
        kind: str,
        inputs: list[int],
        shape: tuple[int, ...],
        name: str = "",
        dtype: str = "float32",
        quant: Quant | None = None,
        signature: tuple[int, ...] | None = None,
        **options: Any,
    ) -> int:
        """Add an operator with one output, which is returned; options by their name in the schema."""
        output = self.tensor(name or f"{kind.lower()}_{len(self._tensors)}", shape, dtype, quant, signature=signature)
        operator = self._operator(kind, "", inputs, [output])
        if options:
            stem = {"CONV_2D": "Conv2D", "AVERAGE_POOL_2D": "Pool2D", "REDUCE_MAX": "Reducer", "SVDF": "SVDF"}.get(
                kind, "".join(part.title() for part in kind.split("_"))
            )
            made = getattr(schema, f"{stem}OptionsT")()
            for key, value in options.items():
                setattr(made, key, value)
            operator.builtinOptions = made
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{stem}Options")
        return output

    def custom(self, code: str, inputs: list[int], outputs: list[int], options: dict[str, Any] | None = None) -> None:
        """Add a custom operator."""
        operator = self._operator("CUSTOM", code, inputs, outputs)
        if options is not None:
            flex = flexbuffers.Builder()
            flex.MapFromElements(options)
            operator.customOptions = np.frombuffer(bytes(flex.Finish()), np.uint8)

    def _operator(self, kind: str, custom: str, inputs: list[int], outputs: list[int]) -> schema.OperatorT:
        operator = schema.OperatorT()
        key = (getattr(schema.BuiltinOperator, kind), custom)
        operator.opcodeIndex = self._codes.setdefault(key, len(self._codes))
        operator.inputs, operator.outputs = inputs, outputs
        self._operators.append(operator)
        return operator

    def build(
        self,
        inputs: list[int],
        outputs: list[int],
        metadata: dict[str, bytes] | None = None,
        signature: dict[str, int] | None = None,
    ) -> bytes:
        """Return the file.

        Args:
            inputs: Input tensors.
            outputs: Output tensors.
            metadata: Named metadata buffers inside of the flatbuffer.
            signature: Names of outputs in a default signature.
        """
        graph = schema.SubGraphT()
        graph.name = b"main"
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = inputs, outputs
        model = schema.ModelT()
        model.version = 3
        model.description = b"tiny"
        model.subgraphs = [graph]
        model.operatorCodes = [_code(number, custom) for number, custom in self._codes]
        model.metadata = []
        for name, data in (metadata or {}).items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name.encode(), len(self._buffers)
            self._buffers.append(_buffer(data))
            model.metadata.append(entry)
        if signature:
            definition = schema.SignatureDefT()
            definition.signatureKey, definition.subgraphIndex = b"serving_default", 0
            definition.inputs = [_entry("picture", inputs[0])]
            definition.outputs = [_entry(name, tensor) for name, tensor in signature.items()]
            model.signatureDefs = [definition]
        model.buffers = self._buffers
        packer = flatbuffers.Builder(1024)
        packer.Finish(model.Pack(packer), b"TFL3")
        return bytes(packer.Output())


def compiled(model: bytes) -> bytes:
    """Return what the Edge TPU compiler makes of a model: one operator of its own between the same tensors."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = parsed.subgraphs[0]
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = graph.inputs, graph.outputs
    parsed.operatorCodes = [_code(schema.BuiltinOperator.CUSTOM, "edgetpu-custom-op")]
    graph.operators = [operator]
    packer = flatbuffers.Builder(1024)
    packer.Finish(parsed.Pack(packer), b"TFL3")
    return bytes(packer.Output())


def _buffer(data: bytes) -> schema.BufferT:
    made = schema.BufferT()
    if data:
        made.data = np.frombuffer(data, np.uint8)
    return made


def _code(number: int, custom: str) -> schema.OperatorCodeT:
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode, made.version = number, min(number, 127), 1
    if custom:
        made.customCode = custom.encode()
    return made


def _entry(name: str, tensor: int) -> schema.TensorMapT:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name.encode(), tensor
    return made
