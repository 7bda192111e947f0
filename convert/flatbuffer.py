"""Names inside a `.tflite`: readable ones, so that metadata can refer to tensors by name."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"


def rename_tensors(model: bytes, input_name: str, output_names: Sequence[str]) -> bytes:
    """Name the input and the outputs of a model's main graph.

    The converter names outputs `Identity_2` or `StatefulPartitionedCall:0`, and their order is the only link to the
    source. Names survive whatever reads the file by name.

    Args:
        model: A `.tflite` with one input.
        input_name: Its name.
        output_names: One for each output, in order.

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
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(parsed.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())
