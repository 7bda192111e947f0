"""Which operators LiteRT's GPU accelerator refuses, said before a file is written.

Sources: `CheckGpuDelegateCompatibility` in google-ai-edge/LiteRT, tflite/tools/versioning/gpu_compatibility.cc, for the
operators and their conditions; what the accelerator of LiteRT 2.3.0 itself (WebGPU on Vulkan) said of models of one
operator, for the highest versions and for what the source does not list. `tests/lab/test_gpu.py` asks it again.
"""

from __future__ import annotations

from collections.abc import Callable

from convert.operators import Operator, parts, read_operators
from convert.verdicts import Report, Row

OTHER_PART = "cut off by an operator that runs on the CPU: only the largest part is taken"

_REFLECT = 0  # schema.MirrorPadMode.REFLECT
_DIMENSIONS = 4

_INTEGER = (
    "the GPU computes an integer model in floating point: its results differ by some steps from the CPU's, and it is "
    "no faster than a float16 one; convert with --to float16"
)

ADVICE: dict[str, str] = {
    "DEQUANTIZE": "8-bit weights with a scale per channel are unpacked on the CPU: convert with --to float16",
    "SQUEEZE": "write it as a Reshape",
    "EXPAND_DIMS": "write it as a Reshape",
    "STRIDED_SLICE": "slice with ranges of length 1, and Reshape afterwards",
    "TFLite_Detection_PostProcess": "box decoding and suppression run on the CPU: nothing to mend",
}
"""Operator that is refused -> what can be done about it."""


def check_gpu(model: bytes) -> Report:
    """Predict which operators of a model the GPU runs: the largest part of the graph that has only such as it takes.

    The rest runs on the CPU, at the cost of copies in between.

    Args:
        model: A `.tflite`.

    Raises:
        ModelFileError: It is none.
    """
    operators = read_operators(model)
    reasons = [_reason(operator) for operator in operators]
    part = max(parts(operators, [not reason for reason in reasons]), key=len, default=set())
    rows = tuple(_row(operator, reason, part) for operator, reason in zip(operators, reasons, strict=True))
    integer = any(tensor.dtype in ("int8", "uint8", "int16") for operator in operators for tensor in operator.outputs)
    refused = dict.fromkeys(row.op for row in rows if row.verdict == "cpu" and row.reason != OTHER_PART)
    advice = tuple(ADVICE[op] for op in refused if op in ADVICE)
    return Report("GPU", rows, (_INTEGER,) if integer else (), advice)


def _row(operator: Operator, reason: str, part: set[int]) -> Row:
    if reason or operator.index in part:
        return Row(operator.index, operator.name, "cpu" if reason else "maps", reason)
    return Row(operator.index, operator.name, "cpu", OTHER_PART)


def _reason(operator: Operator) -> str:
    """Return why the GPU refuses an operator; "" where it takes it."""
    if operator.custom:
        return "custom operator"
    if operator.name not in OPERATORS:
        return "not among the operators of the GPU accelerator"
    if operator.name == "DEQUANTIZE" and operator.given[0].constant and operator.given[0].dtype == "float16":
        return ""  # unpacked once, when the model is loaded
    newest, conditions = OPERATORS[operator.name]
    if newest is not None and operator.version > newest:
        return f"version {operator.version}: at most {newest}"
    for tensor in (*operator.given, *operator.outputs):
        if len(tensor.shape) > _DIMENSIONS:
            return f"a tensor of {len(tensor.shape)} dimensions: at most {_DIMENSIONS}"
    return next(filter(None, (condition(operator) for condition in conditions)), "")


Condition = Callable[[Operator], str | None]
"""Returns why an operator is refused; None where it is not."""


def _unit_beta(operator: Operator) -> str | None:
    return None if operator.option("beta", 1.0) == 1 else "a beta other than 1"


