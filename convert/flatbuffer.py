"""What is mended in a `.tflite` after TensorFlow wrote it: names, and shapes that need not be tied to one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"


def rename_tensors(model: bytes, input_name: str, output_names: Sequence[str], any_batch: bool = False) -> bytes:
    """Name the input and the outputs of a model's main graph.

    The converter names outputs `Identity_2` or `StatefulPartitionedCall:0`, and their order is the only link to the
    source. Names survive whatever reads the file by name.

    Args:
        model: A `.tflite` with one input.
        input_name: Its name.
        output_names: One for each output, in order.
        any_batch: Whether its input is to be resizable to several pictures; see `_free_batch`.

    Returns:
        The same model with these names.

    Raises:
        ValueError: The numbers of inputs or outputs differ: a bug in the caller.
    """
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = parsed.subgraphs[0]
    if len(graph.inputs) != 1 or len(graph.outputs) != len(output_names):
        found = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise ValueError(f"expected one input and {len(output_names)} outputs, found {found}")
    named = dict(zip((int(index) for index in graph.outputs), output_names, strict=True))
    named[int(graph.inputs[0])] = input_name
    if len(named) != 1 + len(output_names):
        raise ValueError(f"the outputs {', '.join(output_names)} are not tensors of their own")
    for index, tensor in enumerate(graph.tensors):
        if index in named:
            tensor.name = named[index]
        elif tensor.name and tensor.name.decode(errors="replace") in named.values():
            tensor.name = tensor.name + b"_inner"
    if any_batch:
        _free_batch(parsed, graph)
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(parsed.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _free_batch(model: Any, graph: Any) -> None:
    """Let reshapes follow the batch: a constant shape (1, ...) of a picture becomes (-1, ...).

    A graph is traced for one picture, which fixes the 1 in the shape that a Flatten, say, has; for one picture nothing
    changes. A shape that reshapes anything but (1, ...), or that is free already, stays.
    """
    reshape = {
        number
        for number, code in enumerate(model.operatorCodes)
        if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.RESHAPE
    }
    readers: dict[int, list[Any]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            readers.setdefault(int(index), []).append(operator)
    for index, operators in readers.items():
        tensor = graph.tensors[index]
        data = model.buffers[tensor.buffer].data
        as_shape = all(o.opcodeIndex in reshape and index in o.inputs[1:] for o in operators)
        if data is None or not as_shape:
            continue
        shape = np.frombuffer(bytes(bytearray(data)), np.int32).copy()
        pictures = all(tuple(graph.tensors[int(o.inputs[0])].shape[:1]) == (1,) for o in operators)
        if pictures and len(shape) > 1 and shape[0] == 1 and not (shape < 0).any():
            shape[0] = -1
            # Equal constants share a buffer, and another may be no shape: this one gets its own.
            tensor.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(shape.tobytes(), np.uint8)
            for operator in operators:
                # A copy of the shape that some runtimes read instead.
                operator.builtinOptions = None
                operator.builtinOptionsType = schema.BuiltinOptions.NONE
