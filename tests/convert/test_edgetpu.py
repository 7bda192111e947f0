"""What maps to the Edge TPU, and the compiler: its real logs, and a stand-in for it that prints them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures import described, tiny_detector
from tflite_builder import Builder, compiled
from typer.testing import CliRunner

from convert.edgetpu import by_hand, check, compile_model, parse_log
from convert.edgetpu.check import SECOND
from edge.cli.app import app
from edge.errors import InputError, MissingDependencyError, ModelFileError, OutputError
from edge.spec.archive import read_tail, with_tail
from edge.spec.twin import attach_twin, cpu_twin

Q = (0.1, 0)
SHAPE = (1, 8, 8, 4)


class Int8(Builder):
    """A graph whose tensors are int8 with a scale unless said otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = self.tensor("picture", SHAPE, "int8", Q)

    def add(self, kind: str, inputs: list[int], shape: tuple[int, ...] = SHAPE, dtype: str = "int8", **options) -> int:
        return self.op(kind, inputs, shape, dtype=dtype, quant=Q if dtype == "int8" else None, **options)

    def ints(self, *values) -> int:
        return self.constant(np.array(values), "int32")

    def conv(self, source: int, outputs: int = 4, **options) -> int:
        kernel = self.constant(np.ones((outputs, 1, 1, 4)), "int8", quant=Q)
        bias = self.constant(np.zeros(outputs), "int32", quant=Q)
        return self.add("CONV_2D", [source, kernel, bias], (1, 8, 8, outputs), **options)

    def report(self, *outputs: int):
        return check(self.build([self.picture], list(outputs)))


