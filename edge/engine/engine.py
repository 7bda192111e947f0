"""Engine: the threads that run models, and whose turn it is.

::

    capture threads --put--> lanes --> engine threads, one member of a pool each --in order--> outlets --get--> writers

The lane that has waited longest since its last turn comes next, whatever model it wants, so that no camera starves.
Where only one waits, and its frame is old with a fresher one due, that is waited for.
Python's lock is held for the choice alone; OpenCV and the runtime release it while they work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from edge.engine.lane import Job, Lane


class Engine:
    """Some threads, and the lanes that they serve.

    Attributes:
        lock: Of all that its lanes and outlets hold.
    """

    def __init__(self, threads: int, on_error: Callable[[Exception], None]) -> None:
        """Start the threads.

        Args:
            threads: How many frames are worked on at the same time; more than all members of all pools are of no use.
            on_error: Told of what a lane's work raised; the frame has no result then. Called from an engine thread.
        """
        self.lock = threading.Lock()
        self._work = threading.Condition(self.lock)
        self._on_error = on_error
        self._lanes: set[Lane] = set()
        self._turns = 0
        self._closed = False
        self._threads: list[threading.Thread] = []
        self.grow(threads)

    def grow(self, threads: int) -> None:
        """Have at least so many threads."""
        while len(self._threads) < threads:
            name = f"edge-model-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
            self._threads[-1].start()

    def add(self, lane: Lane) -> None:
        """Serve a lane from now on, until it is closed and empty."""
        with self.lock:
            # It is behind all that have had a turn.
            self._turns += 1
            lane._turn = self._turns
            if not lane._ended:
                self._lanes.add(lane)

    def stop(self, timeout_s: float | None = None) -> bool:
        """Finish what is in work and end the threads; False where one did not come back in time."""
        with self.lock:
            self._closed = True
            self._work.notify_all()
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _wake(self) -> None:
        """Let a thread look for work."""
        self._work.notify()

    def _next(self) -> tuple[Lane, Job, Any] | None:
        with self.lock:
            while not self._closed:
                ready = [lane for lane in self._lanes if lane._ready]
                # Several have enough to do for all threads: none is left idle then.
                hold_s = ready[0]._hold_s(time.monotonic()) if len(ready) == 1 else 0.0
                if ready and not hold_s:
                    lane = min(ready, key=lambda lane: lane._turn)
                    self._turns += 1
                    lane._turn = self._turns
                    return lane, lane._take(), lane.pool.take()
                self._work.wait(hold_s or None)
            return None

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            lane, job, member = taken
            result = None
            try:
                result = lane.work(member, job)
            except Exception as error:  # a thread's boundary: the owner decides
                self._on_error(error)
            finally:
                with self.lock:
                    lane.pool.give(member)
                    lane._done(job, result)
                    self._wake()
