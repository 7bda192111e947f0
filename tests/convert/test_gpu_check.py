"""What the GPU accelerator refuses; `tests/lab/test_gpu.py` compares it with what the accelerator does."""

from __future__ import annotations

import re
from collections.abc import Callable

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_builder import Builder

from convert.gpu import OTHER_PART, check_gpu
from edge.errors import ModelFileError

SHAPE = (1, 8, 8, 4)


class Graph(Builder):
    """A float graph in which an operator stands between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = self.tensor("picture", SHAPE)
        self.start = self.op("RELU", [self.picture], SHAPE)

    def ints(self, *values) -> int:
        return self.constant(np.array(values), "int32")

    def middle(self, kind: str, constants: tuple[int, ...] = (), shape: tuple[int, ...] = SHAPE, **options) -> int:
        return self.op(kind, [self.start, *constants], shape, **options)


def newer(data: bytes, kind: str, version: int) -> bytes:
    """Return the model with another version of an operator."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for code in model.operatorCodes:
        if code.builtinCode == getattr(schema.BuiltinOperator, kind):
            code.version = version
    packer = flatbuffers.Builder(1024)
    packer.Finish(model.Pack(packer), b"TFL3")
    return bytes(packer.Output())


def _slice(g: Graph, shape: tuple[int, ...] = SHAPE, **masks) -> int:
    return g.middle("STRIDED_SLICE", (g.ints(0, 0, 0, 0), g.ints(*SHAPE), g.ints(1, 1, 1, 1)), shape, **masks)


CASES: dict[str, tuple[Callable[[Graph], int], str]] = {
    "leaky relu": (lambda g: g.middle("LEAKY_RELU", alpha=0.1), ""),
    "unknown": (lambda g: g.middle("L2_NORMALIZATION"), "not among the operators"),
    "squeeze": (lambda g: g.middle("SQUEEZE", (), (8, 8, 4)), "not among"),
    "softmax": (lambda g: g.middle("SOFTMAX", beta=1.0), ""),
    "beta": (lambda g: g.middle("SOFTMAX", beta=2.0), "beta other than 1"),
    "five": (lambda g: g.middle("RESHAPE", (g.ints(1, 4, 2, 8, 4),), (1, 4, 2, 8, 4)), "5 dimensions"),
    "slice": (lambda g: _slice(g, beginMask=0), ""),
    "dropped axis": (lambda g: _slice(g, (8, 8, 4), shrinkAxisMask=1), "added or dropped"),
    "mean": (lambda g: g.middle("MEAN", (g.ints(1, 2),), (1, 4)), ""),
    "computed axes": (lambda g: g.middle("MEAN", (g.tensor("axes", (2,), "int32"),), (1, 4)), "must be constant"),
    "cast": (lambda g: g.middle("CAST", dtype="int32"), ""),
    "cast to bytes": (lambda g: g.middle("CAST", dtype="uint8"), "from float32 to uint8"),
    "block": (lambda g: g.middle("DEPTH_TO_SPACE", (), (1, 16, 16, 1), blockSize=2), ""),
    "gather rows": (lambda g: g.middle("GATHER", (g.ints([0, 1]),), (1, 2, 8, 4)), "one row of int32"),
}


@pytest.mark.parametrize("case", CASES)
def test_conditions(case: str) -> None:
    build, reason = CASES[case]
    graph = Graph()
    row = check_gpu(graph.build([graph.picture], [build(graph)])).rows[-1]
    assert (row.verdict == "maps") == (not reason)
    assert re.search(reason, row.reason) and bool(reason) == bool(row.reason)


def test_versions() -> None:
    graph = Graph()
    data = graph.build([graph.picture], [_slice(graph, beginMask=0)])
    assert check_gpu(newer(data, "STRIDED_SLICE", 2)).on_cpu == 0
    assert check_gpu(newer(data, "STRIDED_SLICE", 4)).rows[-1].reason == "version 4: at most 2"


def test_only_the_largest_part_is_taken() -> None:
    graph = Graph()
    refused = graph.middle("LOG_SOFTMAX")
    first = graph.op("RELU", [refused], SHAPE)
    report = check_gpu(graph.build([graph.picture], [graph.op("TANH", [first], SHAPE)]))
    assert [row.verdict for row in report.rows] == ["cpu", "cpu", "maps", "maps"]
    assert report.rows[0].reason == OTHER_PART
    assert str(report) == "2 of 4 operators map to the GPU; the first on the CPU is RELU (operator 0)"


def test_float16_weights_are_unpacked_once() -> None:
    graph = Graph()
    half = graph.constant(np.ones((4, 1, 1, 4)), "float16")
    kernel = graph.op("DEQUANTIZE", [half], (4, 1, 1, 4))
    made = graph.middle("CONV_2D", (kernel, graph.constant(np.zeros(4))), strideW=1, strideH=1)
    data = newer(graph.build([graph.picture], [made]), "DEQUANTIZE", 5)
    assert check_gpu(data).on_cpu == 0


def test_advice_and_doubts() -> None:
    graph = Graph()
    report = check_gpu(graph.build([graph.picture], [graph.middle("SQUEEZE", (), (8, 8, 4))]))
    assert report.advice == ("write it as a Reshape",) and report.doubts == ()
    whole = Builder()
    picture = whole.tensor("picture", SHAPE, "int8", (0.1, 0))
    report = check_gpu(whole.build([picture], [whole.op("RELU", [picture], SHAPE, dtype="int8", quant=(0.1, 0))]))
    assert report.on_cpu == 0 and "--to float16" in report.doubts[0]


def test_custom_operators_and_no_model() -> None:
    graph = Graph()
    boxes = graph.tensor("boxes", (1, 4))
    graph.custom("TFLite_Detection_PostProcess", [graph.start], [boxes])
    report = check_gpu(graph.build([graph.picture], [boxes]))
    assert report.rows[-1].reason == "custom operator" and "run on the CPU" in report.advice[0]
    with pytest.raises(ModelFileError):
        check_gpu(b"garbage")
