"""One turn of one variant: some of its inferences or frames, timed, without those that warm up.

Clocks are arguments, so that a test can hold them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.benchmark.feed import Feed, Reel
from edge.detections import Detections
from edge.pipeline import Infer, Pipeline
from edge.result import Classification, Result
from edge.sinks import Overlay, Sink

REWARM = 2
"""Inferences or frames at the start of each turn that do not count: another variant has just used the caches."""

MODES = ("invoke", "sequential", "pipelined", "throughput", "live")
"""What is measured of a variant.

invoke: the bare inference. sequential: one frame after the other, each from capture to sink. pipelined: capture,
inference and writing overlap. throughput: likewise, with several one-thread interpreters. live: pipelined behind a
source with a camera's pace, whose frames a slow model misses; it tells how old results are.
"""


@dataclass
class Turn:
    """What one turn gave.

    Attributes:
        frames: Inferences or frames that count.
        elapsed_s: What they took together.
        cpu_s: CPU time of the whole process meanwhile, all threads.
        samples_ms: Each inference, or each frame from capture to sink; empty where frames overlap.
        stage_ms: Stage -> each frame's time.
        age_ms: Of each result: from capture to result.
        dropped: Frames that a newer one replaced.
        found: Objects in all frames.
        keep: Whether the times of stages are kept; an hour of them would need memory.
    """

    frames: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    samples_ms: list[float] = field(default_factory=list)
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    age_ms: list[float] = field(default_factory=list)
    dropped: int = 0
    found: int = 0
    keep: bool = True

    def add_stages(self, stage_ms: dict[str, float]) -> None:
        """Keep the times of one frame."""
        if not self.keep:
            return
        for stage, ms in stage_ms.items():
            self.stage_ms.setdefault(stage, []).append(ms)


@dataclass(frozen=True)
class Limit:
    """When a turn ends: with the last of its runs, or when its time is over and it has some.

    Attributes:
        runs: Inferences or frames.
        seconds: Time.
        fewest: Runs that it has in any case.
        skip: Runs before them that do not count.
    """

    runs: int
    seconds: float
    fewest: int = 3
    skip: int = REWARM

    def more(self, done: int, elapsed_s: float) -> bool:
        """Whether another is wanted."""
        return done < min(self.fewest, self.runs) or (done < self.runs and elapsed_s < self.seconds)


@dataclass(frozen=True)
class Clocks:
    """What time it is, in seconds: on the wall, and of this process's CPU time."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


def invoke_turn(invoke: Callable[[], float], limit: Limit, turn: Turn, clocks: Clocks | None = None) -> None:
    """Run the bare inference.

    Args:
        invoke: Runs it once; returns milliseconds.
        limit: When it ends.
        turn: Empty; filled as it goes on, so that what was measured is there when the user interrupts it.
        clocks: What time it is.
    """
    clocks = clocks or Clocks()
    for _ in range(limit.skip):
        invoke()
    start, cpu = clocks.wall(), clocks.cpu()
    while limit.more(turn.frames, clocks.wall() - start):
        ms = invoke()
        turn.samples_ms.append(ms)
        turn.frames += 1
        turn.elapsed_s += ms / 1e3
        turn.cpu_s = clocks.cpu() - cpu


def sequential_turn(
    infer: Infer, reel: Reel, sink: Sink, limit: Limit, turn: Turn, clocks: Clocks | None = None
) -> None:
    """Take one frame after the other from capture to sink; `turn` as in `invoke_turn`."""
    clocks = clocks or Clocks()
    start = cpu = 0.0
    number = 0
    while True:
        if number == limit.skip:
            start, cpu = clocks.wall(), clocks.cpu()
        if number >= limit.skip and not limit.more(turn.frames, clocks.wall() - start):
            break
        begin = clocks.wall()
        frame = reel.next()
        captured = clocks.wall()
        found, stage_ms = infer(frame.image)
        looked = clocks.wall()
        result = _result(frame, found, {"capture": (captured - begin) * 1e3, **stage_ms})
        sink.write(result)
        end = clocks.wall()
        result.stage_ms["write"] = (end - looked) * 1e3 - result.stage_ms.get("draw", 0.0)
        number += 1
        if number > limit.skip:
            turn.frames += 1
            turn.samples_ms.append((end - begin) * 1e3)
            turn.age_ms.append((looked - captured) * 1e3)
            turn.add_stages(result.stage_ms)
            turn.found += _count(result)
            turn.elapsed_s, turn.cpu_s = clocks.wall() - start, clocks.cpu() - cpu


