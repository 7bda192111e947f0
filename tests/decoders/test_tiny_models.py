"""Whole models, run by the runtime: every family, dtype and layout finds the cells that were painted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures import CELL, CLASSES, DTYPES, FAMILIES, SIZE_WH, paint, tiny_classifier, tiny_detector

from edge.classifier import Classifier
from edge.decoders import CLASSIFIERS, DECODERS
from edge.detector import Detector
from edge.spec.families import FAMILIES as CONVENTIONS

PAINTED = [("red", 0, 0), ("green", 2, 1), ("blue", 3, 2), ("red", 3, 1)]


def test_the_tables_name_the_same_families() -> None:
    assert set(CONVENTIONS) == set(DECODERS) | set(CLASSIFIERS)
    assert {name for name, family in CONVENTIONS.items() if family.task == "detect"} == set(DECODERS)
    assert set(FAMILIES) == set(DECODERS)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_painted_cells_are_found(family: str, dtype: str, layout: str, tmp_path: Path) -> None:
    detector = Detector.load(tiny_detector(family, dtype, layout).save(tmp_path / "m.tflite"), threads=1)
    for painted in (PAINTED, PAINTED[:1], []):
        found, _ = detector.detect(paint(painted))
        got = sorted((CLASSES[index], *np.rint(xyxy / CELL).astype(int)) for xyxy, _, index, _ in found)
        assert got == sorted((name, x, y, x + 1, y + 1) for name, x, y in painted)
        np.testing.assert_allclose(found.xyxy, np.rint(found.xyxy / CELL) * CELL, atol=0.6)
        assert (found.score > 0.95).all()


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_colour_of_a_picture_is_named(dtype: str, softmax: bool, tmp_path: Path) -> None:
    path = tiny_classifier(dtype, softmax=softmax).save(tmp_path / "m.tflite")
    classifier = Classifier.load(path, top=2, threads=1)
    for index, name in enumerate(CLASSES):
        cells = [(name, x, y) for x in range(SIZE_WH[0] // CELL) for y in range(SIZE_WH[1] // CELL)]
        found, _ = classifier.classify(paint(cells))
        assert found.class_id[0] == index and found.score[0] > 0.95
        assert len(found.class_id) == 2
