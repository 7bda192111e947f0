"""A classifier finds objects through a window that slides over the picture."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures import CLASSES, DTYPES, Tiny, constant_model, tiny_classifier, tiny_detector
from tflite_builder import Builder

import edge.sliding
from edge.decoders.base import Candidates
from edge.errors import InputError, SpecError
from edge.geometry import iou_matrix
from edge.loader import load_model
from edge.sliding import SlidingWindowDetector, fuse, outermost
from edge.spec import DecoderSpec, InputSpec, ModelSpec

SIZE = (32, 24)
COLORS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}
CONF = 0.99999
"""How sure the tiny classifier is of a window of which four fifths are in colour, the rest black."""


def sliding(folder: Path, tiny: Tiny | None = None, **options: Any) -> SlidingWindowDetector:
    tiny = tiny or tiny_classifier(size_wh=SIZE, any_batch=True)
    return SlidingWindowDetector(load_model(tiny.save(folder / "m.tflite"), threads=1), **{"conf": CONF, **options})


def scene(*boxes: tuple[str, int, int, int, int], size_wh: tuple[int, int] = (320, 240)) -> np.ndarray:
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for name, x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = COLORS[name]
    return image


# The tiny classifier sees colour and no shape: in an object much larger than the window, every window is one.
OBJECTS = [("red", 17, 31, 17 + 32, 31 + 24), ("green", 150, 70, 150 + 35, 70 + 26), ("blue", 288, 216, 320, 240)]


def check(detector: SlidingWindowDetector, objects: list[tuple[str, int, int, int, int]], times: int = 1) -> None:
    objects = [(name, *(times * v for v in box)) for name, *box in objects]  # type: ignore[misc]
    found, stage_ms = detector.detect(scene(*objects, size_wh=(320 * times, 240 * times)))
    assert list(stage_ms) == ["preprocess", "invoke", "decode", "nms"]
    overlap = iou_matrix(np.array([box for _, *box in objects], np.float32).reshape(-1, 4), found.xyxy)
    for column, class_id in zip(overlap.T, found.class_id, strict=True):
        assert column.max() > 0.1 and objects[int(column.argmax())][0] == CLASSES[class_id]
    assert (overlap.max(axis=1, initial=0) > 0.4).all()
    assert np.all(np.diff(found.score) <= 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_objects_are_found_at_the_size_of_the_window_and_somewhat_larger(
    tmp_path: Path, dtype: str, layout: str
) -> None:
    # Logits: an 8-bit probability could not tell the right window from one that shows half of the object.
    tiny = tiny_classifier(dtype, SIZE, softmax=False, layout=layout, any_batch=True)
    detector = sliding(tmp_path, tiny)
    assert detector.batch == 64
    check(detector, OBJECTS)
    assert len(detector.detect(scene())[0]) == 0
    check(sliding(tmp_path, tiny, window=96), OBJECTS, times=3)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_batch_answers_as_single_windows_do(tmp_path: Path, dtype: str) -> None:
    tiny = tiny_classifier(dtype, SIZE, any_batch=True)
    # Seven does not divide the number of windows.
    alone, many = (sliding(tmp_path, tiny, batch=n, conf=0.4) for n in (1, 7))
    assert (alone.batch, many.batch) == (1, 7)
    assert many.backend.outputs[0].shape == (7, 3)
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    for image in (scene(*OBJECTS), noise, scene(size_wh=(40, 30)), noise):
        one, other = alone.detect(image)[0], many.detect(image)[0]
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)
        np.testing.assert_allclose(one.score, other.score, atol=1e-5)
        np.testing.assert_array_equal(one.class_id, other.class_id)


def mixing() -> Tiny:
    """A classifier whose batch has the right shape and the wrong content: each picture gets the batch's mean."""
    graph = Builder()
    source = graph.tensor("picture", (1, 4, 4, 3))
    axes = graph.constant((1, 2), "int32")
    color = graph.op("MEAN", [source, axes], (1, 3))
    mean = graph.op("MEAN", [color, graph.constant((0,), "int32")], (3,))
    scores = graph.op("MUL", [color, mean], (1, 3), "scores")
    decoder = DecoderSpec(name="classifier", outputs={"scores": "scores"}, params={"activation": "softmax"})
    spec = ModelSpec(name="mixing", task="classify", input=InputSpec(), decoder=decoder)
    return Tiny(graph.build([source], [scores]), spec)


def constant() -> Tiny:
    spec = mixing().spec
    return Tiny(constant_model({"scores": np.array([[5, 0, 0]], np.float32)}, (1, 4, 4, 3)), spec)


@pytest.mark.parametrize(
    ("tiny", "why"),
    [
        (tiny_classifier(size_wh=SIZE), "cannot prepare"),
        (constant(), r"its outputs have the shapes \(1, 3\)"),
        (mixing(), "scores differs between a batch"),
    ],
)
def test_a_graph_that_takes_no_batch_is_run_window_by_window(
    tmp_path: Path, tiny: Tiny, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "edge.sliding"):
        detector = sliding(tmp_path, tiny)
    (line,) = caplog.messages
    assert "m.tflite: one window at a time" in line
    assert re.search(why, line), line
    assert detector.batch == 1 and detector.backend.input.shape[0] == 1
    image = np.random.default_rng(0).integers(0, 256, (36, 48, 3), np.uint8)
    expected = sliding(tmp_path, tiny, batch=1).detect(image)[0]
    found = detector.detect(image)[0]
    assert np.array_equal(found.xyxy, expected.xyxy) and np.array_equal(found.score, expected.score)


