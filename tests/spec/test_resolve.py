"""What a file is, from flags, a sidecar, its own words and its shapes; and what is said when nothing tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures import BROKEN_METADATA, broken, constant_model, described, tiny_classifier, tiny_detector
from metadata_buffers import tflite_metadata

from edge.backends.litert import LiteRTBackend
from edge.errors import EdgeError, InputError, ModelFileError, SpecError
from edge.loader import load_model
from edge.spec import ModelSpec
from edge.spec.archive import with_tail
from edge.spec.resolve import Overrides, parse_spec, resolve

UINT8 = {"input_dtype": "uint8", "input_quant": (1 / 128, 128)}


def find(path: Path, data: bytes | None = None, **flags: Any) -> ModelSpec:
    """Write and resolve a file."""
    if data is not None:
        path.write_bytes(data)
    backend = LiteRTBackend(path, threads=1)
    return resolve(path, backend.input, backend.outputs, Overrides(**flags))


def head(*shape: int, **options: Any) -> bytes:
    """Return a model with one output and a 640 x 640 input."""
    return constant_model({"out": np.zeros(shape, np.float32)}, **{"input_shape": (1, 640, 640, 3)} | options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


@pytest.fixture
def eighty(tmp_path: Path) -> Path:
    names = tmp_path / "coco.txt"
    names.write_text("\n".join(f"name {i}" for i in range(80)))
    return names


# -- the file's own description ---------------------------------------------------------------------------------------


def test_our_own_metadata_is_taken_as_it_is(path: Path) -> None:
    tiny = tiny_detector()
    spec = find(tiny.save(path))
    assert spec.input.size_wh == (128, 96)
    filled = tiny.spec.model_copy(update={"input": tiny.spec.input.model_copy(update={"size_wh": (128, 96)})})
    assert spec == filled


def test_a_sidecar_is_stronger_than_the_file(path: Path) -> None:
    tiny = tiny_detector()
    tiny.save(path)
    other = tiny.spec.model_copy(update={"name": "from the sidecar"})
    path.with_suffix(".json").write_text(other.model_dump_json())
    assert find(path).name == "from the sidecar"
    path.with_suffix(".json").write_text(json.dumps({"file": "x", "spec": other.model_dump(mode="json")}))
    assert find(path).name == "from the sidecar"


def test_a_sidecar_may_be_ultralytics(path: Path) -> None:
    path.with_suffix(".json").write_text(json.dumps({"stride": 32, "names": [str(i) for i in range(80)]}))
    assert find(path, head(1, 84, 8400)).decoder.name == "yolov8"


def test_a_json_file_that_describes_no_model_is_passed_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.with_suffix(".json").write_text('{"results": []}')
    assert find(path, described(tiny_detector())).decoder.name == "anchor_free"
    assert "model.json lies beside the model and describes no model" in caplog.text


def test_a_broken_sidecar_is_refused(path: Path) -> None:
    path.with_suffix(".json").write_text("{")
    with pytest.raises(SpecError, match=r"model.json: expected JSON"):
        find(path, described(tiny_detector()))


@pytest.mark.parametrize("kind", BROKEN_METADATA)
def test_broken_metadata_is_refused_in_one_line(kind: str, path: Path) -> None:
    with pytest.raises(SpecError, match="model.tflite, metadata.json: ") as caught:
        find(path, broken(kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "written for schema version 99, this edge reads up to 1; update edge"),
        ({"schema_version": "one"}, "schema_version"),
        ({"colour": "red"}, "unknown key colour"),
        ({"task": "cook"}, "task: Input should be 'detect' or 'classify', found 'cook'"),
        ({"input": {"std": [0]}}, r"input.std.0: .*greater than or equal to 0.000001, found 0"),
        ({"input": {"mean": [1, 2]}}, r"input: mean has 2 values, expected 1 or 3 for RGB"),
        ({"conf": 2, "iou": -1, "labels": 3, "name": None}, r"\(and 1 more\)"),
        ({"decoder": {}}, "decoder.name is missing"),
        ({"input": {"name": "other"}}, "describes the input 'other', the model has 'picture'"),
        ({"decoder": {"name": "yolo99"}}, "unknown decoder 'yolo99'; expected one of yolo_anchors"),
    ],
)
def test_wrong_fields_are_named(changes: dict[str, Any], message: str, path: Path) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        find(path, described(tiny_detector(), **changes))
    assert "model.tflite" in str(caught.value) and "\n" not in str(caught.value)


def test_a_description_is_parsed_alone() -> None:
    tiny = tiny_detector()
    assert parse_spec(tiny.spec.model_dump_json().encode(), "spec.json") == tiny.spec
    for data, message in (
        (b"[]", "spec.json: "),
        (b"\xff", "spec.json: expected JSON"),
        (b"[" * 99999, "expected JSON"),
    ):
        with pytest.raises(SpecError, match=message):
            parse_spec(data, "spec.json")


def test_control_characters_in_labels_reach_no_terminal(path: Path) -> None:
    assert find(path, described(tiny_detector(), labels=["a\x1b[2J", "b\n", "c"])).labels == ("a?[2J", "b?", "c")


# -- flags on top -----------------------------------------------------------------------------------------------------


def test_flags_are_stronger_than_the_file(path: Path, tmp_path: Path) -> None:
    tiny_detector().save(path)
    labels = tmp_path / "l.txt"
    labels.write_text("a\nb\nc")
    spec = find(path, labels=labels, input_range="-1..1", color="bgr", resize="Stretch", name="mine")
    assert spec.labels == ("a", "b", "c") and spec.name == "mine"
    assert (spec.input.mean, spec.input.std) == ((127.5,), (127.5,))
    assert (spec.input.color, spec.input.resize) == ("BGR", "stretch")
    assert spec.decoder.params == {"strides": [32]}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"color": "CMYK"}, r"--color, --resize, --layout: color: .*found 'CMYK'"),
        ({"resize": "zoom"}, "resize: .*found 'zoom'"),
        ({"layout": "HWC"}, "layout: .*found 'HWC'"),
        ({"input_range": "0-1"}, "--input-range '0-1': expected one of"),
        ({"decoder": "yolo99"}, "--decoder 'yolo99': expected one of yolo_anchors"),
        ({"decoder": "yolo_anchors"}, "also needs anchors, strides, classes, which no flag gives; attach"),
        ({"labels": Path("/gone.txt")}, "/gone.txt: the labels cannot be read"),
    ],
)
def test_wrong_flags_are_named(flags: dict[str, Any], message: str, path: Path) -> None:
    with pytest.raises(InputError, match=message):
        find(path, tiny_detector().model, **flags)


def test_another_decoder_keeps_what_the_file_says_of_its_input(path: Path) -> None:
    tiny = tiny_detector("yolov5")
    spec = find(tiny.save(path), decoder="yolox", color="BGR")
    assert (spec.decoder.name, spec.decoder.params) == ("yolox", {})
    assert spec.decoder.outputs == {"output": "output"} and spec.labels == tiny.spec.labels
    assert spec.input.resize == tiny.spec.input.resize and spec.input.color == "BGR"


# -- YOLO files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("member", ["metadata.json", "temp_meta.txt"])
def test_ultralytics_files_need_no_flag(member: str, layout: str, path: Path) -> None:
    meta = {"task": "detect", "stride": 32, "imgsz": [640, 640], "names": {i: str(i) for i in range(80)}}
    text = json.dumps(meta) if member == "metadata.json" else repr(meta)
    shape = (1, 640, 640, 3) if layout == "NHWC" else (1, 3, 640, 640)
    spec = find(path, with_tail(head(1, 84, 8400, input_shape=shape), {member: text.encode()}))
    assert (spec.decoder.name, spec.input.layout, spec.input.size_wh) == ("yolov8", layout, (640, 640))


def test_yolov5_files_need_no_flag(path: Path) -> None:
    meta = repr({"stride": 32, "names": {i: str(i) for i in range(80)}})
    assert find(path, with_tail(head(1, 25200, 85), {"meta.txt": meta.encode()})).decoder.name == "yolov5"


def test_an_integer_input_of_ultralytics_is_fed_0_to_1_whatever_its_scale(path: Path) -> None:
    meta = repr({"stride": 32, "names": {i: str(i) for i in range(80)}}).encode()
    model = head(1, 84, 8400, input_dtype="int8", input_quant=(0.0187, -14))
    spec = find(path, with_tail(model, {"temp_meta.txt": meta}))
    assert (spec.input.mean, spec.input.std) == ((0.0,), (255.0,))


def test_a_free_size_is_taken_from_the_metadata(path: Path) -> None:
    meta = repr({"stride": 32, "imgsz": [480, 640], "names": {i: str(i) for i in range(80)}}).encode()
    model = constant_model({"out": np.zeros((1, 84, 6300), np.float32)}, input_shape=(1, -1, -1, 3))
    path.write_bytes(with_tail(model, {"temp_meta.txt": meta}))
    loaded = load_model(path)
    assert loaded.spec.input.size_wh == (640, 480) and loaded.backend.input.shape == (1, 480, 640, 3)


@pytest.mark.parametrize(
    ("shape", "decoder"), [((1, 84, 8400), "yolov8"), ((1, 25200, 85), "yolov5"), ((1, 84, 8501), None)]
)
def test_shapes_and_labels_settle_a_head(shape: tuple[int, ...], decoder: str | None, path: Path, eighty: Path) -> None:
    if decoder is None:
        with pytest.raises(SpecError, match="are of no kind that shapes alone settle; pass --decoder NAME"):
            find(path, head(*shape), labels=eighty)
        return
    spec = find(path, head(*shape), labels=eighty)
    assert spec.decoder.name == decoder and len(spec.labels) == 80
    assert (spec.input.std, spec.input.resize, spec.input.color) == ((255.0,), "letterbox-center", "RGB")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 84, 8400), r"could be yolov8 with 80 classes; pass --decoder yolov8 or --labels FILE with 80 names"),
        ((1, 25200, 85), r"could be yolov5 with 80 classes; pass --decoder yolov5 or --labels FILE with 80 names"),
        (
            (1, 8400, 85),
            r"yolox with 80 classes or yolov5 with 80 classes or yolov8 with 81 classes; pass --decoder yolox or",
        ),
        ((1, 300, 6), r"could be end2end; pass --decoder end2end"),
        (
            (1, 20, 20, 255),
            r"could be raw YOLO heads, whose anchors no flag gives; make the model with edge convert",
        ),
        (
            (1, 5, 7),
            r"are of no kind that shapes alone settle; pass --decoder NAME if it is one of yolov5, .*classifier, or",
        ),
    ],
)
def test_without_words_the_message_says_what_to_pass(shape: tuple[int, ...], message: str, path: Path) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        find(path, head(*shape))
    text = str(caught.value)
    assert "out (1, " in text and "edge inspect MODEL --attach spec.json" in text and "\n" not in text


def test_labels_of_another_number_do_not_settle_a_head(path: Path, eighty: Path) -> None:
    with pytest.raises(SpecError, match="could be yolov8 with 52 classes"):
        find(path, head(1, 56, 8400), labels=eighty)


@pytest.mark.parametrize(
    ("decoder", "shape", "color", "std", "resize"),
    [
        ("yolov8", (1, 84, 8400), "RGB", 255.0, "letterbox-center"),
        ("yolov5", (1, 25200, 85), "RGB", 255.0, "letterbox-center"),
        ("end2end", (1, 300, 6), "RGB", 255.0, "letterbox-center"),
        ("yolox", (1, 8400, 85), "BGR", 1.0, "letterbox-topleft"),
    ],
)
def test_a_named_family_brings_its_conventions(
    decoder: str, shape: tuple[int, ...], color: str, std: float, resize: str, path: Path
) -> None:
    spec = find(path, head(*shape), decoder=decoder)
    assert spec.decoder.name == decoder and spec.decoder.outputs == {"output": "out"}
    assert (spec.input.color, spec.input.std, spec.input.resize) == (color, (std,), resize)


def test_a_named_family_may_not_contradict_the_outputs(path: Path) -> None:
    model = constant_model({"a": np.zeros((1, 2, 3), np.float32), "b": np.zeros((1, 3), np.float32)})
    with pytest.raises(SpecError, match=r"decoder yolov8 expects one output, the model has a \(1, 2, 3\), b \(1, 3\)"):
        find(path, model, decoder="yolov8")
    with pytest.raises(SpecError, match=r"decoder classifier expects one output of shape \(1, classes\)"):
        find(path, model, decoder="classifier")


# -- SSD --------------------------------------------------------------------------------------------------------------


def ssd(names: list[str], **options: Any) -> bytes:
    """Return four outputs in the order of TensorFlow 2: scores, boxes, count, classes."""
    shapes = [(1, 10), (1, 10, 4), (1,), (1, 10)]
    outputs = {name: np.zeros(shape, np.float32) for name, shape in zip(names, shapes, strict=True)}
    return constant_model(outputs, **UINT8 | options)


TF2 = [f"StatefulPartitionedCall:{i}" for i in (1, 3, 0, 2)]
ROLES = {
    "boxes": "StatefulPartitionedCall:3",
    "classes": "StatefulPartitionedCall:2",
    "scores": "StatefulPartitionedCall:1",
    "count": "StatefulPartitionedCall:0",
}


def test_the_operator_tells_the_roles(path: Path) -> None:
    spec = find(path, tiny_detector("ssd_postprocess", "uint8").model)
    assert spec.decoder.name == "ssd_postprocess" and spec.input.resize == "stretch"
    names = ["detections", "detections:1", "detections:2", "detections:3"]
    assert spec.decoder.outputs == dict(zip(("boxes", "classes", "scores", "count"), names, strict=True))


def test_the_signature_tells_the_roles(path: Path) -> None:
    keys = ["detection_scores", "detection_boxes", "num_detections", "detection_classes"]
    spec = find(path, ssd(TF2, signature=dict(zip(keys, TF2, strict=True))))
    assert spec.decoder.outputs == ROLES


def test_tflite_metadata_tells_the_roles_range_labels_and_threshold(path: Path) -> None:
    buffer = tflite_metadata(
        (127.0,), (128.0,), ("score", "location", "number of detections", "category"), ("labelmap.txt",), conf=0.5
    )
    options = {"metadata": {"TFLITE_METADATA": buffer}, "input_quant": (1 / 128, 127)}
    spec = find(path, with_tail(ssd(TF2, **options), {"labelmap.txt": b"???\nperson\ncar"}))
    assert spec.decoder.outputs == ROLES and spec.decoder.params == {}
    assert (spec.input.mean, spec.input.std) == ((127.0,), (128.0,))
    assert spec.labels == ("person", "car") and spec.conf == 0.5
    assert spec.provenance.licence == "Apache-2.0"


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (127.5, 127.5), (128.0, 128.0)])
def test_mean_and_std_of_tflite_metadata_that_mean_bytes_copy_bytes(mean: float, std: float, path: Path) -> None:
    keys = ["detection_scores", "detection_boxes", "num_detections", "detection_classes"]
    buffer = tflite_metadata((mean,), (std,))
    options = {"metadata": {"TFLITE_METADATA": buffer}, "input_quant": (1 / 128, 127), "input_dtype": "uint8"}
    spec = find(path, ssd(TF2, signature=dict(zip(keys, TF2, strict=True)), **options))
    assert (spec.input.mean, spec.input.std) == ((127.0,), (128.0,))


def test_without_words_the_roles_are_not_guessed(path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing says which of its outputs are the boxes.*decoder.outputs.*--attach"):
        find(path, ssd(TF2))


@pytest.mark.parametrize("first", ["???", "background", "Background"])
def test_the_background_line_is_no_class_of_a_suppressed_detector(first: str, path: Path, tmp_path: Path) -> None:
    labels = tmp_path / "l.txt"
    labels.write_text(f"{first}\nperson\n???\ncar")
    model = tiny_detector("ssd_postprocess", "uint8").model
    assert find(path, model, labels=labels).labels == ("person", "???", "car")


def test_raw_ssd_heads_ask_for_anchors(path: Path) -> None:
    outputs = {"regressors": np.zeros((1, 896, 16), np.float32), "classificators": np.zeros((1, 896, 1), np.float32)}
    with pytest.raises(SpecError, match=r"raw SSD boxes and scores, whose anchors no flag gives"):
        find(path, constant_model(outputs, input_shape=(1, 128, 128, 3)))


def test_a_sidecar_describes_a_mediapipe_detector(path: Path) -> None:
    outputs = {"regressors": np.zeros((1, 896, 16), np.float32), "classificators": np.zeros((1, 896, 1), np.float32)}
    params = {
        "anchors": {"grid": [[8, 2], [16, 6]]},
        "variances": [1 / 128] * 4,
        "order": "xywh",
        "size": "linear",
    }
    decoder = {"name": "ssd_anchors", "outputs": {"boxes": "regressors", "scores": "classificators"}, "params": params}
    source = {"mean": [127.5], "std": [127.5], "pad_value": 0}
    side = {
        "schema_version": 1,
        "name": "blaze",
        "task": "detect",
        "input": source,
        "decoder": decoder,
        "labels": ["face"],
    }
    path.with_suffix(".json").write_text(json.dumps(side))
    path.write_bytes(constant_model(outputs, input_shape=(1, 128, 128, 3)))
    from edge.detector import Detector

    detector = Detector.load(path)
    found, _ = detector.detect(np.zeros((128, 128, 3), np.uint8))  # a score logit of 0 is 0.5; boxes have no size
    assert len(found) == 0


# -- classifiers ------------------------------------------------------------------------------------------------------


def scores(classes: int, **options: Any) -> bytes:
    return constant_model({"scores": np.zeros((1, classes), np.float32)}, **options)


def names(tmp_path: Path, count: int, first: str = "tench") -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join([first, *(f"class {i}" for i in range(1, count))]))
    return path


def test_a_quantised_classifier_needs_no_flag(path: Path) -> None:
    spec = find(path, scores(1001, **UINT8))
    assert (spec.task, spec.decoder.name, spec.labels) == ("classify", "classifier", ())
    assert (spec.input.mean, spec.input.std, spec.input.resize) == ((128.0,), (128.0,), "stretch")


def test_a_float_classifier_asks_for_its_range(path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"nothing says which values the input picture \(float32\) takes; pass --input-range"
    ):
        find(path, scores(1000))
    assert find(path, scores(1000), input_range="-1..1").input.mean == (127.5,)


def test_a_calibrated_range_asks_too(path: Path) -> None:
    with pytest.raises(SpecError, match=r"quantised with scale 0.0187 and zero point -14\) takes"):
        find(path, scores(1000, input_dtype="int8", input_quant=(0.0187, -14)))


@pytest.mark.parametrize(
    ("classes", "lines", "first", "expected"),
    [
        (1001, 1001, "background", "background"),
        (1000, 1000, "tench", "tench"),
        (1000, 1001, "background", "class 1"),
        (1001, 1000, "tench", "background"),
    ],
)
def test_lists_with_and_without_the_background_line(
    classes: int, lines: int, first: str, expected: str, path: Path, tmp_path: Path
) -> None:
    spec = find(path, scores(classes, **UINT8), labels=names(tmp_path, lines, first))
    assert len(spec.labels) == classes and spec.labels[0] == expected


@pytest.mark.parametrize(("classes", "lines", "first"), [(1000, 1001, "tench"), (5, 4, "a"), (10, 1000, "background")])
def test_other_lists_are_refused(classes: int, lines: int, first: str, path: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"the model has {classes} classes, the labels name {lines}"):
        find(path, scores(classes, **UINT8), labels=names(tmp_path, lines, first))


def test_the_last_operator_tells_logits_from_probabilities(path: Path) -> None:
    flags = {"input_range": "0..1"}
    assert find(path, tiny_classifier().model, **flags).decoder.params == {"activation": "none"}
    assert find(path, tiny_classifier(softmax=False).model, **flags).decoder.params == {"activation": "softmax"}
    assert find(path, scores(3), **flags).decoder.params == {"activation": "auto"}


def test_an_output_with_the_quantisation_of_a_softmax_holds_probabilities(path: Path) -> None:
    hidden = {"out": np.zeros((1, 4), np.uint8)}
    for quant, activation in (((1 / 256, 0), "none"), ((0.1, 128), "auto")):
        model = constant_model(hidden, quant={"out": quant})
        assert find(path, model, input_range="0..1").decoder.params == {"activation": activation}


def test_a_lone_label_file_in_the_archive_is_used(path: Path) -> None:
    model = scores(2, **UINT8)
    assert find(path, with_tail(model, {"labels.txt": b"0 Class 1\n1 Class 2"})).labels == ("Class 1", "Class 2")
    assert find(path, with_tail(model, {"readme.txt": b"x\ny"})).labels == ()
    assert find(path, with_tail(model, {"labels.txt": b"x\ny", "labels_de.txt": b"x\ny"})).labels == ()


def test_gray_pictures(path: Path) -> None:
    spec = find(path, scores(10, input_shape=(1, 28, 28, 1)), input_range="0..1")
    assert spec.input.color == "GRAY"


# -- damage -----------------------------------------------------------------------------------------------------------


def test_broken_tflite_metadata_is_refused(path: Path) -> None:
    with pytest.raises(ModelFileError, match="model.tflite: the TFLite metadata is broken"):
        find(path, scores(2, metadata={"TFLITE_METADATA": b"nonsense" * 4}))


@pytest.mark.parametrize("shape", [(1, 0, 0), (0,), (2, 84, 8400), (1, 1), (1, 84, 8400, 1, 1)])
def test_odd_outputs_are_refused_not_crashed_on(shape: tuple[int, ...], path: Path) -> None:
    model = tiny_detector().model
    path.write_bytes(model)
    backend = LiteRTBackend(path, threads=1)
    odd = (backend.outputs[0].__class__("odd", shape, np.dtype("float32")),)
    for decoder in (None, "yolov8", "classifier", "ssd_postprocess", "end2end"):
        try:
            load_spec = resolve(path, backend.input, odd, Overrides(decoder=decoder, input_range="0..1"))
        except EdgeError as error:
            assert "\n" not in str(error)
        else:
            assert load_spec.decoder.name == decoder or decoder is None
