"""A prediction of what the Edge TPU compiler will do with a model, operator by operator."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from convert.edgetpu.table import CHIP_BYTES, OPERATORS, REWRITES, note, requirements
from convert.operators import Operator, parts, read_operators
from convert.verdicts import Report, Row
from edge.errors import InputError

SECOND = "behind an operator that runs on the CPU: a second part is not compiled"

_LARGE_BYTES = 3 << 20
"""YOLOv8s at 640 x 640, with a tensor of 3.1 MiB, kept 13 operators (ultralytics/ultralytics, thread 4719). SSD
MobileNet V2 at 300 x 300, with 2.1 MiB, kept all but its post-processing (google-coral/edgetpu, thread 62)."""

_COMPILED = "edgetpu-custom-op"
_FLOAT_INPUT = "float input is quantised on the CPU: convert with --io int8 or --io uint8"


def check(model: bytes) -> Report:
    """Predict which operators of a model the compiler maps.

    The compiler takes one part of the graph: the first that has only operators which it knows, in the order in which
    TFLite cuts a graph for a delegate. What depends on an operator behind that part runs on the CPU too.

    Args:
        model: A `.tflite`.

    Raises:
        ModelFileError: It is none.
        InputError: It is compiled already.
    """
    operators = read_operators(model)
    if any(operator.name == _COMPILED for operator in operators):
        raise InputError("the model is compiled for the Edge TPU already; check the file that it was compiled from")
    reasons = [_reason(operator) for operator in operators]
    part = next(parts(operators, [not reason for reason in reasons]), set())
    expanded = _expanded_leaky(operators)
    rows = []
    for operator, reason in zip(operators, reasons, strict=True):
        if not reason and operator.index in part:
            rows.append(Row(operator.index, operator.name, "maps", expanded.get(operator.index) or note(operator)))
        else:
            rows.append(Row(operator.index, operator.name, "cpu", reason or SECOND))
    doubts = _doubts(rows, (operator for operator in operators if operator.index in part))
    return Report("Edge TPU", tuple(rows), doubts, _advice(rows))


def _reason(operator: Operator) -> str:
    """Return why an operator by itself does not map; "" where it does."""
    if operator.custom:
        return "custom operator: only TFLite's own are mapped"
    if operator.name == "QUANTIZE" and operator.given[0].dtype == "float32":
        return _FLOAT_INPUT
    if operator.name not in OPERATORS:
        return "not among the operators of the Edge TPU"
    return requirements(operator) or next(filter(None, (known(operator) for known in OPERATORS[operator.name])), "")


def _expanded_leaky(operators: tuple[Operator, ...]) -> dict[int, str]:
    """Return the notes for leaky ReLUs that were written as max(x, a * x): they map, if the compiler survives it."""
    makers = {tensor.index: operator for operator in operators for tensor in operator.outputs}
    notes = {}
    for operator in operators:
        if operator.name != "MAXIMUM":
            continue
        read = {tensor.index for tensor in operator.given}
        for maker in (makers[index] for index in read if index in makers):
            constants = [tensor for tensor in maker.given if tensor.constant]
            if maker.name == "MUL" and constants and read & {tensor.index for tensor in maker.given}:
                text = "a leaky ReLU in two steps: compilers have aborted on it; the compiler decides"
                notes[operator.index] = notes[maker.index] = text
    return notes


def _doubts(rows: list[Row], mapped: Iterable[Operator]) -> tuple[str, ...]:
    found = [f"{row.op}: {row.reason}" for row in rows if row.verdict == "maps" and row.reason]
    largest = max((prod(tensor.shape) for operator in mapped for tensor in operator.outputs), default=0)
    if largest > _LARGE_BYTES:
        found.append(
            f"the largest tensor takes {largest / (1 << 20):.1f} of the {CHIP_BYTES >> 20} MiB on the chip: networks "
            "with such tensors kept only their first operators there; convert for a smaller --size"
        )
    return tuple(dict.fromkeys(found))


def _advice(rows: list[Row]) -> tuple[str, ...]:
    stuck = dict.fromkeys(row.op for row in rows if row.verdict == "cpu" and row.reason != SECOND)
    hints = [REWRITES[op] for op in stuck if op in REWRITES]
    return ((_FLOAT_INPUT,) if any(row.reason == _FLOAT_INPUT for row in rows) else ()) + tuple(hints)