def test_what_coral_compiled_maps(shared_data) -> None:
    """Their file has one operator, all of the network: so says the check of the file that it was made from."""
    assert all(
        row.verdict == "maps"
        for row in check(shared_data("tflite/mobilenet_v1_0.25_128_quant.tflite").read_bytes()).rows
    )
    compiled = shared_data("tflite/mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes()
    with pytest.raises(InputError, match="compiled for the Edge TPU already"):
        check(compiled)


def test_a_detector_with_postprocessing(shared_data) -> None:
    """As in the compiler's logs of such networks: all but the custom operator (google-coral/edgetpu, thread 515)."""
    report = check(shared_data("tflite/ssd_mobilenet_v1_1_metadata_1.tflite").read_bytes())
    assert (report.mapped, report.on_cpu) == (63, 1)
    assert report.first_unmapped.op == "TFLite_Detection_PostProcess"
    assert "always run on the CPU" in report.advice[0]


def test_a_decoder_inside_of_the_graph(shared_data) -> None:
    report = check(shared_data("tflite/yolov8n_full_integer_quant_640_ultralytics8.2.23.tflite").read_bytes())
    assert report.first_unmapped.op == "TRANSPOSE" and "raw heads" in report.advice[0]
    assert [doubt.split(":")[0] for doubt in report.doubts] == ["QUANTIZE"]


@pytest.mark.parametrize(("side", "doubtful"), [(512, True), (256, False)])
def test_a_large_tensor_raises_doubts(side: int, doubtful: bool) -> None:
    graph = Builder()
    picture = graph.tensor("picture", (1, side, side, 16), "int8", Q)
    report = check(graph.build([picture], [graph.op("RELU", [picture], (1, side, side, 16), dtype="int8", quant=Q)]))
    assert report.on_cpu == 0 and bool(report.doubts) == doubtful
    assert all("4.0 of the 8 MiB" in doubt and "smaller --size" in doubt for doubt in report.doubts)


def test_leaky_relu_splits_the_graph() -> None:
    graph = Int8()
    first = graph.conv(graph.picture)
    leaky = graph.add("LEAKY_RELU", [first], alpha=0.1)
    report = graph.report(graph.conv(leaky))
    assert [(row.op, row.verdict) for row in report.rows] == [
        ("CONV_2D", "maps"),
        ("LEAKY_RELU", "cpu"),
        ("CONV_2D", "cpu"),
    ]
    assert report.rows[2].reason == SECOND
    assert str(report) == "1 of 3 operators map to the Edge TPU; the first on the CPU is LEAKY_RELU (operator 1)"
    assert [hint for hint in report.advice if "ReLU6" in hint and "again" in hint]
    assert {(group.op, group.count, group.verdict) for group in report.groups} == {
        ("CONV_2D", 1, "maps"),
        ("LEAKY_RELU", 1, "cpu"),
        ("CONV_2D", 1, "cpu"),
    }


def test_a_branch_beside_the_split_still_maps() -> None:
    """Tiny YOLOv3: the first head is behind the resize in the file, and maps although the resize did not."""
    graph = Int8()
    trunk = graph.conv(graph.picture)
    unknown = graph.add("ABS", [trunk])
    behind = graph.conv(unknown)
    head = graph.conv(trunk)
    assert [row.verdict for row in graph.report(behind, head).rows] == ["maps", "cpu", "cpu", "maps"]


def test_float_input_and_output() -> None:
    graph = Int8()
    picture = graph.tensor("float", SHAPE)
    inside = graph.add("QUANTIZE", [picture])
    middle = graph.conv(inside)
    out = graph.add("DEQUANTIZE", [middle], dtype="float32")
    report = check(graph.build([picture], [out]))
    assert [row.verdict for row in report.rows] == ["cpu", "maps", "cpu"]
    assert all("--io int8" in hint for hint in report.advice) and len(report.advice) == 2


def _pool(graph: Int8) -> int:
    return graph.add(
        "AVERAGE_POOL_2D",
        [graph.picture],
        strideW=1,
        strideH=1,
        filterWidth=1,
        filterHeight=1,
        fusedActivationFunction=1,
    )


def _weights_that_move(graph: Int8) -> int:
    kernel = graph.add("RESHAPE", [graph.picture, graph.ints(4, 4, 4, 4)], (1, 8, 8, 4))
    return graph.add("CONV_2D", [graph.picture, kernel], SHAPE, strideW=1, strideH=1)


def _strided(graph: Int8, step: int) -> int:
    zeros, ends, steps = graph.ints(0, 0, 0, 0), graph.ints(*SHAPE), graph.ints(1, step, step, 1)
    size = 8 // step
    return graph.add("STRIDED_SLICE", [graph.picture, zeros, ends, steps], (1, size, size, 4), beginMask=0)


def _joined(graph: Int8, value: int) -> int:
    constant = graph.constant(np.full(SHAPE, value), "int8", quant=Q)
    return graph.add("CONCATENATION", [graph.picture, constant], (1, 8, 8, 8), axis=3)


def _free(graph: Int8) -> int:
    return graph.op("RELU", [graph.picture], SHAPE, dtype="int8", quant=Q, signature=(-1, 8, 8, 4))


CASES: dict[str, tuple[Callable[[Int8], int], str | None]] = {
    "relu6": (lambda g: g.add("RELU6", [g.picture]), None),
    "hard swish": (lambda g: g.add("HARD_SWISH", [g.picture]), "not among the operators"),
    "free size": (_free, "dynamic shape"),
    "no scale": (lambda g: g.op("RELU", [g.picture], SHAPE, dtype="int8"), "without scale"),
    "int16": (lambda g: g.op("RELU", [g.picture], SHAPE, dtype="int16", quant=Q), "type int16"),
    "four dimensions": (
        lambda g: g.add("RESHAPE", [g.picture, g.ints(2, 4, 8, 4)], (2, 4, 8, 4)),
        "three innermost dimensions",
    ),
    "dilation": (lambda g: g.conv(g.picture, dilationHFactor=2, dilationWFactor=1), "dilation 1 x 2"),
    "same dilation": (lambda g: g.conv(g.picture, dilationHFactor=2, dilationWFactor=2), None),
    "computed weights": (_weights_that_move, "must be constant"),
    "pool with relu": (_pool, "fused activation"),
    "zero padding by joining": (lambda g: _joined(g, 0), None),
    "joined constant": (lambda g: _joined(g, 3), "joins a constant"),
    "softmax": (lambda g: g.add("SOFTMAX", [g.add("RESHAPE", [g.picture, g.ints(1, 256)], (1, 256))], (1, 256)), None),
    "softmax over a grid": (lambda g: g.add("SOFTMAX", [g.picture], beta=1.0), "must have one dimension"),
    "mean": (lambda g: g.add("MEAN", [g.picture, g.ints(1, 2)], (1, 4)), None),
    "mean of three channels": (
        lambda g: g.add("MEAN", [g.conv(g.picture, 3), g.ints(3)], (1, 8, 8)),
        "multiple of 4",
    ),
    "sum over the batch": (lambda g: g.add("SUM", [g.picture, g.ints(0)], (8, 8, 4)), "batch dimension"),
    "padded batch": (
        lambda g: g.add("PAD", [g.picture, g.ints([0, 1], [0, 0], [0, 0], [0, 0])], (2, 8, 8, 4)),
        "three innermost|batch",
    ),
    "pad": (lambda g: g.add("PAD", [g.picture, g.ints([0, 0], [1, 1], [1, 1], [0, 0])], (1, 10, 10, 4)), None),
    "stride 2": (lambda g: _strided(g, 2), "strides other than 1"),
    "stride 1": (lambda g: _strided(g, 1), None),
    "alpha of every pixel": (
        lambda g: g.add("PRELU", [g.picture, g.constant(np.ones((8, 8, 4)), "int8", quant=Q)]),
        "one dimension",
    ),
    "alpha of every channel": (
        lambda g: g.add("PRELU", [g.picture, g.constant(np.ones((1, 1, 4)), "int8", quant=Q)]),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_conditions(case: str) -> None:
    build, reason = CASES[case]
    graph = Int8()
    last = graph.report(build(graph)).rows[-1]
    if reason is None:
        assert (last.verdict, last.reason) == ("maps", "")
    else:
        assert last.verdict == "cpu"
        assert re.search(reason, last.reason), last.reason


def test_an_expanded_leaky_relu_is_a_doubt() -> None:
    graph = Int8()
    alpha = graph.constant(np.ones(1), "int8", quant=Q)
    small = graph.add("MUL", [graph.picture, alpha])
    report = graph.report(graph.add("MAXIMUM", [graph.picture, small]))
    assert report.on_cpu == 0 and all("two steps" in doubt for doubt in report.doubts) and len(report.doubts) == 2


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x18\0\0\0TFL3" + b"\xff" * 40])
def test_what_is_no_model(data: bytes) -> None:
    with pytest.raises(ModelFileError, match="model: "):
        check(data)


# What the compiler printed, cut to what differs. WongKinYiu/yolov7, pull request 1672:
ALL_MAPPED = """Edge TPU Compiler version 16.0.384591198
Searching for valid delegate with step 10
Try to compile segment with 246 ops
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 3133 ms.

Input model: best-int8.tflite
Input size: 6.00MiB
Output model: best-int8_edgetpu.tflite
Output size: 6.47MiB
On-chip memory used for caching model parameters: 5.90MiB
On-chip memory remaining for caching model parameters: 1.16MiB
Off-chip memory used for streaming uncached model parameters: 41.75KiB
Number of Edge TPU subgraphs: 1
Total number of operations: 246
Operation log: best-int8_edgetpu.log

Operator                       Count      Status

ADD                            3          Mapped to Edge TPU
LOGISTIC                       64         Mapped to Edge TPU
RESIZE_NEAREST_NEIGHBOR        2          Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
# f0cal/google-coral, thread 20: MobileNetV2 with float input and output.
PART_MAPPED = """Edge TPU Compiler version 2.0.267685300

Model compiled successfully in 300 ms.

Number of Edge TPU subgraphs: 1
Total number of operations: 72

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower.
Number of operations that will run on Edge TPU: 70
Number of operations that will run on CPU: 2

Operator                       Count      Status

ADD                            10         Mapped to Edge TPU
PAD                            5          Mapped to Edge TPU
QUANTIZE                       1          Operation is otherwise supported, but not mapped due to some \
unspecified limitation
CONV_2D                        35         Mapped to Edge TPU
DEPTHWISE_CONV_2D              17         Mapped to Edge TPU
DEQUANTIZE                     1          Operation is working on an unsupported data type
MEAN                           1          Mapped to Edge TPU
FULLY_CONNECTED                1          Mapped to Edge TPU
SOFTMAX                        1          Mapped to Edge TPU
"""
# google-coral/edgetpu, threads 378, 313, 586 and 512:
INTERNAL = "Edge TPU Compiler version 14.1.317412892\n\nInternal compiler error. Aborting! \n"
NOT_QUANTIZED = "Edge TPU Compiler version 15.0.340273435\nInvalid model: m.tflite\nModel not quantized\n"
DYNAMIC = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized tensors.
Compilation failed: Model failed in Tflite interpreter. Please ensure model can be loaded/run in Tflite interpreter.
Compilation child process completed within timeout period.
Compilation failed!
"""
LARGE = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
"""
# google-coral/edgetpu, thread 609:
NOTHING_MAPPED = """Edge TPU Compiler version 16.0.384591198

Model compiled successfully in 17 ms.

Number of Edge TPU subgraphs: 0
Total number of operations: 7

Operator                       Count      Status

CONV_2D                        7          Operation is working on an unsupported data type
"""


def test_log_of_a_whole_network() -> None:
    log = parse_log(ALL_MAPPED)
    assert (log.version, log.compiled, log.subgraphs) == ("16.0.384591198", True, 1)
    assert [(g.op, g.count, g.verdict) for g in log.groups][1] == ("LOGISTIC", 64, "maps")
    assert (len(log.groups), log.on_cpu, log.failures) == (3, 0, ())


def test_log_of_a_part() -> None:
    log = parse_log(PART_MAPPED)
    assert (log.mapped, log.on_cpu) == (70, 2)
    assert [g.reason for g in log.groups if g.op == "DEQUANTIZE"] == [
        "Operation is working on an unsupported data type"
    ]


@pytest.mark.parametrize(("text", "failures"), [(INTERNAL, 1), (NOT_QUANTIZED, 2), (DYNAMIC, 2), (LARGE, 2)])
def test_log_of_a_failure(text: str, failures: int) -> None:
    log = parse_log(text)
    assert not log.compiled and not log.groups and len(log.failures) == failures


def test_the_log_file_has_only_the_table() -> None:
    head = "Edge TPU Compiler version 16.0.384591198\nInput: m.tflite\nOutput: m_edgetpu.tflite\n\n"
    log = parse_log(head + PART_MAPPED[PART_MAPPED.index("Operator  ") :])
    assert log.version.startswith("16.") and log.mapped == 70


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a compiler on PATH that prints a log, and writes a file with one operator like the real one's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "result").write_bytes(compiled(tiny_detector("anchor_free", "int8").model))

    def put(text: str, status: int = 0, writes: bool = True) -> Path:
        (tmp_path / "log").write_text(text)
        copies = (
            f'name=$(basename "$4" .tflite)\ncp "{tmp_path}/result" "$3/${{name}}_edgetpu.tflite"\n' if writes else ""
        )
        script = f'#!/bin/sh\necho "$@" > "{tmp_path}/arguments"\ncat "{tmp_path}/log"\n{copies}exit {status}\n'
        (programs / "edgetpu_compiler").write_text(script)
        (programs / "edgetpu_compiler").chmod(0o755)
        monkeypatch.setenv("PATH", str(programs), prepend=":")
        return tmp_path

    return put


def test_compiling_keeps_both_files_and_what_they_say(stand_in, tmp_path: Path) -> None:
    stand_in(ALL_MAPPED)
    twin = tiny_detector("anchor_free", "int8").save(tmp_path / "m.tflite")
    before = twin.read_bytes()
    done = compile_model(twin)
    assert done.path == tmp_path / "m_edgetpu.tflite" and twin.read_bytes() == before
    assert done.log.mapped == 69
    spec = json.loads(read_tail(done.path)["metadata.json"])
    assert spec["cpu_twin"] == "m.tflite" and spec["labels"] == ["red", "green", "blue"]
    assert spec["model_sha256"] != json.loads(read_tail(twin)["metadata.json"]).get("model_sha256")
    assert cpu_twin(done.path) == twin
    assert "--show_operations --out_dir" in (tmp_path / "arguments").read_text()
    with pytest.raises(OutputError, match="--force"):
        compile_model(twin)
    compile_model(twin, force=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (INTERNAL, "14.1.317412892 refused it .Internal compiler error. Aborting!.*fault of the compiler"),
        (NOT_QUANTIZED, "Model not quantized.*--to int8"),
        (DYNAMIC, "dynamic-sized.*must be fixed"),
        (LARGE, "large activation.*smaller input"),
    ],
)
def test_a_compiler_that_refuses(stand_in, tmp_path: Path, text: str, says: str) -> None:
    stand_in(text, status=1, writes=False)
    path = tiny_detector().save(tmp_path / "m.tflite")
    with pytest.raises(InputError, match=says) as caught:
        compile_model(path)
    assert "\n" not in str(caught.value) and not (tmp_path / "m_edgetpu.tflite").exists()


def test_a_compiler_that_maps_nothing(stand_in, tmp_path: Path) -> None:
    stand_in(NOTHING_MAPPED)
    with pytest.raises(
        InputError, match="maps nothing of it: CONV_2D: Operation is working on an unsupported data type"
    ):
        compile_model(tiny_detector().save(tmp_path / "m.tflite"))
    assert not (tmp_path / "m_edgetpu.tflite").exists()


def test_a_compiler_that_ends_without_a_word(stand_in, tmp_path: Path) -> None:
    stand_in("", status=139, writes=False)
    with pytest.raises(InputError, match="exit status 139"):
        compile_model(tiny_detector().save(tmp_path / "m.tflite"))


def test_without_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tiny_detector().save(tmp_path / "my model.tflite")
    with pytest.raises(MissingDependencyError, match="edgetpu_compiler --show_operations 'my model.tflite'"):
        compile_model(path)
    assert by_hand(path)[-1] == "edge inspect 'my model_edgetpu.tflite' --attach 'my model.tflite'"


def test_what_was_compiled_elsewhere_gets_its_description(tmp_path: Path) -> None:
    twin = tiny_detector("anchor_free", "int8").save(tmp_path / "m.tflite")
    path = tmp_path / "m_edgetpu.tflite"
    path.write_bytes(compiled(tiny_detector("anchor_free", "int8").model))
    inspect = ["inspect", str(path)]
    done = CliRunner().invoke(app, [*inspect, "--attach", str(twin)])
    assert done.exit_code == 0, done.output
    spec = json.loads(read_tail(path)["metadata.json"])
    assert spec["cpu_twin"] == "m.tflite" and spec["decoder"]["name"] == "anchor_free"
    shown = CliRunner().invoke(app, [*inspect, "--json"])
    assert json.loads(shown.stdout)["spec"]["cpu_twin"] == "m.tflite"
    done = CliRunner().invoke(app, [*inspect, "--attach", str(twin)])
    assert done.exit_code == 2 and "--force" in done.stderr
    other = tiny_detector("yolov8", "int8").save(tmp_path / "other.tflite")
    with pytest.raises(InputError, match="no twins"):
        attach_twin(path, other, force=True)
    (tmp_path / "else").mkdir()
    with pytest.raises(InputError, match="must lie beside"):
        attach_twin(path, twin.rename(tmp_path / "else" / "m.tflite"), force=True)


def test_the_twin_of_a_file(tmp_path: Path) -> None:
    compiled = tmp_path / "m_edgetpu.tflite"
    assert cpu_twin(compiled) is None
    tiny = tiny_detector()
    tiny.save(compiled, described=False)
    assert cpu_twin(compiled) is None
    twin = tiny.save(tmp_path / "m.tflite")
    assert cpu_twin(compiled) == twin and cpu_twin(twin) is None
    other = tiny.save(tmp_path / "other.tflite")
    compiled.write_bytes(described(tiny, cpu_twin="other.tflite"))
    assert cpu_twin(compiled) == other
    compiled.write_bytes(with_tail(tiny.model, {"metadata.json": b'{"cpu_twin": "../m.tflite"}'}))
    assert cpu_twin(compiled) == twin  # a path is not believed