def _plain_slice(operator: Operator) -> str | None:
    masks = [operator.option(name) for name in ("ellipsisMask", "newAxisMask", "shrinkAxisMask")]
    return "an axis that is added or dropped" if any(masks) else _three_or_four(operator)


def _three_or_four(operator: Operator) -> str | None:
    rank = len(operator.given[0].shape)
    return None if rank in (3, 4) else f"{rank} dimensions: expected 3 or 4"


def _constant_axes(operator: Operator) -> str | None:
    axes = operator.given[1]
    return None if axes.constant and axes.dtype == "int32" else "axes that are computed: must be constant int32"


def _padding(operator: Operator) -> str | None:
    rows = operator.given[1].shape[:1]
    return None if rows in ((3,), (4,)) else "padding of other than 3 or 4 dimensions"


def _reflection(operator: Operator) -> str | None:
    return None if operator.option("mode") == _REFLECT else "symmetric padding: only reflection"


def _default_weights(operator: Operator) -> str | None:
    return None if operator.option("weightsFormat") == 0 else "weights in a shuffled format"


def _row_of_indices(operator: Operator) -> str | None:
    indices = operator.given[1]
    return None if len(indices.shape) == 1 and indices.dtype == "int32" else "indices other than one row of int32"


def _float_cast(operator: Operator) -> str | None:
    kinds = {operator.given[0].dtype, operator.outputs[0].dtype}
    allowed = kinds <= {"float32", "int32"} or (len(kinds) == 2 and kinds & {"float32", "float16"} and "bool" in kinds)
    return None if allowed else f"from {operator.given[0].dtype} to {operator.outputs[0].dtype}"


def _block(operator: Operator) -> str | None:
    return None if operator.option("blockSize") > 1 else "a block of 1"


OPERATORS: dict[str, tuple[int | None, tuple[Condition, ...]]] = {
    **dict.fromkeys(
        (
            "ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CEIL CONCATENATION COS DIV ELU EQUAL EXP FLOOR FLOOR_DIV "
            "FLOOR_MOD GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT "
            "LOGICAL_OR LOGISTIC MAXIMUM MAX_POOL_2D MINIMUM MUL NEG NOT_EQUAL PACK POW PRELU RELU RELU6 RELU_N1_TO_1 "
            "RESHAPE ROUND RSQRT SELECT SELECT_V2 SIGN SIN SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE TANH TILE "
            "TOPK_V2 TRANSPOSE"
        ).split(),
        (None, ()),
    ),
    "CAST": (None, (_float_cast,)),
    "CONV_2D": (6, ()),
    "CUMSUM": (None, (_constant_axes,)),
    "DEPTHWISE_CONV_2D": (None, ()),
    "DEPTH_TO_SPACE": (None, (_block,)),
    "DEQUANTIZE": (3, ()),
    "FULLY_CONNECTED": (None, (_default_weights,)),
    "GATHER": (None, (_row_of_indices,)),
    "MEAN": (None, (_constant_axes,)),
    "MIRROR_PAD": (None, (_padding, _reflection)),
    "PAD": (None, (_padding,)),
    "PADV2": (None, (_padding,)),
    "QUANTIZE": (2, ()),
    "REDUCE_MAX": (None, (_constant_axes,)),
    "REDUCE_MIN": (None, (_constant_axes,)),
    "REDUCE_PROD": (None, (_constant_axes,)),
    "RESIZE_BILINEAR": (3, ()),
    "RESIZE_NEAREST_NEIGHBOR": (3, ()),
    "REVERSE_V2": (None, (_constant_axes,)),
    "SLICE": (None, (_three_or_four,)),
    "SOFTMAX": (None, (_unit_beta,)),
    "SPACE_TO_DEPTH": (None, (_block,)),
    "STRIDED_SLICE": (2, (_plain_slice,)),
    "SUB": (2, ()),
    "SUM": (None, (_constant_axes,)),
    "TRANSPOSE_CONV": (3, ()),
}
"""TFLite operator -> the highest version that is taken (None: not met), and conditions. Every other runs on the CPU."""
