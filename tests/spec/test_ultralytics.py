"""Ultralytics' metadata of several years."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EdgeError, SpecError
from edge.spec import ModelSpec
from edge.spec.ultralytics import parse, recognised, to_spec
from edge.tensor import TensorInfo

FLOAT = np.dtype("float32")
PICTURE = TensorInfo("images", (1, 640, 640, 3), FLOAT)
COCO = {i: f"name {i}" for i in range(80)}


def meta(**changes: Any) -> dict[str, Any]:
    value = {
        "description": "Ultralytics YOLOv8n model trained on coco.yaml",
        "version": "8.2.23",
        "license": "AGPL-3.0",
        "stride": 32,
        "task": "detect",
        "batch": 1,
        "imgsz": [640, 640],
        "names": COCO,
    }
    return {key: item for key, item in (value | changes).items() if item is not None}


def spec(value: dict[str, Any], *shapes: tuple[int, ...], picture: TensorInfo = PICTURE) -> ModelSpec:
    outputs = tuple(TensorInfo(f"out{i}", shape, FLOAT) for i, shape in enumerate(shapes))
    return to_spec(value, "m.tflite, metadata.json", "m", picture, outputs)


def test_a_detector_of_today() -> None:
    found = spec(meta(), (1, 84, 8400))
    assert (found.name, found.task, found.decoder.name) == ("m", "detect", "yolov8")
    assert found.decoder.outputs == {"output": "out0"}
    assert (found.input.color, found.input.mean, found.input.std) == ("RGB", (0.0,), (255.0,))
    assert (found.input.resize, found.input.pad_value) == ("letterbox-center", 114)
    assert found.labels == tuple(COCO.values())
    assert found.provenance.licence == "AGPL-3.0" and found.provenance.created_by == "Ultralytics 8.2.23"


@pytest.mark.parametrize(
    ("changes", "shape", "decoder", "params"),
    [
        ({}, (1, 84, 8400), "yolov8", {"channels_last": False}),
        ({}, (1, 8400, 84), "yolov8", {"channels_last": True}),
        ({"names": ["a", "b"]}, (1, 6, 8400), "yolov8", {"channels_last": False}),
        ({"names": {"0": "a"}}, (1, 5, 8400), "yolov8", {"channels_last": False}),
        ({"end2end": True}, (1, 300, 6), "end2end", {}),
        ({"end2end": True, "names": ["a", "b"]}, (1, 300, 6), "end2end", {}),
        ({"args": {"nms": True}}, (1, 300, 6), "end2end", {}),
        ({"args": {"nms": True}}, (1, 3000, 6), "end2end", {}),
        ({"end2end": True}, (1, 3000, 6), "end2end", {}),
        ({}, (1, 300, 6), "end2end", {}),
        # YOLOv5 writes stride and names only.
        ({"task": None, "version": None}, (1, 25200, 85), "yolov5", {}),
        ({"task": None, "names": ["a"]}, (1, 25200, 6), "yolov5", {}),
    ],
)
def test_heads_are_told_by_shape_and_names(
    changes: dict[str, Any], shape: tuple[int, ...], decoder: str, params: dict[str, Any]
) -> None:
    found = spec(meta(**changes), shape)
    assert (found.decoder.name, found.decoder.params) == (decoder, params)


def test_a_classifier() -> None:
    found = spec(meta(task="classify", names={i: str(i) for i in range(1000)}), (1, 1000))
    assert (found.task, found.decoder.name, found.input.resize) == ("classify", "classifier", "center-crop")
    assert found.decoder.outputs == {"scores": "out0"}


def test_a_long_task_is_not_repeated() -> None:
    with pytest.raises(SpecError) as caught:
        spec(meta(task="x" * 5000), (1, 84, 8400))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "depth"])
def test_other_tasks_are_refused(task: str) -> None:
    with pytest.raises(SpecError, match=f"task is '{task}'; expected a detection or classification model"):
        spec(meta(task=task), (1, 116, 8400), (1, 160, 160, 32))


@pytest.mark.parametrize("changes", [{"head": "RTDETRDecoder"}, {"description": "Ultralytics RTDETR-l model"}])
def test_rt_detr_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="the model is an RT-DETR, which edge does not decode"):
        spec(meta(**changes), (1, 300, 84))


@pytest.mark.parametrize(
    ("value", "shapes", "message"),
    [
        (
            meta(),
            [(1, 83, 8400)],
            r"names 80 classes, for which the output has \(1, 84, N\).*found out0 \(1, 83, 8400\)",
        ),
        (meta(), [(1, 84)], r"names 80 classes"),
        (meta(), [(1, 84, 8400), (1, 2)], "expected one output for task detect, found out0"),
        (meta(names="cars"), [(1, 84, 8400)], "names: expected class names numbered from 0"),
        (meta(names={}), [(1, 84, 8400)], "names: expected class names"),
        (meta(names={"x": "y"}), [(1, 84, 8400)], "names: expected class numbers"),
        (meta(names={-1: "y"}), [(1, 84, 8400)], "names: expected class names numbered from 0"),
        (meta(names={10**9: "y"}), [(1, 84, 8400)], "names: expected class names numbered from 0"),
        (meta(names={None: "y"}), [(1, 84, 8400)], "names: expected class numbers"),
    ],
)
def test_contradictions_are_refused(value: dict[str, Any], shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(value, *shapes)


def test_a_gap_in_the_names_is_unnamed() -> None:
    assert spec(meta(names={0: "a", 2: "c"}), (1, 7, 8400)).labels == ("a", "???", "c")


def test_the_size_is_taken_for_a_free_input_only() -> None:
    free = TensorInfo("images", (1, -1, -1, 3), FLOAT)
    assert spec(meta(imgsz=[480, 640]), (1, 84, -1), picture=free).input.size_wh == (640, 480)
    assert spec(meta(imgsz=320), (1, 84, -1), picture=free).input.size_wh == (320, 320)
    assert spec(meta(imgsz="big"), (1, 84, -1), picture=free).input.size_wh is None
    assert spec(meta(imgsz=[480, 640]), (1, 84, 8400)).input.size_wh is None


def test_gray_pictures() -> None:
    assert spec(meta(channels=1), (1, 84, 8400)).input.color == "GRAY"


def test_both_forms_are_read() -> None:
    old = repr(meta()).encode()
    assert parse(old, "temp_meta.txt") == meta()
    assert recognised(parse(b'{"stride": 32, "names": {"0": "a"}}', "metadata.json"))
    assert not recognised({"names": []}) and not recognised({"stride": 32})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"__import__('os').system('true')",
        b"{'a': open('/etc/passwd')}",
        b"[1, 2]",
        b"\xff\xfe",
        b"{" * 100_000,
        b"(" * 100_000,
        b"-" * 1_000_000,
        b"{'a': " + b"9" * 10_000 + b"}",
        b"{[]: 1}",
    ],
)
def test_anything_else_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(SpecError, match="meta.txt: expected") as caught:
        parse(data, "meta.txt")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(SpecError, match="at most"):
        parse(b" " * (3 << 20), "meta.txt")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=True) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["task", "names", "imgsz", "args", "end2end", "channels", "license"]), json_like)
)
def test_any_values_give_a_spec_or_a_clear_error(value: dict[str, Any]) -> None:
    try:
        spec({"names": {0: "a"}, "stride": 32} | value, (1, 5, 8400), picture=TensorInfo("i", (1, -1, -1, 3), FLOAT))
    except EdgeError as error:
        assert "\n" not in str(error)
