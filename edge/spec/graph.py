"""What the graph of a `.tflite` says that its tensors do not: which operator makes an output, and its names.

Field numbers are those of TensorFlow's schema.fbs.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ModelFileError
from edge.spec.flatbuffer import Table
from edge.spec.sanity import POSTPROCESS, check_graphs

METADATA = "TFLITE_METADATA"

_NAMES = {0: "ADD", 3: "CONV_2D", 6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 22: "RESHAPE", 25: "SOFTMAX"}
_NAMES |= {43: "SQUEEZE", 53: "CAST", 114: "QUANTIZE", 126: "BATCH_MATMUL"}
_CUSTOM = 32
_PASS_THROUGH = {"RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE", "CAST"}
_NO_FILE_ID = "the file is no TFLite model"


@dataclass(frozen=True, slots=True)
class Graph:
    """Facts of a model's main graph.

    Attributes:
        makers: Output tensor -> the operator that computed its values, looking through reshapes and (de)quantising:
            one of `_NAMES`, a custom operator's name, or a number for any other.
        postprocess: Names of the four outputs of SSD's post-processing operator, in its order (boxes, classes, scores,
            count); empty without it.
        signature: Name in the default signature -> output tensor name.
        metadata: The TFLite Metadata buffer; empty without it.
    """

    makers: dict[str, str]
    postprocess: tuple[str, ...]
    signature: dict[str, str]
    metadata: bytes


def read_graph(path: Path) -> Graph:
    """Read the facts of a model file; its weights stay on disk.

    Raises:
        ModelFileError: The file cannot be read or is broken.
    """
    try:
        with _mapped(path) as data:
            return _graph(Table.root(data))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def check_model(path: Path) -> None:
    """Check what would end the process in a runtime: weights outside of the file, and what `check_graphs` finds.

    Raises:
        ModelFileError: The file cannot be read, is no TFLite model, or is damaged or cut short.
    """
    try:
        with _mapped(path) as data:
            for buffer in Table.root(data).tables(4):
                buffer.extent(0)
                # Large models keep weights behind the flatbuffer: offset and size, where 0 and 1 mean none.
                start, length = buffer.integer(1, "Q"), buffer.integer(2, "Q")
                if start > 1 and start + length > len(data):
                    raise ModelFileError("the file is cut short: weights reach beyond its end")
            check_graphs(data)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ModelFileError as error:
        raise ModelFileError(f"{path}: not a TFLite model, or one that is damaged or cut short ({error})") from error


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file cannot be mapped
            raise ModelFileError(_NO_FILE_ID) from error
        with mapped, memoryview(mapped) as view:
            if bytes(view[4:8]) != b"TFL3":
                raise ModelFileError(_NO_FILE_ID)
            yield view


def _graph(model: Table) -> Graph:
    graphs = model.tables(2)
    if not graphs:
        raise ModelFileError("the model has no graph")
    main = graphs[0]
    codes = [_operator_name(code) for code in model.tables(1)]
    names = [tensor.string(3) for tensor in main.tables(0)]

    def name(index: int) -> str:
        return names[index] if 0 <= index < len(names) else ""

    makers: dict[int, tuple[str, list[int]]] = {}
    postprocess: tuple[str, ...] = ()
    for operator in main.tables(3):
        code = operator.integer(0, "I")
        kind = codes[code] if code < len(codes) else ""
        outputs = operator.integers(2, "i")
        if kind == POSTPROCESS:
            postprocess = tuple(name(i) for i in outputs)
        for index in outputs:
            makers[index] = (kind, operator.integers(1, "i"))
    return Graph(
        makers={name(i): _maker(i, makers) for i in main.integers(2, "i")},
        postprocess=postprocess,
        signature=_signature(model, name),
        metadata=_metadata(model),
    )


def _operator_name(code: Table) -> str:
    # Operators above 127 do not fit the old field; the new one is 0 in old files.
    number = max(code.integer(0, "b"), code.integer(3, "i"))
    return code.string(1) if number == _CUSTOM else _NAMES.get(number, str(number))


def _maker(index: int, makers: dict[int, tuple[str, list[int]]]) -> str:
    kind = ""
    for _ in range(len(makers) + 1):  # a broken graph may go round in circles
        kind, inputs = makers.get(index, ("", []))
        if kind not in _PASS_THROUGH or not inputs:
            break
        index = inputs[0]
    return kind


def _signature(model: Table, name: Callable[[int], str]) -> dict[str, str]:
    for definition in model.tables(7):
        if definition.integer(4, "I") == 0:
            return {entry.string(0): name(entry.integer(1, "I")) for entry in definition.tables(1)}
    return {}


def _metadata(model: Table) -> bytes:
    for entry in model.tables(6):
        if entry.string(0) == METADATA:
            buffers = model.tables(4)
            index = entry.integer(1, "I")
            if index < len(buffers):
                return buffers[index].data(0)
    return b""
