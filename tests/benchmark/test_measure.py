from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_fakes import Clock
from media import clip, picture

from edge.benchmark.feed import Feed, Reel
from edge.benchmark.measure import (
    SINKS,
    Clocks,
    Limit,
    NullSink,
    Turn,
    invoke_turn,
    overlapping_turn,
    sequential_turn,
)
from edge.detections import Detections
from edge.errors import InputError, SourceError
from edge.frame import Frame, Image
from edge.result import Classification, Result
from edge.sources.base import SourceBase, still_frame


@pytest.fixture
def reel(tmp_path: Path) -> Iterator[Reel]:
    found = Reel(str(clip(tmp_path / "c.mp4", frames=4)))
    yield found
    found.close()


def look(image: Image) -> tuple[Detections, dict[str, float]]:
    two = Detections(np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int32))
    return two, {"preprocess": 1.0, "invoke": 2.0}


def test_what_warms_up_does_not_count() -> None:
    times = iter([90.0, 80.0, 5.0, 6.0, 7.0, 99.0])
    turn = Turn()
    invoke_turn(lambda: next(times), Limit(3, 1e9, skip=2), turn)
    assert turn.samples_ms == [5.0, 6.0, 7.0]
    assert turn.frames == 3
    assert turn.elapsed_s == pytest.approx(0.018)


def test_a_turn_ends_with_its_time_but_not_before_it_has_some() -> None:
    wall = Clock(1.0)
    turn = Turn()
    invoke_turn(lambda: 1.0, Limit(100, 0.5, fewest=3, skip=0), turn, Clocks(wall, Clock()))
    assert turn.frames == 3
    turn = Turn()
    invoke_turn(lambda: 1.0, Limit(100, 10.0, skip=0), turn, Clocks(Clock(1.0), Clock()))
    assert turn.frames == 9


def test_a_turn_that_is_interrupted_keeps_what_it_has() -> None:
    def invoke() -> float:
        if len(turn.samples_ms) == 4:
            raise KeyboardInterrupt
        return 2.0

    turn = Turn()
    with pytest.raises(KeyboardInterrupt):
        invoke_turn(invoke, Limit(100, 1e9, skip=0), turn)
    assert turn.samples_ms == [2.0] * 4
    assert turn.elapsed_s == pytest.approx(0.008)


def test_cpu_time_is_that_of_the_runs_that_count(reel: Reel) -> None:
    cpu = Clock()

    def worker(image: Image) -> Any:
        cpu.now += 0.25
        return look(image)

    turn = Turn()
    sequential_turn(worker, reel, NullSink(), Limit(6, 1e9, skip=2), turn, Clocks(time.perf_counter, cpu))
    assert turn.frames == 6
    assert turn.cpu_s == pytest.approx(1.5)


def test_one_by_one_has_all_stages_and_their_sum(reel: Reel) -> None:
    wall = Clock(0.001)
    turn = Turn()
    sequential_turn(look, reel, NullSink(), Limit(5, 1e9, skip=1), turn, Clocks(wall, Clock()))
    assert turn.frames == len(turn.samples_ms) == 5
    assert list(turn.stage_ms) == ["capture", "preprocess", "invoke", "write"]
    assert all(len(values) == 5 for values in turn.stage_ms.values())
    # By this clock, capture, inference and writing take a millisecond each.
    assert turn.stage_ms["capture"] == pytest.approx([1.0] * 5)
    assert turn.samples_ms == pytest.approx([3.0] * 5)
    assert turn.age_ms == pytest.approx([1.0] * 5)
    assert turn.found == 10


@pytest.mark.parametrize("workers", [1, 2])
def test_overlapping_counts_frames_behind_those_that_fill_the_pipeline(reel: Reel, workers: int) -> None:
    seen: list[float] = []
    turn = Turn()
    overlapping_turn([look] * workers, reel, NullSink(), Limit(20, 1e9, skip=3), turn, on_result=seen.append)
    assert turn.frames == len(seen) == 20
    assert turn.elapsed_s > 0
    assert turn.found == 40
    assert turn.dropped == 0
    assert turn.age_ms == []  # frames of a file wait: their age says nothing
    assert {len(values) for values in turn.stage_ms.values()} == {20}
    assert {"capture", "invoke", "write"} <= turn.stage_ms.keys()


def test_behind_a_camera_a_slow_model_misses_frames_and_results_have_an_age(reel: Reel) -> None:
    def slow(image: Image) -> Any:
        time.sleep(0.02)
        return look(image)

    turn = Turn()
    overlapping_turn([slow], reel, NullSink(), Limit(6, 1e9, skip=1), turn, fps=500.0)
    assert turn.frames == len(turn.age_ms) == 6
    assert turn.dropped > 0
    assert min(turn.age_ms) >= 20
    assert "capture" not in turn.stage_ms  # it would be the wait for the camera


def test_a_camera_keeps_its_pace_and_does_not_catch_up(reel: Reel) -> None:
    clock = Clock()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    count = iter(range(100))
    frames = iter(Feed(reel, lambda: next(count) < 4, 10.0, clock, sleep))
    assert next(frames).live
    next(frames)
    clock.now += 1.0  # the reader slept
    next(frames)
    next(frames)
    assert slept == pytest.approx([0.1, 0.1, 0.0, 0.1])
    assert next(frames, None) is None


def test_long_runs_keep_no_times_of_stages() -> None:
    turn = Turn(keep=False)
    turn.add_stages({"invoke": 1.0})
    assert turn.stage_ms == {}


def test_a_file_begins_again_where_it_ends(reel: Reel) -> None:
    shades = [int(reel.next().image.mean()) for _ in range(9)]
    assert shades[:4] == sorted(set(shades[:4]))
    assert shades[4:8] == shades[:4]
    assert (reel.fps, reel.size_wh) == (10.0, (64, 48))


def test_a_picture_is_read_again_each_time(tmp_path: Path) -> None:
    reel = Reel(str(picture(tmp_path / "p.png")))
    assert [reel.next().image.mean() for _ in range(3)] == [100.0] * 3
    assert reel.fps is None


def test_a_file_that_vanishes_is_an_error(tmp_path: Path) -> None:
    path = picture(tmp_path / "p.png")
    reel = Reel(str(path))
    reel.next()
    path.unlink()
    with pytest.raises(SourceError):
        reel.next()


def test_a_camera_is_refused() -> None:
    class Camera(SourceBase):
        name, live = "0", True

        def __iter__(self) -> Iterator[Frame]:
            yield still_frame(np.zeros((4, 4, 3), np.uint8), 0, "0")

    with pytest.raises(InputError, match="a camera's own rate would be the result"):
        Reel("0", open=lambda uri, options: Camera())


@pytest.mark.parametrize("name", list(SINKS))
def test_sinks_take_detections_and_classes(name: str) -> None:
    sink = SINKS[name](("car",))
    frame = still_frame(np.zeros((40, 60, 3), np.uint8), 0, "p")
    one = Detections(np.array([[5, 5, 30, 30]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    result = Result(frame, one, {})
    sink.write(result)
    assert ("draw" in result.stage_ms) == (name == "jpeg")
    sink.write(Result(frame, Detections.empty(), {}, 0, Classification((0,), (0.5,))))
    sink.close()
