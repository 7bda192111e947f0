"""Detections that a model has already suppressed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge.decoders import DECODERS
from edge.decoders.base import Decode
from edge.errors import SpecError
from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.tensor import TensorInfo

ROLES = ("boxes", "classes", "scores", "count")
BOXES = [[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.4, 0.4]]


def build(roles: tuple[str, ...] = ROLES, shapes: dict[str, tuple[int, ...]] | None = None, **params: Any) -> Decode:
    spec = ModelSpec(
        name="ssd",
        task="detect",
        input=InputSpec(),
        decoder=DecoderSpec(name="ssd_postprocess", outputs={role: f"t:{role}" for role in roles}, params=params),
    )
    known = shapes or {}
    infos = {f"t:{role}": TensorInfo(f"t:{role}", known.get(role, ()), np.dtype("float32")) for role in roles}
    return DECODERS["ssd_postprocess"].build(spec, (200, 100), infos)


def outputs(count: float = 3, **changes: Any) -> dict[str, npt.NDArray[Any]]:
    values: dict[str, Any] = {
        "boxes": [BOXES],
        "classes": [[2.0, 0.0, 7.0]],
        "scores": [[0.9, 0.6, 0.3]],
        "count": [count],
    } | changes
    return {f"t:{role}": np.array(value, np.float32) for role, value in values.items()}


def test_boxes_come_out_in_pixels_as_xyxy() -> None:
    found = build()(outputs(), 0.5)
    np.testing.assert_allclose(found.xyxy, [[40, 10, 120, 50], [0, 0, 200, 100]], rtol=1e-6)
    assert found.class_id.tolist() == [2, 0]
    np.testing.assert_allclose(found.score, [0.9, 0.6])


def test_the_order_and_unit_can_be_told() -> None:
    found = build(order="xyxy")(outputs(), 0.8)
    np.testing.assert_allclose(found.xyxy, [[20, 20, 100, 60]], rtol=1e-6)
    found = build(boxes="pixels")(outputs(boxes=[[[10, 20, 50, 60]] * 3]), 0.8)
    np.testing.assert_allclose(found.xyxy, [[20, 10, 60, 50]])


@pytest.mark.parametrize(("count", "left"), [(3, 3), (2, 2), (0, 0), (-4, 0), (99, 3), (np.nan, 0)])
def test_rows_behind_the_count_are_nothing(count: float, left: int) -> None:
    assert len(build()(outputs(count), 0.1).score) == left


def test_a_model_without_count_uses_all_rows() -> None:
    assert len(build(("boxes", "classes", "scores"))(outputs(), 0.1).score) == 3


def test_classes_that_are_no_class_are_dropped() -> None:
    found = build()(outputs(classes=[[np.nan, -1.0, 4.0]]), 0.1)
    assert found.class_id.tolist() == [4]


@pytest.mark.parametrize(
    ("role", "shape"),
    [("boxes", (1, 3, 5)), ("boxes", (2, 3, 4)), ("scores", (1, 3, 1)), ("classes", (2, 3)), ("count", (2,))],
)
def test_wrong_shapes_are_refused_at_load_or_at_the_first_inference(role: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match=rf"role '{role}': expected shape .*found"):
        build(shapes={role: shape})
    with pytest.raises(SpecError, match=rf"role '{role}': expected shape .*found"):
        build()(outputs() | {f"t:{role}": np.zeros(shape, np.float32)}, 0.1)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(SpecError, match="expected as many classes and scores as boxes, found 2, 3 and 3"):
        build()(outputs(classes=[[1.0, 2.0]]), 0.1)


def test_a_missing_role_is_named() -> None:
    with pytest.raises(SpecError, match="expected outputs to name the tensor of 'scores'"):
        build(("boxes", "classes"))
