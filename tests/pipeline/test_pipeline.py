"""The threads: order, queue policies, errors, stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from media import clip, frames_of, picture

from edge.detections import Detections
from edge.engine import DEPTH
from edge.errors import BackendError, OutputError, SourceLostError
from edge.frame import Frame
from edge.pipeline import Pipeline
from edge.result import Classification, Result
from edge.sinks import Overlay
from edge.sinks.video import VideoSink
from edge.sources import open_source
from edge.sources.base import SourceBase

WAIT_S = 20


def infer(image: np.ndarray) -> tuple[Detections, dict[str, float]]:
    """Find one box whose class is the brightness of the picture."""
    column = np.zeros(1, np.int32) + int(image[0, 0, 0])
    return Detections(np.array([[1, 2, 3, 4]], np.float32), np.ones(1, np.float32), column), {"invoke": 1.0}


class Numbers(SourceBase):
    """Frames 0, 1, 2 ... of brightness index % 256, then an error or the end."""

    def __init__(
        self,
        name: str,
        count: int,
        live: bool = False,
        error: Exception | None = None,
        before: Callable[[int], object] = lambda index: None,
    ) -> None:
        self.name = name
        self.live = live
        self.frame_count = count
        self.closed = 0
        self.given = 0
        self._error = error
        self._before = before

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frame_count or 0):
            self._before(index)
            self.given += 1
            image = np.full((4, 4, 3), index % 256, np.uint8)
            yield Frame(image, index, self.name, 0.0, time.monotonic(), time.time(), 10.0, self.live)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed += 1


class Keeper:
    """A sink that keeps results."""

    def __init__(self, write: Callable[[Result], object] = lambda result: None, error: Exception | None = None) -> None:
        self.results: list[Result] = []
        self.closed = 0
        self.outputs: list[Path] = []
        self.threads: set[int] = set()
        self._write = write
        self._error = error

    def write(self, result: Result) -> None:
        self._write(result)
        self.results.append(result)
        self.threads.add(threading.get_ident())

    def close(self) -> None:
        self.closed += 1
        if self._error is not None:
            raise self._error

    @property
    def indices(self) -> list[int]:
        return [result.frame.index for result in self.results]


def quiet() -> None:
    """Check that no thread of a pipeline is left."""
    deadline = time.monotonic() + WAIT_S
    while (left := [t for t in threading.enumerate() if t.name.startswith("edge-")]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def test_files_come_one_after_another_and_none_is_lost() -> None:
    sources = [Numbers("a", 50), Numbers("b", 30)]
    keeper = Keeper()
    seen: list[Result] = []
    stats = Pipeline(infer, [keeper], seen.append).run(sources)
    assert [(r.frame.source, r.frame.index) for r in keeper.results] == [("a", i) for i in range(50)] + [
        ("b", i) for i in range(30)
    ]
    assert [int(r.detections.class_id[0]) for r in keeper.results] == [*range(50), *range(30)]
    assert seen == keeper.results
    assert (stats.frames, stats.dropped, stats.skipped) == (80, 0, 0)
    assert stats.found[29] == 2
    assert stats.fps > 0
    assert list(stats.stage_ms) == ["capture", "invoke", "write"]
    assert stats.percentile_ms("invoke", 95) == 1.0
    assert keeper.closed == 1
    assert all(source.closed for source in sources)
    # Windows and signals want the thread that called.
    assert keeper.threads == {threading.get_ident()}
    quiet()


def test_without_sources_there_is_nothing_to_do() -> None:
    keeper = Keeper()
    stats = Pipeline(infer, [keeper]).run([])
    assert (stats.frames, stats.fps, keeper.closed) == (0, 0.0, 1)
    assert Pipeline(infer).run([Numbers("a", 0)]).frames == 0
    quiet()


def test_a_file_waits_for_a_slow_sink() -> None:
    source = Numbers("a", 200)
    ahead: list[int] = []
    keeper = Keeper(lambda result: (time.sleep(0.002), ahead.append(source.given - result.frame.index)))
    Pipeline(infer, [keeper]).run([source])
    assert keeper.indices == list(range(200))
    # Two queues, and one frame in every hand.
    assert max(ahead) <= 2 * DEPTH + 4


def test_of_a_live_source_the_newest_frame_is_taken() -> None:
    captured = threading.Semaphore(0)
    all_read = threading.Event()

    def before(index: int) -> None:
        if index == 1:
            # The first is in the model by now.
            assert captured.acquire(timeout=WAIT_S)
        if index == 60:
            all_read.set()

    def slow(image: np.ndarray) -> tuple[Detections, dict[str, float]]:
        captured.release()
        assert all_read.wait(WAIT_S)
        return infer(image)

    keeper = Keeper()
    source = Numbers("cam", 61, live=True, before=before, error=SourceLostError("cam: gone"))
    pipeline = Pipeline(slow, [keeper])
    with pytest.raises(SourceLostError, match="cam: gone"):
        pipeline.run([source])
    assert keeper.indices[0] == 0
    assert keeper.indices[-1] == 60
    assert len(keeper.results) <= 4
    assert keeper.indices == sorted(set(keeper.indices))
    gaps = np.diff(keeper.indices) - 1
    assert [r.dropped for r in keeper.results] == [0, *gaps]
    assert pipeline.stats.dropped == 61 - len(keeper.results)


def test_live_sources_run_side_by_side_and_none_starves() -> None:
    sources = [Numbers(name, 40, live=True, before=lambda index: time.sleep(0.002)) for name in "abc"]
    keeper = Keeper()
    Pipeline(infer, [keeper]).run(sources)
    for name in "abc":
        own = [r.frame.index for r in keeper.results if r.frame.source == name]
        assert own == sorted(own)
        assert own[-1] == 39
        assert sum(r.dropped + 1 for r in keeper.results if r.frame.source == name) == 40


def test_files_and_live_sources_may_be_mixed() -> None:
    keeper = Keeper()
    Pipeline(infer, [keeper]).run([Numbers("cam", 20, live=True), Numbers("a", 15), Numbers("b", 15)])
    assert [r.frame.index for r in keeper.results if r.frame.source == "a"] == list(range(15))
    assert [r.frame.index for r in keeper.results if r.frame.source == "b"] == list(range(15))
    assert any(r.frame.source == "cam" for r in keeper.results)


def test_what_was_read_before_a_source_is_lost_is_written() -> None:
    keeper = Keeper(lambda result: time.sleep(0.002))
    with pytest.raises(SourceLostError, match="gone"):
        Pipeline(infer, [keeper]).run([Numbers("a", 30, error=SourceLostError("gone")), Numbers("never", 5)])
    assert keeper.indices == list(range(30))
    assert keeper.closed == 1
    quiet()


def test_an_error_of_the_model_ends_the_run_after_what_it_found() -> None:
    def failing(image: np.ndarray) -> tuple[Detections, dict[str, float]]:
        if image[0, 0, 0] == 12:
            raise BackendError("the model broke")
        return infer(image)

    keeper, source = Keeper(), Numbers("a", 10_000)
    with pytest.raises(BackendError, match="the model broke"):
        Pipeline(failing, [keeper]).run([source])
    assert keeper.indices == list(range(12))
    assert keeper.closed == 1
    assert source.closed
    quiet()


def test_a_bug_in_a_thread_is_raised_in_the_caller() -> None:
    def broken(image: np.ndarray) -> tuple[Detections, dict[str, float]]:
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError, match="bug"):
        Pipeline(broken).run([Numbers("a", 5)])
    with pytest.raises(ZeroDivisionError, match="bug"):
        Pipeline(infer).run([Numbers("a", 5, error=ZeroDivisionError("bug"))])
    with pytest.raises(ZeroDivisionError):
        Pipeline(infer, [Keeper(lambda result: 1 // 0)]).run([Numbers("a", 5)])
    quiet()


def test_an_output_that_fails_ends_the_run_and_the_others_are_closed() -> None:
    def full(result: Result) -> None:
        if result.frame.index == 7:
            raise OutputError("disk is full")

    sinks = [Keeper(), Keeper(full), Keeper()]
    with pytest.raises(OutputError, match="disk is full"):
        Pipeline(infer, sinks).run([Numbers("a", 10_000)])
    assert [len(sink.results) for sink in sinks] == [8, 7, 7]
    assert [sink.closed for sink in sinks] == [1, 1, 1]
    quiet()


def test_an_output_that_cannot_be_finished_is_an_error_and_the_others_are_closed() -> None:
    sinks = [Keeper(error=OutputError("first")), Keeper(error=OutputError("second")), Keeper()]
    with pytest.raises(OutputError, match="first"):
        Pipeline(infer, sinks).run([Numbers("a", 3)])
    assert [sink.closed for sink in sinks] == [1, 1, 1]


def test_stop_finishes_what_is_in_work() -> None:
    keeper = Keeper(lambda result: pipeline.stop() if result.frame.index == 5 else None)
    pipeline = Pipeline(infer, [keeper])
    stats = pipeline.run([Numbers("a", 1_000_000)])
    assert pipeline.stopped
    assert 6 <= stats.frames <= 6 + DEPTH + 2
    assert keeper.indices == list(range(stats.frames))
    assert keeper.closed == 1
    quiet()


def test_stop_does_not_wait_for_a_source_that_hangs() -> None:
    never = threading.Event()
    source = Numbers("cam", 10, live=True, before=lambda index: index < 2 or never.wait(WAIT_S))
    pipeline = Pipeline(infer, [keeper := Keeper()])
    threading.Timer(0.3, pipeline.stop).start()
    start = time.monotonic()
    pipeline.run([source])
    assert time.monotonic() - start < WAIT_S / 2
    assert keeper.closed == 1
    # Its reader is still inside.
    assert not source.closed
    never.set()
    quiet()


def test_a_keyboard_interrupt_closes_the_sinks() -> None:
    def interrupt(result: Result) -> None:
        if result.frame.index == 3:
            raise KeyboardInterrupt

    keeper = Keeper(interrupt)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(infer, [keeper]).run([Numbers("a", 10_000)])
    assert keeper.closed == 1
    quiet()


def test_classifications_are_counted_by_their_best_class() -> None:
    keeper = Keeper()
    stats = Pipeline(lambda image: (Classification((4, 2), (0.9, 0.1)), {}), [keeper]).run([Numbers("a", 3)])
    assert stats.found == {4: 3}
    assert [r.classification.class_id for r in keeper.results if r.classification] == [(4, 2)] * 3
    assert len(keeper.results[0].detections) == 0


def test_real_files_to_a_real_video(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    clip(tmp_path / "in" / "1.mp4", 25)
    picture(tmp_path / "in" / "2.png", 77, (64, 48))
    (tmp_path / "in" / "3.png").write_bytes(b"broken")
    sink = VideoSink(tmp_path / "out.mp4", Overlay(()))
    stats = Pipeline(infer, [sink]).run([open_source(str(tmp_path / "in"))])
    assert (stats.frames, stats.skipped) == (26, 1)
    assert list(stats.stage_ms) == ["capture", "invoke", "draw", "write"]
    assert len(frames_of(tmp_path / "out.mp4")) == 26