def overlapping_turn(
    infers: Sequence[Infer],
    reel: Reel,
    sink: Sink,
    limit: Limit,
    turn: Turn,
    fps: float | None = None,
    on_result: Callable[[float], None] = lambda at_s: None,
    clocks: Clocks | None = None,
) -> None:
    """Run the real pipeline over frames.

    Args:
        infers: Interpreters that work at the same time.
        reel: The frames.
        sink: Where results go.
        limit: When it ends.
        turn: As in `invoke_turn`.
        fps: Pace of a camera; None for as many frames as it takes.
        on_result: Told of the time of each result that counts, by the wall clock.
        clocks: What time it is.
    """
    meter = _Meter(sink, limit, turn, on_result, clocks or Clocks(), live=fps is not None)
    Pipeline(list(infers), [meter]).run([Feed(reel, meter.more, fps)])


class _Meter:
    """A sink in front of the real one, which notes when results come."""

    def __init__(
        self, sink: Sink, limit: Limit, turn: Turn, on_result: Callable[[float], None], clocks: Clocks, live: bool
    ) -> None:
        self.outputs: list[Any] = []
        self.turn = turn
        self._sink, self._limit, self._told, self._clocks, self._live = sink, limit, on_result, clocks, live
        # Frames on their way fill the pipeline: results come evenly only behind them.
        self._skip = limit.skip
        self._number = 0
        self._start = self._cpu = 0.0
        self._previous: Result | None = None

    def more(self) -> bool:
        return not self._start or self._limit.more(self.turn.frames, self._clocks.wall() - self._start)

    def write(self, result: Result) -> None:
        age_ms = (time.monotonic() - result.frame.captured_s) * 1e3
        self._sink.write(result)
        self._number += 1
        if self._number <= self._skip:
            if self._number == self._skip:
                self._start, self._cpu = self._clocks.wall(), self._clocks.cpu()
            return
        if self._number == 1:
            self._start, self._cpu = self._clocks.wall(), self._clocks.cpu()
        turn = self.turn
        if not self._limit.more(turn.frames, self._clocks.wall() - self._start):
            return  # one that was on its way when the turn ended
        # The pipeline adds the time of writing to a result behind this call: it is there at the next one.
        self._keep()
        self._previous = result
        turn.frames += 1
        turn.elapsed_s = self._clocks.wall() - self._start
        turn.cpu_s = self._clocks.cpu() - self._cpu
        if self._live:
            turn.age_ms.append(age_ms)
        turn.dropped += result.dropped
        turn.found += _count(result)
        self._told(self._clocks.wall())

    def _keep(self) -> None:
        if self._previous is None:
            return
        stages = self._previous.stage_ms
        if self._live:
            # Most of it is waiting for the camera's next frame.
            stages = {stage: ms for stage, ms in stages.items() if stage != "capture"}
        self.turn.add_stages(stages)
        self._previous = None

    def close(self) -> None:
        self._keep()


class NullSink:
    """Takes results and does nothing with them."""

    def __init__(self) -> None:
        """Make one."""
        self.outputs: list[Any] = []

    def write(self, result: Result) -> None:
        """Forget it."""

    def close(self) -> None:
        """Do nothing."""


class JpegSink(NullSink):
    """Draws boxes and encodes the picture, in memory: what a live page, a snapshot or a clip needs of each frame."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Prepare.

        Args:
            labels: Class names by class index.
        """
        super().__init__()
        self._overlay = Overlay(labels)

    def write(self, result: Result) -> None:
        """Draw and encode."""
        import cv2

        cv2.imencode(".jpg", self._overlay.draw(result))


class JsonSink(NullSink):
    """Makes the JSON line of each frame, in memory."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Prepare.

        Args:
            labels: Class names by class index.
        """
        super().__init__()
        self._labels = labels

    def write(self, result: Result) -> None:
        """Make the line."""
        from edge.sinks.text import json_line

        json_line(result, self._labels)


SINKS: dict[str, Callable[[Sequence[str]], Sink]] = {
    "jpeg": JpegSink,
    "json": JsonSink,
    "none": lambda labels: NullSink(),
}
"""Name -> what is done with results, made with the class names."""


def _result(frame: Any, found: Detections | Classification, stage_ms: dict[str, float]) -> Result:
    if isinstance(found, Classification):
        return Result(frame, Detections.empty(), stage_ms, 0, found)
    return Result(frame, found, stage_ms)


def _count(result: Result) -> int:
    return len(result.detections.score) if result.classification is None else 0
