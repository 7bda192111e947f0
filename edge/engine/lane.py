"""Lane: the frames of one source on their way to a model; Outlet: the results on their way to a writer.

All state of a lane and of its outlet is under the lock of their engine. The methods that a capture thread and a writer
call take it; those that begin with an underscore are the engine's own and are called while it is held.
"""

from __future__ import annotations

import threading
import time
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

_OLD = 1.35
"""Intervals of a camera after which the model rather waits for the next frame than looks at this one.

One and a half are the bound that edge keeps in 95% of the frames. A frame that arrives at once is never older than one;
over RTSP the first is gone before FFmpeg gives it."""

_LATE = 0.25
"""Share of an interval by which the next frame may be late; then the old one is taken."""

_LONGEST_S = 1.0
"""A camera with longer intervals is not waited for."""

_SHARE = 0.1
"""Of the latest interval in the average."""


@dataclass(slots=True)
class Job:
    """A frame on its way to a model.

    Attributes:
        frame: It.
        capture_ms: What reading it took.
        dropped: Frames of its source that it replaced.
        ticket: Its place in the lane's order.
        put_s: `time.monotonic()` of its arrival in the lane.
    """

    frame: Frame
    capture_ms: float
    dropped: int = 0
    ticket: int = -1
    put_s: float = 0.0


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
        self._put_s = self._interval_s = 0.0
        outlet._lanes += 1

    def put(self, frame: Frame, capture_ms: float) -> bool:
        """Hand over a frame; waits for room in a lane of a file. False once the lane takes no more."""
        job = Job(frame, capture_ms)
        with self._room:
            if self._newest:
                self._time(job)
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

    def _time(self, job: Job) -> None:
        """Note when a camera's frame came, and how far apart they are."""
        job.put_s = time.monotonic()
        gap_s, self._put_s = job.put_s - self._put_s, job.put_s
        if gap_s < _LONGEST_S:
            self._interval_s += (_SHARE if self._interval_s else 1.0) * (gap_s - self._interval_s)
        else:
            # The first one, or one after an outage.
            self._interval_s = 0.0

    def _hold_s(self, now: float) -> float:
        """Return for how long the model should wait for a fresher frame than the one that waits; 0: not at all."""
        job, interval_s = self._waiting[0], self._interval_s
        if not interval_s or self._closed:
            return 0.0
        # Of a stream that lags by seconds no frame would ever be fresh enough: one interval of it counts.
        came_s = min(job.put_s - job.frame.captured_s, interval_s)
        if now - job.put_s + came_s <= _OLD * interval_s:
            return 0.0
        return max(0.0, job.put_s + (1 + _LATE) * interval_s - now)

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