def test_a_large_input_gets_a_small_batch(tmp_path: Path) -> None:
    tiny = tiny_classifier(size_wh=(320, 320), any_batch=True)
    assert sliding(tmp_path, tiny).batch == (1 << 20) // (320 * 320 * 3)


class Windows:
    """What `fuse` gets: every window that was looked through, when the threshold is 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Candidates(np.empty((0, 4)), np.empty(0), np.empty(0))
        monkeypatch.setattr(edge.sliding, "fuse", self.keep)

    def keep(self, windows: Candidates, iou: float) -> tuple[Candidates, np.ndarray]:
        self.seen = windows
        return fuse(Candidates(*(column[:1] for column in windows)), iou)


@pytest.mark.parametrize(
    ("size_wh", "options"),
    [
        ((100, 77), {}),
        ((64, 48), {"stride": 1.0, "pyramid_scale": 2.0}),
        ((200, 90), {"window": 64, "stride": 0.4}),
        ((90, 200), {"window": 20, "pyramid_scale": 1.7}),
        ((32, 24), {}),
        ((40, 11), {}),
        ((9, 9), {}),
        ((1, 1), {}),
        ((1, 50), {"stride": 0.01}),
        ((64, 48), {"window": 5000}),
    ],
)
def test_every_window_is_looked_through_edges_included(
    tmp_path: Path, size_wh: tuple[int, int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(monkeypatch)
    detector = sliding(tmp_path, conf=0.0, batch=16, **options)
    image = np.random.default_rng(1).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)
    found, _ = detector.detect(image)
    assert len(found) == 1
    expected, scores = by_hand(detector, image, options)
    np.testing.assert_allclose(windows.seen.xyxy, expected, atol=1e-3)
    np.testing.assert_allclose(windows.seen.score, scores, atol=1e-5)
    corners = windows.seen.xyxy
    assert corners.min() > -1e-3 and (corners[:, 2:] < np.array(size_wh) + 1e-3).all()
    # The picture is covered to its last pixel.
    assert corners[:, :2].min() < 1e-3 and np.allclose(corners[:, 2:].max(axis=0), size_wh, atol=1e-3)


def by_hand(
    detector: SlidingWindowDetector, image: np.ndarray, options: dict[str, Any]
) -> tuple[np.ndarray, list[float]]:
    """Return boxes and best scores of all windows, with loops; the network is a mean and a matrix."""
    (height, width), (w, h) = image.shape[:2], SIZE
    scale = max(w / options.get("window", w), w / width, h / height)
    boxes, scores = [], []
    while scale > max(w / width, h / height) - 1e-9:
        level_w, level_h = max(w, round(width * scale)), max(h, round(height * scale))
        level = cv2.resize(image, (level_w, level_h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        steps = [max(1, round(options.get("stride", 0.25) * side)) for side in SIZE]
        for y in sorted({*range(0, level_h - h + 1, steps[1]), level_h - h}):
            for x in sorted({*range(0, level_w - w + 1, steps[0]), level_w - w}):
                boxes.append(
                    [x * width / level_w, y * height / level_h, (x + w) * width / level_w, (y + h) * height / level_h]
                )
                rgb = level[y : y + h, x : x + w, ::-1].mean(axis=(0, 1)) / 255
                logits = np.where(np.eye(3), 16, -16) @ rgb - 8
                scores.append(float((np.exp(logits) / np.exp(logits).sum()).max()))
        scale /= options.get("pyramid_scale", 1.25)
    return np.array(boxes), scores


@pytest.mark.parametrize("name", ["background", "Background", "__background__", "NONE", "nothing", "negative"])
def test_a_class_that_means_nothing_wins_and_is_not_reported(tmp_path: Path, name: str) -> None:
    detector = sliding(tmp_path, tiny_classifier(size_wh=SIZE, any_batch=True, labels=("red", name, "blue")))
    found, _ = detector.detect(scene(*OBJECTS))
    assert set(found.class_id.tolist()) == {0, 2}
    # Where nothing was seen, the second best class is not said instead.
    assert not (iou_matrix(found.xyxy, np.array([OBJECTS[1][1:]], np.float32)) > 0.1).any()


def test_only_the_classes_that_are_asked_for(tmp_path: Path) -> None:
    assert sliding(tmp_path, classes=[2]).detect(scene(*OBJECTS))[0].class_id.tolist() == [2]
    assert len(sliding(tmp_path, max_det=2).detect(scene(*OBJECTS))[0]) == 2


def test_the_smallest_window_decides_what_is_large_enough(tmp_path: Path) -> None:
    small = [("red", 102, 99, 114, 108)]
    check(sliding(tmp_path, window=12), small)
    assert len(sliding(tmp_path, window=12).detect(scene(*small))[0]) == 1
    assert len(sliding(tmp_path, window=128).detect(scene(*small))[0]) == 0


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_localiser_says_where_in_its_window_the_object_is(tmp_path: Path, dtype: str) -> None:
    box = (0.25, 0.5, 0.75, 1.0)
    tiny = tiny_classifier(dtype, SIZE, any_batch=True, box=box)
    detector = sliding(tmp_path, tiny, conf=0.9)
    assert detector.batch > 1
    # The picture is one window.
    found, _ = detector.detect(scene(("green", 0, 0, 64, 48), size_wh=(64, 48)))
    (best,) = found.xyxy[iou_matrix(found.xyxy, np.array([[16, 24, 48, 48]], np.float32))[:, 0] > 0.2][:1]
    whole = sliding(tmp_path, tiny, conf=0.9, window=64).detect(scene(("green", 0, 0, 64, 48), size_wh=(64, 48)))[0]
    np.testing.assert_allclose(whole.xyxy, [[16, 24, 48, 48]], atol=0.3)
    assert best[3] <= 48


def test_a_localiser_whose_box_lies_outside_reports_nothing(tmp_path: Path) -> None:
    tiny = tiny_classifier(size_wh=SIZE, any_batch=True, box=(2.0, 2.0, 3.0, 3.0))
    found, _ = sliding(tmp_path, tiny, window=64).detect(scene(("green", 0, 0, 64, 48), size_wh=(64, 48)))
    assert len(found) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"window": 0},
        {"window": -3},
        {"pyramid_scale": 1.0},
        {"pyramid_scale": float("nan")},
        {"pyramid_scale": 1000.0},
        {"stride": 0.0},
        {"stride": 1.5},
        {"stride": float("nan")},
        {"conf": 2.0},
        {"iou": -1.0},
        {"max_det": 0},
    ],
)
def test_numbers_out_of_range(tmp_path: Path, options: dict[str, Any]) -> None:
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(InputError, match=f"--{name} .*expected"):
        sliding(tmp_path, **options)


def test_a_window_that_would_blow_the_picture_up_is_refused(tmp_path: Path) -> None:
    detector = sliding(tmp_path, window=1)
    with pytest.raises(InputError, match="--window 1: .* enlarged 32.0 times .*give a larger window"):
        detector.detect(np.zeros((1000, 1000, 3), np.uint8))


def test_thresholds_are_the_models_own_unless_given(tmp_path: Path) -> None:
    tiny = tiny_classifier(size_wh=SIZE)
    own = Tiny(tiny.model, tiny.spec.model_copy(update={"conf": 0.8, "iou": 0.1}))
    assert (sliding(tmp_path, own, conf=None).conf, sliding(tmp_path, own).iou) == (0.8, 0.1)
    assert sliding(tmp_path, tiny).iou == 0.3


def test_a_detector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="finds objects itself"):
        sliding(tmp_path, tiny_detector())


def candidates(*rows: tuple[float, float, float, float, float, int]) -> Candidates:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Candidates(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def test_windows_on_one_object_become_their_mean_by_score() -> None:
    windows = candidates(
        (0, 0, 10, 10, 0.6, 1),
        (4, 0, 14, 10, 0.8, 1),
        (4, 0, 14, 10, 0.7, 0),
        (50, 50, 60, 60, 0.5, 1),
        (8, 0, 18, 10, 0.2, 1),
    )
    found, support = fuse(windows, 0.4)
    # 0.8 takes 0.6 and 0.2, which overlap it by 0.43; not the other class, and not the far one.
    mean = (0.6 * 0 + 0.8 * 4 + 0.2 * 8) / 1.6
    np.testing.assert_allclose(found.xyxy, [[mean, 0, mean + 10, 10], [4, 0, 14, 10], [50, 50, 60, 60]], atol=1e-4)
    np.testing.assert_allclose(found.score, [0.8, 0.7, 0.5])
    np.testing.assert_allclose(support, [1.6, 0.7, 0.5], rtol=1e-4)
    assert found.class_id.tolist() == [1, 0, 1]
    assert len(fuse(candidates(), 0.4)[0].score) == 0
    assert len(fuse(candidates((0, 0, 1, 1, 0, 0), (0, 0, 1, 1, 0, 0)), 0.4)[0].score) == 1


def test_of_boxes_in_one_another_the_better_supported_stays() -> None:
    boxes = np.array(
        [[0, 0, 40, 40], [10, 10, 20, 20], [30, 0, 70, 40], [100, 100, 110, 110], [35, 35, 45, 45]], np.float32
    )
    # The second lies in the first; the others share a quarter of themselves at most.
    assert outermost(boxes, np.array([5, 9, 1, 2, 3], np.float32)).tolist() == [1, 4, 3, 2]
    assert outermost(boxes, np.array([9, 5, 1, 2, 3], np.float32)).tolist() == [0, 4, 3, 2]
    assert outermost(boxes[:0], np.empty(0, np.float32)).tolist() == []
