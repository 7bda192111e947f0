"""Models that are whole as files and would end the process in the runtime."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from fixtures import DTYPES, FAMILIES, constant_model, tiny_classifier, tiny_detector
from tflite_builder import Builder

from edge.backends.litert import LiteRTBackend
from edge.bundled import BUNDLED, bundled_model
from edge.errors import BackendError, EdgeError, InputError, ModelFileError
from edge.spec.graph import check_model

ROOT = Path(__file__).resolve().parents[2]


def spoiled(model: bytes, spoil: Callable[[Any], None]) -> bytes:
    """Return a model after something was changed in its first graph."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    spoil(parsed)
    packer = flatbuffers.Builder(1024)
    packer.Finish(parsed.Pack(packer), b"TFL3")
    return bytes(packer.Output())


def graph(model: Any) -> Any:
    return model.subgraphs[0]


def no_weights(model: Any) -> None:
    (operator,) = (o for o in graph(model).operators if len(o.inputs) == 3)
    operator.inputs = [int(operator.inputs[0]), -1, int(operator.inputs[2])]


def on_a_constant(field: str) -> Callable[[Any], None]:
    def spoil(model: Any) -> None:
        tensors = graph(model).tensors
        constant = next(t.buffer for t in tensors if model.buffers[t.buffer].data is not None)
        index = graph(model).inputs[0] if field == "input" else graph(model).operators[0].outputs[0]
        tensors[index].buffer = constant

    return spoil


def tensor(at: int, **changes: Any) -> Callable[[Any], None]:
    def spoil(model: Any) -> None:
        for name, value in changes.items():
            setattr(graph(model).tensors[at], name, value)

    return spoil


def on_first_output(**changes: Any) -> Callable[[Any], None]:
    return lambda model: tensor(int(graph(model).operators[0].outputs[0]), **changes)(model)


def set_index(field: str, value: int) -> Callable[[Any], None]:
    def spoil(model: Any) -> None:
        owner = graph(model).operators[0] if field.startswith("operator") else graph(model)
        name = field.removeprefix("operator.")
        if name == "opcodeIndex":
            owner.opcodeIndex = value
        else:
            setattr(owner, name, [value, *map(int, getattr(owner, name)[1:])])

    return spoil


SPOILED = {
    "no weights": (no_weights, "an operator's input of the graph is tensor -1 of"),
    "no picture": (set_index("operator.inputs", -1), "an operator's input of the graph is tensor -1 of"),
    "no output": (set_index("operator.outputs", 99), "an operator's output of the graph is tensor 99 of"),
    "graph without input": (set_index("inputs", -1), "an input of the graph is tensor -1 of"),
    "graph without output": (set_index("outputs", 99), "an output of the graph is tensor 99 of"),
    "unknown operator": (set_index("operator.opcodeIndex", 99), "an operator is number 99 of"),
    "writes to a constant": (on_a_constant("output"), "an operator writes to a constant"),
    "constant input": (on_a_constant("input"), "an input of its graph is a constant"),
    "text": (on_first_output(type=schema.TensorType.STRING), "values of kind 5, which no image model has"),
    "other kind": (on_first_output(type=schema.TensorType.UINT8), "makes values of another kind than it takes"),
    "negative side": (on_first_output(shape=[1, -5]), "a tensor of shape (1, -5), expected at most"),
    "huge": (on_first_output(shape=[1, 1 << 13, 1 << 13, 3]), "a tensor of shape (1, 8192, 8192, 3), expected"),
    "made twice": (lambda model: set_index("operator.outputs", int(graph(model).inputs[0]))(model), "is made twice"),
    "no buffer": (on_first_output(buffer=99), "a tensor's values lie in buffer 99 of"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_it_is_refused_before_the_runtime_sees_it(name: str, tmp_path: Path) -> None:
    spoil, telling = SPOILED[name]
    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(tiny_classifier().model, spoil))
    with pytest.raises(ModelFileError) as caught:
        LiteRTBackend(path)
    assert telling in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("scale", "zero", "telling"),
    [
        (0.0, 0, "a scale outside of"),
        (-1.0, 0, "a scale outside of"),
        (float("inf"), 0, "a scale outside of"),
        (5.8e-39, 0, "a scale outside of"),
        (float("nan"), 0, "a scale outside of"),
        (0.1, 128, "a zero point outside of -128 to 127"),
        (0.1, -129, "a zero point outside of -128 to 127"),
    ],
)
def test_a_scale_that_is_none(scale: float, zero: int, telling: str, tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        levels = graph(model).tensors[int(graph(model).outputs[0])].quantization
        levels.scale, levels.zeroPoint = [scale], [zero]

    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(tiny_classifier("int8").model, spoil))
    with pytest.raises(ModelFileError, match=telling):
        check_model(path)


