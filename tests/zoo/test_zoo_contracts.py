"""Files that users have: they run right without a flag, or with the flags that the refusal names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts import BOX, CLASS, NAMES, SCORE, end2end, model, ultralytics, v5, v8, yolov5_meta, yolox

from edge.detector import Detector
from edge.errors import SpecError
from edge.spec.resolve import Overrides

PICTURE = np.full((96, 128, 3), 120, np.uint8)
"""Half as large in the input: 64 x 48, with bars of 8 pixels above and below when centred."""


@dataclass(frozen=True)
class Case:
    name: str
    data: bytes
    decoder: str
    flags: dict[str, Any] = field(default_factory=dict)
    layout: str = "NHWC"
    class_id: int = CLASS
    tolerance: float = 0.0
    """Pixels of the picture that the quantisation of the output may cost."""


def json_member(version: str, **changes: Any) -> dict[str, bytes]:
    return ultralytics(version, "metadata.json", **changes)


def text_member(version: str, **changes: Any) -> dict[str, bytes]:
    return ultralytics(version, "temp_meta.txt", **changes)


LITERT = {"channels": 3, "head": "Detect"}

WITHOUT_FLAGS = [
    Case("yolov5-names-list", model(v5(), yolov5_meta(list(NAMES))), "yolov5"),
    Case("yolov5-names-dict", model(v5(), yolov5_meta(dict(enumerate(NAMES)))), "yolov5"),
    Case("yolov5-uint8", model(v5(), yolov5_meta(), dtype="uint8"), "yolov5", tolerance=1.0),
    Case("yolov5-one-class", model(v5(classes=1), yolov5_meta(["dog"])), "yolov5", class_id=0),
    Case("yolov5-through-onnx-in-pixels", model(v5(False), yolov5_meta()), "yolov5"),
    Case("8.0.0-pixels", model(v8(False), {"meta.txt": yolov5_meta()["meta.txt"]}), "yolov8"),
    Case("8.0.60-pixels", model(v8(False), text_member("8.0.60")), "yolov8"),
    Case("8.2-normalised", model(v8(), text_member("8.2.23")), "yolov8"),
    Case(
        "8.2-int8",
        model(v8(), text_member("8.2.23"), dtype="int8", input_quant=(0.01866, -14)),
        "yolov8",
        {},
        "NHWC",
        1,
        1,
    ),
    Case("8.3-float", model(v8(), json_member("8.3.120")), "yolov8"),
    Case(
        "8.3-int16", model(v8(), json_member("8.3.120"), dtype="int16", quant=(1 / 32767, 0)), "yolov8", tolerance=0.01
    ),
    Case("8.3-one-class", model(v8(classes=1), json_member("8.3.120", names={"0": "dog"})), "yolov8", class_id=0),
    Case("8.3-yolov10", model(end2end(True), json_member("8.3.10")), "end2end"),
    Case(
        "8.3-nms-two-classes",
        model(end2end(True), json_member("8.3.120", names=["a", "b"], args={"nms": True})),
        "end2end",
    ),
    Case("8.4-litert", model(v8(), json_member("8.4.120", **LITERT, end2end=False), "NCHW"), "yolov8", layout="NCHW"),
    Case(
        "8.4-litert-end2end-pixels",
        model(end2end(False), json_member("8.4.120", **LITERT, end2end=True), "NCHW"),
        "end2end",
        layout="NCHW",
    ),
]

WITH_FLAGS = [
    Case("v8", model(v8()), "yolov8", {"decoder": "yolov8"}),
    Case("v8-pixels", model(v8(False)), "yolov8", {"decoder": "yolov8"}),
    Case("v8-nchw", model(v8(), layout="NCHW"), "yolov8", {"decoder": "yolov8"}, "NCHW"),
    Case("v8-int8", model(v8(), dtype="int8"), "yolov8", {"decoder": "yolov8"}, tolerance=1.0),
    Case("v8-rows", model(v8(last=True)), "yolov8", {"decoder": "yolov8"}),
    Case("v5", model(v5()), "yolov5", {"decoder": "yolov5"}),
    Case("v7-pixels", model(v5(False)), "yolov5", {"decoder": "yolov5"}),
    Case("v5-one-class", model(v5(classes=1)), "yolov5", {"decoder": "yolov5"}, class_id=0),
    Case("v10", model(end2end(True)), "end2end", {"decoder": "end2end"}),
    Case("v10-pixels", model(end2end(False)), "end2end", {"decoder": "end2end"}),
    Case("yolox-raw", model(yolox(False)), "yolox", {"decoder": "yolox"}),
    Case("yolox-decoded", model(yolox(True)), "yolox", {"decoder": "yolox"}),
    Case("yolox-nchw", model(yolox(False), layout="NCHW"), "yolox", {"decoder": "yolox"}, "NCHW"),
]


def ids(case: Case) -> str:
    return case.name


def check(case: Case, path: Path) -> None:
    detector = Detector.load(path, Overrides(**case.flags), threads=1)
    spec = detector.spec
    assert (spec.decoder.name, spec.input.layout) == (case.decoder, case.layout)
    found, _ = detector.detect(PICTURE)
    assert found.class_id.tolist() == [case.class_id]
    bar = 0 if case.decoder == "yolox" else 8
    expected = (np.array(BOX) - (0, bar, 0, bar)) * 2
    np.testing.assert_allclose(found.xyxy[0], expected, atol=case.tolerance + 1e-3)
    assert found.score[0] == pytest.approx(SCORE, abs=0.005)


@pytest.mark.parametrize("case", WITHOUT_FLAGS, ids=ids)
def test_files_with_metadata_run_without_a_flag(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(case.data)
    check(case, path)


@pytest.mark.parametrize("case", WITH_FLAGS, ids=ids)
def test_files_without_metadata_name_the_flag_and_run_with_it(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(case.data)
    with pytest.raises(SpecError, match=rf"--decoder {case.decoder}\b") as refused:
        Detector.load(path, threads=1)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    check(case, path)


@pytest.mark.parametrize("output", [v8(), v5()], ids=["v8", "v5"])
def test_labels_alone_settle_a_yolo_head(output: Any, tmp_path: Path) -> None:
    path, labels = tmp_path / "model.tflite", tmp_path / "labels.txt"
    path.write_bytes(model(output))
    labels.write_text("\n".join(NAMES))
    found, _ = Detector.load(path, Overrides(labels=labels), threads=1).detect(PICTURE)
    assert found.class_id.tolist() == [CLASS]


def test_a_normalised_box_larger_than_the_picture_is_not_taken_for_pixels(tmp_path: Path) -> None:
    output = v5()
    output[0, 5, :4] = 0.6, 0.5, 3.2, 3.0
    path = tmp_path / "model.tflite"
    path.write_bytes(model(output, yolov5_meta()))
    found, _ = Detector.load(path, threads=1).detect(PICTURE)
    assert found.xyxy.tolist() == [[0, 0, 128, 96]]


REFUSED = {
    "pose": (v8(), json_member("8.3.1", task="pose", kpt_shape=[17, 3]), "task is 'pose'"),
    "segment": (v8(), json_member("8.3.1", task="segment"), "task is 'segment'"),
    "obb": (v8(), json_member("8.3.1", task="obb"), "task is 'obb'"),
    "names-of-another-model": (v8(), text_member("8.2.1", names={0: "a", 1: "b"}), "--attach"),
    "rt-detr-rows-of-centres": (end2end(True), json_member("8.4.190", head="RTDETRDecoder"), "RT-DETR"),
    "rt-detr-of-8.3": (v8(last=True), json_member("8.3.1", description="Ultralytics rtdetr-l model "), "RT-DETR"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_heads_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    output, members, message = REFUSED[name]
    path = tmp_path / "model.tflite"
    path.write_bytes(model(output, members))
    with pytest.raises(SpecError, match=message) as refused:
        Detector.load(path, threads=1)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
