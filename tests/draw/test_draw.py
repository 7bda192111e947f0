"""The overlay: sizes, colours, labels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.detections import Detections
from edge.draw import Painter, ascii_label, class_color, text_color
from edge.result import Classification

LABELS = ("person", "traffic light", "Straßenbahn")


def black(width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def boxes(*xyxy: tuple[float, float, float, float], score: float = 0.87, class_id: int = 0) -> Detections:
    n = len(xyxy)
    columns = np.array(xyxy, np.float32).reshape(n, 4), np.full(n, score, np.float32), np.full(n, class_id, np.int32)
    return Detections(*columns)


def drawn(image: np.ndarray) -> tuple[int, int, int, int]:
    """Return the bounds x1, y1, x2, y2 of what is not black."""
    rows, columns = np.flatnonzero(image.any((1, 2))), np.flatnonzero(image.any((0, 2)))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_colours_are_stable_and_distinct() -> None:
    colours = [class_color(i) for i in range(24)]
    assert colours == [class_color(i) for i in range(24)]
    nearest = min(np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(colours, 2))
    assert nearest >= 50
    # The first few, which most models use most, are far apart.
    assert min(np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(colours[:5], 2)) >= 150


@pytest.mark.parametrize("class_id", range(0, 80, 3))
def test_text_stands_out_from_its_plate(class_id: int) -> None:
    plate = class_color(class_id)
    brightness = [0.114 * c[0] + 0.587 * c[1] + 0.299 * c[2] for c in (plate, text_color(plate))]
    assert abs(brightness[0] - brightness[1]) > 100


def test_line_and_letters_grow_with_the_frame() -> None:
    heights, lines = [], []
    for width, height in ((64, 64), (320, 240), (768, 432), (1920, 1080), (3840, 2160)):
        image = black(width, height)
        Painter(LABELS).draw(image, boxes((width * 0.4, height * 0.5, width * 0.9, height * 0.9)))
        bounds = drawn(image)
        heights.append(round(height * 0.5) - bounds[1])
        lines.append(int(image[round(height * 0.75), : width // 2].any(1).sum()))
    assert heights == sorted(heights)
    assert 9 <= heights[0] <= 18
    assert 50 <= heights[-1] <= 120
    assert lines == sorted(lines)
    assert lines[0] == 1
    assert 7 <= lines[-1] <= 13


@pytest.mark.parametrize("corner", list(itertools.product((0.0, 0.45, 0.99), repeat=2)))
def test_a_label_stays_inside_the_frame_as_a_whole(corner: tuple[float, float]) -> None:
    width, height = 200, 120
    middle, image = black(width, height), black(width, height)
    # A box of no size leaves little but its label.
    Painter(LABELS).draw(middle, boxes((80, 60, 80, 60)))
    x, y = corner[0] * width, corner[1] * height
    Painter(LABELS).draw(image, boxes((x, y, x, y)))
    x1, y1, x2, y2 = drawn(middle)
    seen = drawn(image)
    assert seen[2] - seen[0] >= x2 - x1 - 3
    assert image.any(2).sum() == pytest.approx(middle.any(2).sum(), rel=0.02)


def test_the_best_box_is_on_top_and_its_label_over_other_boxes() -> None:
    image = black(100, 100)
    both = Detections(
        np.array([[20, 30, 80, 90], [20, 30, 80, 90]], np.float32),
        np.array([0.9, 0.4], np.float32),
        np.array([0, 1], np.int32),
    )
    Painter(LABELS).draw(image, both)
    assert tuple(image[60, 20]) == class_color(0)
    # The plate of the weaker one lies below, at the same corner.
    assert tuple(image[29, 20]) == class_color(0)


def test_a_track_number_is_part_of_the_label() -> None:
    plain, tracked = black(300, 100), black(300, 100)
    found = boxes((20, 50, 30, 60))
    Painter(LABELS).draw(plain, found)
    Painter(LABELS).draw(tracked, Detections(found.xyxy, found.score, found.class_id, np.array([17], np.int32)))
    assert drawn(tracked)[2] > drawn(plain)[2] + 10


def test_a_long_name_is_shortened_before_its_score(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr("edge.draw.cv2.putText", lambda image, text, *rest: texts.append(text))
    Painter(("an exceedingly long name of a class",)).draw(black(80, 64), boxes((5, 30, 40, 60)))
    assert len(texts) == 1
    assert texts[0].startswith("an ")
    assert texts[0].endswith(" 0.87")


def test_nothing_to_draw_changes_nothing() -> None:
    image = np.full((30, 40, 3), 7, np.uint8)
    Painter(LABELS).draw(image, Detections.empty())
    assert (image == 7).all()


def test_classes_are_listed_from_the_upper_left_corner() -> None:
    image = np.full((240, 320, 3), 255, np.uint8)
    Painter(LABELS).draw_classes(image, Classification((2, 0, 9), (0.8, 0.1, 0.05)))
    changed = 255 - image
    x1, y1, x2, y2 = drawn(changed)
    assert (x1, y1) == (0, 0)
    assert 30 < y2 < 80
    assert x2 < 200
    tiny = np.full((16, 16, 3), 255, np.uint8)
    Painter(LABELS).draw_classes(tiny, Classification((2, 0, 9), (0.8, 0.1, 0.05)))
    assert (tiny != 255).any()


def test_a_localisers_box_has_the_colour_of_the_best_class() -> None:
    image = black(320, 240)
    Painter(LABELS).draw_classes(image, Classification((2, 0), (0.8, 0.1), (200.0, 100.0, 280.0, 220.0)))
    assert tuple(image[160, 200]) == tuple(image[220, 240]) == class_color(2)
    assert not image[110:210, 205:275].any()
    outside = black(320, 240)
    Painter(LABELS).draw_classes(outside, Classification((2,), (0.8,), (-5.0, 230.0, 900.0, 240.0)))
    assert tuple(outside[235, 0]) == class_color(2)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("car", "car"),
        ("café", "cafe"),
        ("Straße", "Strasse"),
        ("Čerpadlo", "Cerpadlo"),
        ("smørrebrød", "smorrebrod"),
        ("naïve ☃", "naive ?"),
        ("猫", "class 5"),
        ("", "class 5"),
        ("fish\tcake\n", "fish?cake"),
        ("ﬁsh", "fish"),
    ],
)
def test_names_are_written_in_letters_that_the_font_has(label: str, shown: str) -> None:
    assert ascii_label(label, 5).replace("?", "").strip() == shown.replace("?", "").strip()
    assert ascii_label(label, 5).isascii()


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    label=st.text(max_size=60),
    corners=st.lists(st.tuples(*[st.floats(-50, 900, width=32)] * 4), max_size=6),
    score=st.floats(0, 1, width=32),
)
def test_no_frame_size_label_or_box_is_too_odd_to_draw(
    width: int, height: int, label: str, corners: list[tuple[float, ...]], score: float
) -> None:
    image = black(width, height)
    found = boxes(*corners, score=score)  # type: ignore[arg-type]
    Painter((label,)).draw(image, found)
    Painter((label,)).draw_classes(image, Classification((0, 1), (score, 0.0)))
    assert image.shape == (height, width, 3)
    assert image.any()


def test_a_line_of_text_stays_in_its_strip() -> None:
    strip = black(120, 20)
    Painter().draw_line(strip, "a name that is far too long for this 0:12.3", (255, 255, 255))
    x1, y1, x2, y2 = drawn(strip)
    assert x1 < 8 and 90 < x2 < 120 and y1 > 3 and y2 < 18
    other = black(120, 20)
    Painter().draw_line(other, "a name that is far too long for this 0:12.4", (255, 255, 255))
    assert (strip != other).any()
    Painter().draw_line(black(1, 20), "0:12.3", (255, 255, 255))
    short = black(120, 20)
    Painter().draw_line(short, "0:12.3", (255, 255, 255))
    assert drawn(short)[2] < 60
