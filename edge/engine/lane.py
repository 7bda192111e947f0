"""Lane: the frames of one source on their way to a model; Outlet: the results on their way to a writer.

All state of a lane and of its outlet is under the lock of their engine. The methods that a capture thread and a writer
call take it; those that begin with an underscore are the engine's own and are called while it is held.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.engine.pool import Pool
from edge.frame import Frame
from edge.result import Result

if TYPE_CHECKING:
    from edge.engine.engine import Engine

DEPTH = 4
"""Frames of a file that may wait, and results of a lane: they even out a key frame or a slow write."""


@dataclass(slots=True)
class Job:
    """A frame on its way to a model.

    Attributes:
        frame: It.
        capture_ms: What reading it took.
        dropped: Frames of its source that it replaced.
        ticket: Its place in the lane's order.
    """

    frame: Frame
    capture_ms: float
    dropped: int = 0
    ticket: int = -1


class Outlet:
    """Results that wait for one writer; several lanes may share it."""

    def __init__(self, engine: Engine) -> None:
        """Make an empty one.

        Args:
            engine: Whose lanes feed it.
        """
        self._engine = engine
        self._filled = threading.Condition(engine.lock)
        self._results: deque[tuple[Lane, Result]] = deque()
        self._lanes = 0

    def get(self, timeout_s: float | None = None) -> Result | None:
        """Wait for a result and take it; None when the time is over, or when nothing comes any more."""
        with self._filled:
            self._filled.wait_for(lambda: self._results or not self._lanes, timeout_s)
            if not self._results:
                return None
            lane, result = self._results.popleft()
            lane._out -= 1
            lane._end_if_done()
            self._engine._wake()
            return result

    @property
    def finished(self) -> bool:
        """Whether it is empty and no lane feeds it any more."""
        with self._filled:
            return not self._results and not self._lanes

    def _put(self, lane: Lane, result: Result) -> None:
        self._results.append((lane, result))
        self._filled.notify()

    def _discard(self, lane: Lane) -> None:
        self._results = deque(item for item in self._results if item[0] is not lane)


class Lane:
    """The frames of one source, in order, to a pool's members and on to an outlet, in the same order.

    At most `DEPTH` frames are with the model or wait for the writer, so that a slow writer holds up its own lane only.
    """

    def __init__(
        self, engine: Engine, pool: Pool[Any], work: Callable[[Any, Job], Result], outlet: Outlet, newest: bool
    ) -> None:
        """Prepare; `Engine.add` puts it into service.

        Args:
            engine: Whose threads do the work.
            pool: The model.
            work: Makes the result of a frame with a member of the pool.
            outlet: Where results go.
            newest: Whether a new frame replaces one that waits, as a camera wants it, or waits for room behind it.
        """
        self.pool = pool
        self.work = work
        self._engine = engine
        self._outlet = outlet
        self._newest = newest
        self._room = threading.Condition(engine.lock)
        self._waiting: deque[Job] = deque()
        self._closed = False
        self._ended = False
        self._tickets = 0
        self._next = 0
        self._early: dict[int, Result | None] = {}
        self._running = 0
        self._out = 0
        self._turn = 0
        outlet._lanes += 1

    def put(self, frame: Frame, capture_ms: float) -> bool:
        """Hand over a frame; waits for room in a lane of a file. False once the lane takes no more."""
        job = Job(frame, capture_ms)
        with self._room:
            if self._newest:
                while self._waiting:
                    job.dropped += 1 + self._waiting.popleft().dropped
            else:
                self._room.wait_for(lambda: self._closed or len(self._waiting) < DEPTH)
            if self._closed:
                return False
            self._waiting.append(job)
            self._engine._wake()
        return True

    def close(self, discard: bool = False) -> None:
        """Take no more frames, and let the outlet know once the last result is out; `discard` those that wait."""
        with self._room:
            self._closed = True
            if discard:
                self._waiting.clear()
            self._room.notify_all()
            self._end_if_done()

    def abandon(self) -> None:
        """Close it, and give up its results too."""
        with self._room:
            self._closed = True
            self._waiting.clear()
            self._outlet._discard(self)
            self._out = 0
            self._room.notify_all()
            self._end()

    @property
    def _ready(self) -> bool:
        """Whether a frame could be taken now."""
        return bool(self._waiting) and self._running + self._out + len(self._early) < DEPTH and self.pool.free

    def _take(self) -> Job:
        job = self._waiting.popleft()
        job.ticket = self._tickets
        self._tickets += 1
        self._running += 1
        self._room.notify()
        return job

    def _done(self, job: Job, result: Result | None) -> None:
        """Pass on a result, and those that waited for it; None where there is none."""
        self._running -= 1
        self._early[job.ticket] = result
        while self._next in self._early:
            ready = self._early.pop(self._next)
            self._next += 1
            if ready is not None and not self._ended:
                self._out += 1
                self._outlet._put(self, ready)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closed and not (self._waiting or self._running or self._out):
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._outlet._lanes -= 1
            self._outlet._filled.notify_all()
            self._engine._lanes.discard(self)
