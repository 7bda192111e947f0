"""What to convert to for which hardware, decided by measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from convert.edgetpu import check
from convert.gpu import check_gpu
from convert.latency import interleaved_ms
from convert.variants import Variants
from convert.verdicts import Report
from edge.backends.litert import default_threads
from edge.errors import InputError
from edge.frame import Image
from edge.preprocess import Preprocessor
from edge.tensor import TensorInfo

AS_FAST = 1.05
"""Ratio of two times up to which they count as equal: repeated runs of one model differ by as much."""


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        mode: A key of `convert.quantize.MODES`.
        reason: Why, in one line.
        ms: Mode -> median milliseconds that the choice rests on; empty where no time was taken.
    """

    mode: str
    reason: str
    ms: dict[str, float]


class Target(NamedTuple):
    """A row of `TARGETS`.

    Attributes:
        choose: (variants, pictures to run on) -> the choice.
        calibrated: Whether it needs samples.
        check: Says which operators of a finished model the target runs; None where it runs all.
        io: Types that input and outputs may have; the first is the default.
        ending: Of the default file name.
    """

    choose: Callable[[Variants, Sequence[Image]], Choice]
    check: Callable[[bytes], Report] | None
    calibrated: bool
    io: tuple[str, ...]
    ending: str


def check_target_io(target: str, io: str | None, has_samples: bool) -> tuple[str, bool]:
    """Return the type of a target's input and outputs, and whether it is calibrated.

    Raises:
        InputError: Unknown target, a type that it cannot take, or no samples where they are needed.
    """
    if target not in TARGETS:
        raise InputError(f"unknown target {target!r}; expected one of {', '.join(TARGETS)}")
    row = TARGETS[target]
    if io is not None and io not in row.io:
        raise InputError(f"the target {target} takes {' or '.join(row.io)} input and outputs, not {io}")
    if row.calibrated and not has_samples:
        raise InputError(
            f"the target {target} needs pictures to calibrate on; give a folder of typical ones with --calibrate DIR"
        )
    return io or row.io[0], row.calibrated


def _cpu(variants: Variants, images: Sequence[Image]) -> Choice:
    modes = ("float32", "weight-only")
    both = [variants.candidate(mode) for mode in modes]
    ms = interleaved_ms([variants.file(each.content, each.source) for each in both], images)
    ratio = float(np.median(ms[:, 1] / ms[:, 0]))
    medians = dict(zip(modes, map(float, np.median(ms, axis=0)), strict=True))
    mode, verdict = ("weight-only", "as fast as") if ratio <= AS_FAST else ("float32", "slower than")
    threads = default_threads()
    reason = (
        f"weight-only {medians['weight-only']:.2f} ms, float32 {medians['float32']:.2f} ms, {threads} "
        f"thread{'s' * (threads > 1)}, {len(ms)} rounds in turn: {ratio:.2f} times as long, {verdict} float32"
    )
    return Choice(mode, reason, medians)


def _gpu(variants: Variants, images: Sequence[Image]) -> Choice:
    name, value = _largest(variants, images)
    limit = float(np.finfo(np.float16).max)
    if value > limit:
        return Choice(
            "float32", f"float16 ends at {limit:.0f}, and {name or 'a tensor without a name'} reaches {value:.3g}", {}
        )
    return Choice("float16", f"no value is beyond {value:.3g}, float16 ends at {limit:.0f}", {})


def _largest(variants: Variants, images: Sequence[Image]) -> tuple[str, float]:
    """Return the tensor, constants included, that holds the largest absolute value, and that value."""
    content = variants.content("float32")
    # Without XNNPACK, whose fused tensors hold nothing.
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (detail,) = interpreter.get_input_details()
    info = TensorInfo(detail["name"], tuple(map(int, detail["shape"])), np.dtype(detail["dtype"]))
    preprocessor = Preprocessor(variants.model.spec.input, info)
    tensor = np.empty(info.shape, info.dtype)
    largest = ("", 0.0)
    for image in images:
        preprocessor.write(image, tensor)
        interpreter.set_tensor(detail["index"], tensor)
        interpreter.invoke()
        for row in interpreter.get_tensor_details():
            largest = max(largest, _reach(interpreter, row), key=lambda reach: reach[1])
    return largest


def _reach(interpreter: Any, row: dict[str, Any]) -> tuple[str, float]:
    if row["dtype"] is not np.float32 or not row["shape"].size:
        return "", 0.0
    values = np.abs(interpreter.get_tensor(row["index"]))
    return row["name"], float(np.where(np.isfinite(values), values, np.inf).max()) if values.size else 0.0


def _edgetpu(variants: Variants, images: Sequence[Image]) -> Choice:
    return Choice("int8", "the Edge TPU computes in 8-bit integers alone", {})


TARGETS: dict[str, Target] = {
    "cpu": Target(_cpu, None, False, ("float32",), "cpu"),
    "gpu": Target(_gpu, check_gpu, False, ("float32",), "gpu"),
    "edgetpu": Target(_edgetpu, check, True, ("int8", "uint8"), "int8"),
}
"""Name -> target; the names are those of `edge.spec.ConversionRecord`."""
