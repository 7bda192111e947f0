"""Which pictures are the worst, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.detections import Detections
from edge.mistakes import Mistakes, in_crowds, unmatched
from edge.sinks.sheet import FRAMES


def boxes(*rows: tuple[float, float, float, float, int], score: float = 0.9) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], np.full(len(rows), score, np.float32), table[:, 4].astype(np.int32))


def test_each_box_is_taken_once_and_by_the_best_score() -> None:
    truth = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 1), (40, 0, 50, 10, 0))
    found = boxes(
        (0, 0, 10, 10, 0),  # right
        (1, 0, 11, 10, 0),  # the same once more
        (20, 0, 30, 10, 0),  # another class
        (40, 0, 50, 4, 0),  # too small
    )
    missed, wrong = unmatched(found, truth)
    assert missed.tolist() == [False, True, True]
    assert wrong.tolist() == [False, True, True, True]
    nothing = Detections.empty()
    assert [part.tolist() for part in unmatched(nothing, truth)] == [[True] * 3, []]
    assert [part.tolist() for part in unmatched(found, nothing)] == [[], [True] * 4]


def test_what_is_found_in_a_crowd_is_no_mistake(tmp_path: Path) -> None:
    crowd = boxes((0, 0, 40, 40, 0))
    found = boxes((0, 0, 9, 9, 0), (35, 0, 45, 9, 0), (37, 0, 47, 9, 0), (0, 0, 9, 9, 1))
    assert in_crowds(found, crowd).tolist() == [True, True, False, False]
    mistakes = Mistakes(tmp_path / "s.png", ("car", "bus"), 0.5)
    image = np.full((48, 64, 3), 90, np.uint8)
    mistakes.look("open", image, found[:2], Detections.empty(), crowd)
    assert mistakes.close() == []
    mistakes = Mistakes(tmp_path / "s.png", ("car", "bus"), 0.5)
    mistakes.look("half", image, found, boxes((0, 0, 9, 9, 0)), crowd)
    ((number, _, result),) = mistakes._worst
    # The labelled car is found, one car lies in the crowd; the other car and the bus are wrong.
    assert number == 2 and result.detections.class_id.tolist() == [2, 1, 4]


def test_the_worst_pictures_come_first_and_no_more_than_fit(tmp_path: Path) -> None:
    written: list[tuple[str, list[int]]] = []
    mistakes = Mistakes(tmp_path / "s.png", ("car", "bus"), 0.5)
    draw = mistakes._sheet.write

    def noted(result) -> None:  # type: ignore[no-untyped-def]
        written.append((result.frame.source, result.detections.class_id.tolist()))
        draw(result)

    mistakes._sheet.write = noted  # type: ignore[method-assign]
    image = np.full((48, 64, 3), 90, np.uint8)
    mistakes.look("none", image, boxes((0, 0, 9, 9, 1)), boxes((0, 0, 9, 9, 1)))
    mistakes.look("weak", image, boxes((0, 0, 9, 9, 1), score=0.4), Detections.empty())
    for i in range(FRAMES + 3):
        mistakes.look(f"one {i}", image, Detections.empty(), boxes((0, 0, 9, 9, 1)))
    mistakes.look(
        "three",
        image,
        boxes((0, 0, 9, 9, 0), (20, 20, 30, 30, 1)),
        boxes((20, 20, 30, 30, 1), *[(9, 9, 20, 20, 0)] * 2),
    )
    assert mistakes.close() == [tmp_path / "s.png"]
    # Missed cars, a wrong car, a bus that was found.
    assert written[0] == ("three", [0, 0, 1, 5])
    assert [name for name, _ in written[1:]] == [f"one {i}" for i in range(FRAMES - 1)]
    sheet = cv2.imread(str(tmp_path / "s.png"))
    assert (sheet == (60, 60, 255)).all(2).any() and (sheet == (0, 190, 255)).all(2).any()


def test_without_a_mistake_there_is_no_sheet(tmp_path: Path) -> None:
    mistakes = Mistakes(tmp_path / "s.png", ("car",), 0.5)
    mistakes.look("a", np.zeros((9, 9, 3), np.uint8), Detections.empty(), Detections.empty())
    assert mistakes.close() == [] and not (tmp_path / "s.png").exists()
