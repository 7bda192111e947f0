"""The map between picture and input, overlap, suppression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.geometry import Transform, center_crop, iou_matrix, letterbox, nms

SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(source=SIZES, centered=st.booleans(), data=st.data())
@settings(derandomize=True, max_examples=200)
def test_letterbox_maps_boxes_there_and_back(source: tuple[int, int], centered: bool, data: st.DataObject) -> None:
    transform, (x, y, width, height) = letterbox(source, (320, 256), centered)
    assert 0 <= x <= x + width <= 320 and 0 <= y <= y + height <= 256
    assert width == 320 or height == 256
    ends = [sorted(data.draw(st.tuples(st.floats(0, n), st.floats(0, n)))) for n in source]
    box = np.array([[ends[0][0], ends[1][0], ends[0][1], ends[1][1]]], np.float32)
    back = transform.to_source(transform.to_input(box))
    np.testing.assert_allclose(back, box, atol=max(source) * 1e-4)


def test_letterbox_puts_the_picture_where_it_says() -> None:
    transform, region = letterbox((768, 432), (320, 320), centered=True)
    assert region == (0, 70, 320, 180)
    whole = np.array([[0, 0, 768, 432]], np.float32)
    np.testing.assert_allclose(transform.to_input(whole), [[0, 70, 320, 250]], atol=1e-4)
    _, region = letterbox((768, 432), (320, 320), centered=False)
    assert region == (0, 0, 320, 180)


def test_center_crop_takes_the_middle_square() -> None:
    transform, region = center_crop((640, 480), (224, 224))
    assert region == (80, 0, 480, 480)
    np.testing.assert_allclose(
        transform.to_input(np.array([[80, 0, 560, 480]], np.float32)), [[0, 0, 224, 224]], atol=1e-3
    )


def test_boxes_are_clipped_to_the_picture() -> None:
    transform = Transform((1.0, 1.0), (0.0, 0.0), (100, 50))
    boxes = transform.to_source(np.array([[-5, -5, 200, 200], [110, 10, 120, 20]], np.float32))
    assert boxes.tolist() == [[0, 0, 100, 50], [100, 10, 100, 20]]


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou_matrix(a, b), [[1, 1 / 3, 0, 0]], atol=1e-6)
    assert iou_matrix(b[3:], b[3:]).item() == 0


def greedy(xyxy: np.ndarray, score: np.ndarray, class_id: np.ndarray, iou: float, agnostic: bool) -> list[int]:
    """Suppression as the definition reads."""
    alive = sorted(range(len(score)), key=lambda i: (-score[i], i))
    kept: list[int] = []
    while alive:
        best = alive.pop(0)
        kept.append(best)
        overlap = iou_matrix(xyxy[best : best + 1], xyxy)[0]
        alive = [i for i in alive if overlap[i] <= iou or (not agnostic and class_id[i] != class_id[best])]
    return kept


@pytest.mark.parametrize("agnostic", [False, True])
def test_nms_equals_its_definition(agnostic: bool) -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 7, 60, 200):
        start = rng.uniform(0, 200, (n, 2))
        xyxy = np.hstack([start, start + rng.uniform(1, 120, (n, 2))]).astype(np.float32)
        score = rng.choice(np.linspace(0.1, 1, 12), n).astype(np.float32)  # many ties
        class_id = rng.integers(0, 3, n).astype(np.int32)
        kept = nms(xyxy, score, class_id, 0.45, 1000, agnostic)
        assert kept.tolist() == greedy(xyxy, score, class_id, 0.45, agnostic)


def test_nms_keeps_the_first_of_equals_and_no_more_than_asked() -> None:
    xyxy = np.tile(np.array([[0, 0, 10, 10]], np.float32), (5, 1))
    score, class_id = np.full(5, 0.5, np.float32), np.zeros(5, np.int32)
    assert nms(xyxy, score, class_id, 0.5, 10).tolist() == [0]
    assert nms(xyxy, score, class_id, 1.0, 3).tolist() == [0, 1, 2]
    far = xyxy + np.arange(5, dtype=np.float32)[:, None] * 100
    assert nms(far, score, class_id, 0.5, 2).tolist() == [0, 1]
