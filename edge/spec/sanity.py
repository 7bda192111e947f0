"""Is the graph of a `.tflite` one that a runtime can be given? Those trust it, and a damaged one ends the process.

LiteRT checks that the flatbuffer is whole, and most of what its operators need. This looks at what it takes for
granted: numbers of tensors, kinds of values, sizes of memory, and constants that an operator would write to. Field
numbers are those of TensorFlow's schema.fbs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from edge.errors import ModelFileError
from edge.spec.flatbuffer import Buffer, Table
from edge.spec.flexbuffer import read_map

MAX_CONSTANT_BYTES = 1 << 30
MAX_TENSOR_BYTES = 256 << 20
"""Of one tensor that is computed: beyond lies only exhausted memory. A float picture of 4096 x 4096 has 201 million."""

_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64, 15: 32, 16: 16}
_BITS |= {13: 32, 17: 4, 18: 16, 19: 2, 20: 4, 21: 8, 22: 8}
"""Kind of value -> bits. Text and variants (5, 14) are missing: they are no numbers, and no image model has them."""

_RESOURCE = 13
_MAKES_RESOURCES = 142
_TAKES_RESOURCES = {143, 144}
"""VAR_HANDLE; READ_VARIABLE and ASSIGN_VARIABLE: what a model keeps whose variables were not frozen."""

_SAME_KIND = {0, 1, 2, 3, 4, 14, 17, 18, 19, 21, 22, 23, 28, 34, 39, 41, 43, 45, 54, 55, 57, 97, 98, 117}
"""Operators, as BuiltinOperator numbers them, whose output has the kind of their picture: arithmetic, convolution,
pooling, activation, resizing, reshaping."""

_NEEDS_OPTIONS = {25: 9, 45: 32, 49: 35, 80: 58}
"""SOFTMAX, STRIDED_SLICE, SPLIT, FAKE_QUANT -> the kind of their options, as BuiltinOptions numbers them: the runtime
does not look whether they have any."""

_INPUTS = {25: 1, 45: 4, 49: 2, 65: 3, 80: 1}
"""The same and SLICE -> how many inputs they have: it does not count them."""

_SOFTMAX = 25
_CUSTOM = 32
POSTPROCESS = "TFLite_Detection_PostProcess"

_DEQUANTIZE = 6
_LEVELS = {3: (0, 255), 7: (-32768, 32767), 9: (-128, 127)}
"""Kind of value -> the range that its zero point lies in."""

_SCALES = (1e-20, 1e20)
"""The runtime divides one by another, in 32 bits."""

_PICTURE = {67: 2, 49: 1}
"""Which input that is, where it is not the first: TRANSPOSE_CONV, SPLIT."""

_MAY_LACK_WEIGHTS = {15, 16, 24, 27, 32, 35, 44, 46, 52}
"""Operators that may leave out their second input: recurrent ones, and custom ones."""


class _Tensor(NamedTuple):
    kind: int
    shape: tuple[int, ...]
    constant: bool


def check_graphs(data: Buffer) -> None:
    """Check the graphs of a model.

    Args:
        data: The file, at least its flatbuffer.

    Raises:
        ModelFileError: It is broken, or has a graph that no runtime should be given; without the file's name.
    """
    model = Table.root(data)
    full = [bool(buffer.extent(0)[1]) or buffer.integer(1, "Q") > 1 for buffer in model.tables(4)]
    codes = [(max(code.integer(0, "b"), code.integer(3, "i")), code.string(1)) for code in model.tables(1)]
    graphs = model.tables(2)
    if not graphs:
        raise ModelFileError("the model has no graph")
    for graph in graphs:
        tensors = [_tensor(table, full) for table in graph.tables(0)]
        for what, field in (("an input", 1), ("an output", 2)):
            for index in graph.integers(field, "i"):
                _known(index, tensors, what)
        for index in graph.integers(1, "i"):
            if tensors[index].constant or tensors[index].kind == _RESOURCE:
                raise ModelFileError("an input of its graph is a constant")
        made = set(graph.integers(1, "i"))
        for operator in graph.tables(3):
            _check_operator(operator, codes, tensors, made)
    for definition in model.tables(7):
        graph_index = definition.integer(4, "I")
        count = len(graphs[graph_index].tables(0)) if graph_index < len(graphs) else 0
        for entry in (*definition.tables(0), *definition.tables(1)):
            if entry.integer(1, "I") >= count:
                raise ModelFileError("its signature names a tensor that the graph does not have")


def _tensor(table: Table, full: Sequence[bool]) -> _Tensor:
    kind, shape = table.integer(1, "b"), tuple(table.integers(0, "i"))
    if kind not in _BITS:
        raise ModelFileError(f"a tensor holds values of kind {kind}, which no image model has")
    buffer = table.integer(2, "I")
    if buffer >= len(full):
        raise ModelFileError(f"a tensor's values lie in buffer {buffer} of {len(full)}")
    constant = full[buffer]
    most = MAX_CONSTANT_BYTES if constant else MAX_TENSOR_BYTES
    if any(side < 0 for side in shape) or math.prod(shape) * _BITS[kind] // 8 > most:
        raise ModelFileError(f"a tensor of shape {shape[:8]}, expected at most {most >> 20} MiB")
    levels = table.table(4)
    if levels is not None and not constant and kind in _LEVELS:
        lowest, highest = _LEVELS[kind]
        if not all(_SCALES[0] < scale < _SCALES[1] for scale in levels.numbers(2, "f")):
            raise ModelFileError(f"a tensor has a scale outside of {_SCALES[0]} to {_SCALES[1]}")
        if not all(lowest <= zero <= highest for zero in levels.integers(3, "q")):
            raise ModelFileError(f"a tensor has a zero point outside of {lowest} to {highest}")
    return _Tensor(kind, shape, constant)


def _check_operator(
    operator: Table, codes: Sequence[tuple[int, str]], tensors: Sequence[_Tensor], made: set[int]
) -> None:
    """Check one operator.

    Args:
        operator: It.
        codes: Kind and custom name of each operator number.
        tensors: Those of its graph.
        made: Tensors that have a value without it; its outputs are added.
    """
    number = operator.integer(0, "I")
    if number >= len(codes):
        raise ModelFileError(f"an operator is number {number} of {len(codes)}")
    code, name = codes[number]
    inputs, outputs = operator.integers(1, "i"), operator.integers(2, "i")
    at = _PICTURE.get(code, 0)
    for place, index in enumerate(inputs):
        # -1 stands for an input that is left out: a bias, as a rule.
        if index != -1 or (place <= max(1, at) and code not in _MAY_LACK_WEIGHTS):
            _known(index, tensors, "an operator's input")
    for index in outputs:
        _known(index, tensors, "an operator's output")
        if tensors[index].constant:
            raise ModelFileError("an operator writes to a constant")
        if index in made:
            raise ModelFileError(f"tensor {index} is made twice")
        made.add(index)
    if any(tensors[i].kind == _RESOURCE for i in outputs) != (code == _MAKES_RESOURCES):
        raise ModelFileError(f"operator {code} makes a handle of a variable, or makes none where it must")
    if any(i != -1 and tensors[i].kind == _RESOURCE for i in inputs) != (code in _TAKES_RESOURCES):
        raise ModelFileError(f"operator {code} takes a handle of a variable, or takes none where it must")
    if code == _CUSTOM and name == POSTPROCESS:
        if len(inputs) != 3 or len(outputs) != 4:
            raise ModelFileError(f"{POSTPROCESS} has {len(inputs)} inputs and {len(outputs)} outputs, expected 3 and 4")
        _check_postprocess(read_map(operator.data(5)))
    if len(inputs) != _INPUTS.get(code, len(inputs)):
        raise ModelFileError(f"operator {code} has {len(inputs)} inputs, expected {_INPUTS[code]}")
    if code in _NEEDS_OPTIONS:
        options = operator.table(4)
        if operator.integer(3, "B") != _NEEDS_OPTIONS[code] or options is None:
            raise ModelFileError(f"operator {code} lacks its options")
        if code == _SOFTMAX and not 0 < options.number(0, "f") < math.inf:
            raise ModelFileError(f"the steepness of a softmax is {options.number(0, 'f')}, expected more than 0")
    if code == _DEQUANTIZE and inputs and outputs and tensors[inputs[0]].constant:
        if math.prod(tensors[inputs[0]].shape) != math.prod(tensors[outputs[0]].shape):
            raise ModelFileError("weights are dequantised to another number of values")
    if (code in _SAME_KIND or code in _PICTURE) and len(inputs) > at:
        kind = tensors[inputs[at]].kind
        if any(tensors[index].kind != kind for index in outputs):
            raise ModelFileError(f"operator {code} makes values of another kind than it takes")


def _check_postprocess(options: dict[str, float]) -> None:
    for name in ("max_detections", "max_classes_per_detection", "num_classes"):
        if options.get(name, 0) < 1:
            raise ModelFileError(f"{POSTPROCESS} has {name} {options.get(name)}, expected 1 or more")
    for name in ("x_scale", "y_scale", "w_scale", "h_scale", "nms_iou_threshold"):
        if not 0 < options.get(name, 0) < math.inf:
            raise ModelFileError(f"{POSTPROCESS} has {name} {options.get(name)}, expected more than 0")


def _known(index: int, tensors: Sequence[_Tensor], what: str) -> None:
    if not 0 <= index < len(tensors):
        raise ModelFileError(f"{what} of the graph is tensor {index} of {len(tensors)}")