def test_weights_that_grow_when_they_are_dequantised(tmp_path: Path) -> None:
    """The runtime would read beyond the end of the file."""

    def spoil(model: Any) -> None:
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        dequantize = schema.BuiltinOperator.DEQUANTIZE
        operator = next(o for o in graph(model).operators if codes[o.opcodeIndex] == dequantize)
        made = graph(model).tensors[int(operator.outputs[0])]
        made.shape = [int(made.shape[0]), 1 << 12, *map(int, made.shape[2:])]

    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(tiny_detector(dtype="float16").model, spoil))
    with pytest.raises(ModelFileError, match="dequantised to another number of values"):
        check_model(path)


def test_a_signature_that_names_no_tensor(tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        model.signatureDefs[0].outputs[0].tensorIndex = 99

    path = tmp_path / "m.tflite"
    whole = constant_model({"a": np.zeros((1, 2), np.float32)}, signature={"x": "a"})
    path.write_bytes(whole)
    check_model(path)
    path.write_bytes(spoiled(whole, spoil))
    with pytest.raises(ModelFileError, match="names a tensor that the graph does not have"):
        check_model(path)


def test_a_tensor_whose_name_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(tiny_classifier().model, tensor(0, name=b"\xf9\xff")))
    with pytest.raises(ModelFileError, match="broken model"):
        LiteRTBackend(path)


def test_whole_models_pass(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    for family in FAMILIES:
        for dtype in DTYPES:
            path.write_bytes(tiny_detector(family, dtype).model)
            check_model(path)
    for name in BUNDLED:
        bundled = bundled_model(name)
        assert bundled is not None
        check_model(bundled)


def with_a_variable() -> bytes:
    """Return a model whose bias is a variable, as the converter leaves it of a function that was not frozen."""
    builder = Builder()
    picture = builder.tensor("picture", (1, 8, 8, 3))
    handle = builder.op("VAR_HANDLE", [], (), "handle", "float32")
    builder._tensors[handle].type = schema.TensorType.RESOURCE
    bias = builder.op("READ_VARIABLE", [handle], (3,), "bias")
    return builder.build([picture], [builder.op("ADD", [picture, bias], (1, 8, 8, 3), "sum")])


def test_variables_that_were_not_frozen_pass(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(with_a_variable())
    check_model(path)


@pytest.mark.parametrize(
    ("name", "kind", "telling"),
    [
        ("handle", schema.TensorType.FLOAT32, "makes a handle of a variable, or makes none"),
        ("bias", schema.TensorType.RESOURCE, "makes a handle of a variable, or makes none"),
        ("picture", schema.TensorType.RESOURCE, "an input of its graph is a constant"),
    ],
)
def test_handles_in_the_wrong_place(name: str, kind: int, telling: str, tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        next(each for each in graph(model).tensors if each.name == name.encode()).type = kind

    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(with_a_variable(), spoil))
    with pytest.raises(ModelFileError, match=telling):
        check_model(path)


def test_real_models_pass(shared_data: Callable[[str], Path]) -> None:
    found = glob.glob(str(shared_data("tflite") / "*.tflite"))
    assert found
    for path in found:
        check_model(Path(path))


def test_what_a_message_quotes_cannot_steer_a_terminal() -> None:
    error = InputError("a\x1b[2Jb\nedge: all is well\u2028\u202e\udcff ü ??")
    assert str(error) == "a?[2Jb?edge: all is well??? ü ??"
    assert isinstance(error, EdgeError) and f"{error}" == str(error)


SSD = tiny_detector("ssd_postprocess").model


def options(change: Callable[[bytearray], None]) -> Callable[[Any], None]:
    def spoil(model: Any) -> None:
        (operator,) = (o for o in graph(model).operators if o.customOptions is not None)
        data = bytearray(bytes(bytearray(operator.customOptions)))
        change(data)
        operator.customOptions = list(data)

    return spoil


def put(at: int, value: int) -> Callable[[Any], None]:
    return options(lambda data: data.__setitem__(at, value))


def renamed(data: bytearray, name: bytes) -> None:
    data[data.index(name + b"\0")] ^= 1


def huge_count(data: bytearray) -> None:
    at = data.rindex(bytes([10, 0, 0, 0, 0, 0, 0, 0]))  # max_detections
    data[at + 7] = 0x80


BROKEN_OPTIONS = {
    "none": (options(lambda data: data.clear()), "lacks its options"),
    "no map": (put(-2, 0), "are no map"),
    "odd width": (put(-1, 3), "are broken"),
    "root outside": (put(-3, 255), "point outside of them"),
    "text for a number": (put(-4, 0x15), "something else than numbers"),
    "no boxes": (options(lambda data: renamed(data, b"max_detections")), "has max_detections None, expected 1 or more"),
    "no scale": (options(lambda data: renamed(data, b"h_scale")), "has h_scale None, expected more than 0"),
    "huge count": (options(huge_count), "an option of a custom operator is 9223372036854775818, expected 0 to"),
}


@pytest.mark.parametrize("name", BROKEN_OPTIONS)
def test_options_of_the_post_processing_are_checked(name: str, tmp_path: Path) -> None:
    spoil, telling = BROKEN_OPTIONS[name]
    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(SSD, spoil))
    with pytest.raises(ModelFileError) as caught:
        check_model(path)
    assert telling in str(caught.value)


def swapped(old: str, new: str) -> Callable[[Any], None]:
    def spoil(model: Any) -> None:
        number = getattr(schema.BuiltinOperator, old)
        (code,) = (c for c in model.operatorCodes if max(c.builtinCode, c.deprecatedBuiltinCode) == number)
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, new)

    return spoil


