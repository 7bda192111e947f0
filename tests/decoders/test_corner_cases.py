"""Single values whose answer is known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.decoders import DECODERS
from edge.decoders.base import Decode
from edge.errors import SpecError
from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.tensor import TensorInfo


def build(family: str, shapes: dict[str, tuple[int, ...]], size_wh: tuple[int, int], **params: Any) -> Decode:
    roles = {role: role for role in shapes}
    spec = ModelSpec(
        name="m", task="detect", input=InputSpec(), decoder=DecoderSpec(name=family, outputs=roles, params=params)
    )
    infos = {role: TensorInfo(role, shape, np.dtype("float32")) for role, shape in shapes.items()}
    return DECODERS[family].build(spec, size_wh, infos)


@pytest.mark.parametrize("conf", [0.1, 0.5, 0.9])
def test_a_softmax_just_above_the_threshold_passes(conf: float) -> None:
    """With one class and the background, the score is the sigmoid of their difference: no slack to hide behind."""
    decode = build(
        "ssd_anchors",
        {"boxes": (1, 2, 4), "scores": (1, 2, 2)},
        (10, 10),
        anchors=[[0.5, 0.5, 0.2, 0.2]] * 2,
        activation="softmax",
        background=True,
    )
    edge = np.log(conf / (1 - conf))
    scores = np.array([[[3.0, 3.0 + edge + 1e-3], [3.0, 3.0 + edge - 1e-3]]], np.float32)
    found = decode({"boxes": np.zeros((1, 2, 4), np.float32), "scores": scores}, conf)
    assert found.score == pytest.approx([conf], abs=1e-3)
    np.testing.assert_allclose(found.xyxy, [[4, 4, 6, 6]], rtol=1e-6)
    assert found.class_id.tolist() == [0]


@pytest.mark.parametrize("nothing", [-1.0, -1e9, np.nan])
def test_rows_that_fill_a_table_up_are_no_boxes(nothing: float) -> None:
    decode = build("end2end", {"output": (1, 3, 6)}, (100, 100), boxes="pixels")
    row = [1.0, 2.0, 3.0, 4.0, 0.9]
    found = decode({"output": np.array([[[*row, 0.0], [*row, nothing], [*row, 2.0]]], np.float32)}, 0.5)
    assert found.class_id.tolist() == [0, 2]


def test_anchors_of_a_grid_lie_in_the_middle_of_cells() -> None:
    decode = build(
        "ssd_anchors",
        {"boxes": (1, 9, 4), "scores": (1, 9, 1)},
        (32, 16),
        anchors={"grid": [[16, 1], [32, 7]]},
        variances=[1 / 32, 1 / 16, 1 / 32, 1 / 16],
        order="xywh",
        size="linear",
    )
    boxes = np.tile(np.array([0, 0, 4, 2], np.float32), (1, 9, 1))
    scores = np.full((1, 9, 1), 4, np.float32)
    found = decode({"boxes": boxes, "scores": scores}, 0.5)
    centers = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    np.testing.assert_allclose(centers, [[8, 8], [24, 8], *[[16, 8]] * 7])
    np.testing.assert_allclose(found.xyxy[:, 2:] - found.xyxy[:, :2], [[4, 2]] * 9)


def test_a_region_head_takes_its_grid_from_the_tensor() -> None:
    decode = build("region", {"head_0": (1, 13, 13, 12)}, (416, 416), anchors=[[1, 2], [3, 1]], classes=1, softmax=True)
    raw = np.full((1, 13, 13, 12), -20, np.float32)
    raw[0, 5, 7, 6:12] = [0, 0, 0, 0, 20, 0]
    found = decode({"head_0": raw}, 0.5)
    np.testing.assert_allclose(found.xyxy, [[7.5 * 32 - 48, 5.5 * 32 - 16, 7.5 * 32 + 48, 5.5 * 32 + 16]])
    assert found.score == pytest.approx([1])


def test_a_hostile_description_cannot_make_a_decoder_lay_out_much() -> None:
    for family, params in (
        ("yolox", {"strides": [1] * 1000}),
        ("ssd_anchors", {"anchors": {"grid": [[1, 10**9]]}}),
        ("ssd_anchors", {"anchors": {"grid": [[1, 1]] * 1000}}),
    ):
        with pytest.raises(SpecError, match=f"decoder {family}, params: "):
            build(family, {"output": (1, 9, 8), "boxes": (1, 9, 4), "scores": (1, 9, 1)}, (640, 640), **params)
