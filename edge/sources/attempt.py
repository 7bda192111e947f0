"""Attempt: a call that may not come back, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Attempt(Generic[T]):
    """A call into a driver or library that has begun. Whoever waits for it waits for so long and no longer."""

    def __init__(self, call: Callable[[], T], discard: Callable[[T], object] = lambda result: None) -> None:
        """Begin.

        Args:
            call: What may not come back.
            discard: Undoes what it did, where it comes back when nobody wants its result any more.
        """
        self._call = call
        self._discard = discard
        self._results: queue.SimpleQueue[tuple[T, None] | tuple[None, Exception]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="edge-attempt", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            result = self._call()
        except Exception as error:  # a thread's boundary: raised again by `result`
            self._results.put((None, error))
            return
        with self._lock:
            if not self._given_up:
                self._results.put((result, None))
                return
        self._discard(result)

    @property
    def hangs(self) -> bool:
        """Whether the call has not come back yet."""
        return self._thread.is_alive()

    def result(self, timeout_s: float) -> T:
        """Wait for what the call returns, and return it; what it raises is raised.

        Raises:
            TimeoutError: It has not come back in time; its result is not wanted any more.
        """
        try:
            result, error = self._results.get(timeout=timeout_s)
        except queue.Empty:
            self.give_up()
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def give_up(self) -> None:
        """Want its result no more: it is discarded, now or once it is there."""
        with self._lock:
            self._given_up = True
            result, error = (None, None) if self._results.empty() else self._results.get()
        if result is not None and error is None:
            self._discard(result)
