"""Outputs that contradict the spec are refused when the model is loaded, in a line with what was expected and found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from heads import CASES, SIZE_WH, infos, model_spec

from edge.decoders import CLASSIFIERS, DECODERS
from edge.errors import SpecError
from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.spec.validate import validated
from edge.tensor import TensorInfo


def build(
    name: str, labels: int | None = None, shapes: dict[str, tuple[int, ...]] | None = None, **params: Any
) -> None:
    case = CASES[name]
    tensors = infos(case)
    for role, shape in (shapes or {}).items():
        tensors[role] = replace(tensors[role], shape=shape)
    by_name = {info.name: info for info in tensors.values()}
    DECODERS[case.family].build(model_spec(case, tensors, labels, **params), SIZE_WH, by_name)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.family != "end2end"])
def test_a_wrong_number_of_labels_is_refused(name: str) -> None:
    classes = CASES[name].classes
    with pytest.raises(SpecError, match=rf"has {classes} classes, the labels name {classes + 2}.*--labels"):
        build(name, labels=classes + 2)
    build(name, labels=0)  # no labels at all: classes are numbers


@pytest.mark.parametrize("name", CASES)
def test_unknown_parameters_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=rf"decoder {CASES[name].family}, params: unknown key colour"):
        build(name, colour="red")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("yolox-grid", {"strides": []}, "strides: .*at least 1 item"),
        ("yolo_anchors", {"anchors": [[[1e40, 5]], [[5, 5]]]}, "anchors.0.0.0: .*less than or equal to 1000000"),
        ("yolo_anchors", {"scale_x_y": [float("nan"), 1]}, "scale_x_y.0: "),
    ],
)
def test_numbers_that_lead_nowhere_are_refused(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(name, **params)


@pytest.mark.parametrize(
    ("key", "value"),
    [("std", [1e-320]), ("std", [float("nan")]), ("std", [1e308]), ("mean", [1e308]), ("mean", [float("-inf")])],
)
def test_scalings_that_lead_nowhere_are_refused(key: str, value: list[float]) -> None:
    with pytest.raises(SpecError, match=f"{key}.0: "):
        validated(InputSpec, {key: value}, "input")


@pytest.mark.parametrize("name", CASES)
def test_every_shape_is_checked(name: str) -> None:
    for role, shape in CASES[name].shapes.items():
        for wrong in ((), (1,), (2, *shape[1:]), (*shape, 1), shape[:-1]):
            with pytest.raises(SpecError, match=rf"tensor_{role}.*expected.*found"):
                build(name, shapes={role: wrong})


@pytest.mark.parametrize(
    ("name", "shapes", "params", "message"),
    [
        ("yolov8", {"output": (1, 4, 60)}, {}, r"expected shape \(1, 4 \+ 5, N\), found \(1, 4, 60\)"),
        ("yolov5", {"output": (1, 60, 5)}, {}, r"expected shape \(1, N, 5 \+ 4\), found \(1, 60, 5\)"),
        ("yolox-grid", {"output": (1, 31, 8)}, {}, r"expected 30 rows for an input of 96 x 64 .*found 31"),
        ("yolox-grid", {}, {"strides": [8]}, r"expected 96 rows .*found 30"),
        ("end2end", {"output": (1, 40, 7)}, {}, r"expected shape \(1, N, 6\), found \(1, 40, 7\)"),
        ("yolo_anchors", {"head_1": (1, 4, 6, 15)}, {}, r"expected shape \(1, 4, 6, 16\) for 2 anchors of 5 \+ 3"),
        ("yolo_anchors", {}, {"strides": [16, 32]}, r"expected shape \(1, 4, 6, 16\).*found \(1, 2, 3, 16\)"),
        ("yolo_anchors", {}, {"strides": [16]}, r"one entry a head, they have 2, 1 and 2"),
        ("yolo_anchors", {}, {"anchors": []}, r"params: anchors"),
        ("region", {"head_0": (1, 2, 3, 17)}, {}, r"expected shape"),
        ("ssd_anchors", {"boxes": (1, 29, 4)}, {}, r"expected shape \(1, 30, 4\) for 30 anchors, found \(1, 29, 4\)"),
        ("ssd_anchors", {"boxes": (1, 30, 3)}, {}, r"expected shape \(1, 30, 4\)"),
        ("ssd_anchors", {}, {"anchors": {"grid": [[8, 2]]}}, r"expected shape \(1, 192, 4\) for 192 anchors"),
        ("ssd_anchors", {}, {"variances": [0.1, 0.1]}, r"params: variances"),
        ("anchor_free", {"box_32": (1, 2, 3, 5)}, {}, r"expected shape \(1, 2, 3, 4\)"),
        ("anchor_free", {"cls_32": (1, 3, 2, 5)}, {}, r"expected shape \(1, 2, 3, classes\)"),
        ("yolov8", {}, {"boxes": "inches"}, r"params: boxes: .*'normalized'.*found 'inches'"),
    ],
)
def test_the_message_says_expected_and_found(
    name: str, shapes: dict[str, tuple[int, ...]], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        build(name, shapes=shapes, **params)
    assert "\n" not in str(caught.value)


def test_levels_must_agree_on_the_classes() -> None:
    with pytest.raises(SpecError, match="5, 4 classes, expected the same number"):
        build("anchor_free", labels=0, shapes={"cls_32": (1, 2, 3, 4)})


def test_a_role_must_be_named_and_exist() -> None:
    case = CASES["anchor_free"]
    tensors = infos(case)
    spec = model_spec(case, tensors)
    by_name = {info.name: info for info in tensors.values()}
    with pytest.raises(SpecError, match=r"'box_16' is the tensor 'tensor_box_16', which is none of the outputs: other"):
        DECODERS["anchor_free"].build(spec, SIZE_WH, {"other": TensorInfo("other", (1,), np.dtype("float32"))})
    bare = spec.model_copy(update={"decoder": spec.decoder.model_copy(update={"outputs": {}})})
    with pytest.raises(SpecError, match=r"expected outputs to name the tensor of 'box_16', found no roles"):
        DECODERS["anchor_free"].build(bare, SIZE_WH, by_name)


def test_a_single_output_needs_no_name() -> None:
    case = CASES["yolov8"]
    tensors = infos(case)
    spec = model_spec(case, tensors)
    bare = spec.model_copy(update={"decoder": spec.decoder.model_copy(update={"outputs": {}})})
    DECODERS["yolov8"].build(bare, SIZE_WH, {info.name: info for info in tensors.values()})


@pytest.mark.parametrize("shape", [(), (1, 0), (1, 3, 2), (2, 5)])
def test_a_classifier_has_one_score_a_class(shape: tuple[int, ...]) -> None:
    spec = ModelSpec(name="c", task="classify", input=InputSpec(), decoder=DecoderSpec(name="classifier"))
    with pytest.raises(SpecError, match=r"expected shape \(1, classes\), found"):
        CLASSIFIERS["classifier"](spec, SIZE_WH, {"s": TensorInfo("s", shape, np.dtype("float32"))})