@pytest.mark.parametrize(
    ("new", "telling"),
    [
        ("SPLIT", "operator 49 has 1 inputs, expected 2"),
        ("STRIDED_SLICE", "operator 45 has 1 inputs, expected 4"),
        ("SLICE", "operator 65 has 1 inputs, expected 3"),
        ("FAKE_QUANT", "operator 80 lacks its options"),
        ("SOFTMAX", "operator 25 lacks its options"),
    ],
)
def test_another_operator_with_the_options_of_this_one(new: str, telling: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(tiny_classifier().model, swapped("AVERAGE_POOL_2D", new)))
    with pytest.raises(ModelFileError, match=telling):
        check_model(path)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("inf"), float("nan")])
def test_a_softmax_without_steepness(beta: float, tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        softmax = next(o for o in graph(model).operators if isinstance(o.builtinOptions, schema.SoftmaxOptionsT))
        softmax.builtinOptions.beta = beta

    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(tiny_classifier("int8").model, spoil))
    with pytest.raises(ModelFileError, match="the steepness of a softmax"):
        check_model(path)


def test_an_output_of_another_shape_than_the_file_says(tmp_path: Path) -> None:
    """WHERE lists as many places as it finds."""
    builder = Builder()
    picture = builder.tensor("picture", (1, 4, 4, 3))
    path = tmp_path / "m.tflite"
    path.write_bytes(builder.build([picture], [builder.op("WHERE", [picture], (1, 3), "found", "int64")]))
    backend = LiteRTBackend(path)
    with pytest.raises(BackendError, match=r"output found has shape \(48, 4\), the file says \(1, 3\)"):
        backend.infer(lambda tensor: tensor.fill(1))


def test_post_processing_in_the_wrong_place(tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        custom = next(o for o in graph(model).operators if o.customOptions is not None)
        graph(model).operators[0].opcodeIndex = custom.opcodeIndex

    path = tmp_path / "m.tflite"
    path.write_bytes(spoiled(SSD, spoil))
    with pytest.raises(ModelFileError, match="TFLite_Detection_PostProcess has .* expected 3 and 4"):
        check_model(path)


def test_what_a_message_quotes_cannot_flood_a_log() -> None:
    said = str(InputError(f"m.tflite: unknown decoder {'x' * 100_000!r}; expected one of a, b"))
    assert (
        len(said) == 2000 and said.startswith("m.tflite: unknown decoder 'xx") and said.endswith("expected one of a, b")
    )
