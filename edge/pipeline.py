"""The path of a frame: capture, inference and writing overlap in threads.

::

    capture thread(s) --inbox--> inference thread --results--> the caller's thread: draw and write

Files wait for a slow model (bounded queue); a camera does not, and its newest frame replaces the one that waits.
One thread runs the model, in the order of capture, so the results are the same however fast the others are. Drawing
and writing happen in the thread that calls `run`, because desktop windows and signals belong to the main thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

from edge.detections import Detections
from edge.errors import OutputError
from edge.frame import Frame, Image
from edge.result import Classification, Result
from edge.sinks import Sink
from edge.sources import Source

log = logging.getLogger(__name__)

T = TypeVar("T")

Infer = Callable[[Image], tuple[Detections | Classification, dict[str, float]]]
"""A detector's `detect` or a classifier's `classify`: uint8 (H, W, 3) BGR -> what it found, milliseconds by stage."""

DEPTH = 4
"""Frames, and results, that may wait: enough to even out a key frame or a slow write, little memory at 4K."""

_POLL_S = 0.1
"""How soon `stop` is noticed while nothing happens."""

_JOIN_S = 2.0
"""How long a capture thread that hangs in a driver or on the network is waited for."""

_SAMPLES = 20_000
"""Times kept per stage, the latest."""


@dataclass
class Stats:
    """What a run did.

    Attributes:
        frames: Results written.
        dropped: Frames of live sources that were replaced by newer ones.
        skipped: Files that could not be read.
        elapsed_s: From the first frame's arrival to the end of the last one's writing.
        fallback: Results that the CPU computed because the accelerator had failed.
        found: Detections per class index; for a classifier, pictures per best class.
        stage_ms: Stage -> its latest times.
    """

    frames: int = 0
    dropped: int = 0
    skipped: int = 0
    elapsed_s: float = 0.0
    fallback: int = 0
    found: Counter[int] = field(default_factory=Counter)
    stage_ms: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def fps(self) -> float:
        """Results per second."""
        return self.frames / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def percentile_ms(self, stage: str, percent: float) -> float:
        """Return a percentile of a stage's times."""
        return float(np.percentile(list(self.stage_ms[stage]), percent))

    def add(self, result: Result) -> None:
        """Count one result."""
        self.frames += 1
        self.dropped += result.dropped
        self.fallback += result.fallback
        for stage, ms in result.stage_ms.items():
            self.stage_ms.setdefault(stage, deque(maxlen=_SAMPLES)).append(ms)
        if result.classification is None:
            self.found.update(result.detections.class_id.tolist())
        else:
            self.found.update(result.classification.class_id[:1])


@dataclass(slots=True)
class _Captured:
    """A frame on its way to inference: the number of its source, and the frames that it replaced."""

    source: int
    frame: Frame
    capture_ms: float
    dropped: int = 0


class _Channel(Generic[T]):
    """A bounded queue between two threads that either of them can close."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T) -> bool:
        """Wait for room and append; False once the channel is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < DEPTH)
            return self._append(item)

    def put_newest(self, item: T, replaces: Callable[[T], bool]) -> bool:
        """Append without waiting, after taking out what `replaces` says it replaces; False once closed."""
        with self._changed:
            for waiting in [other for other in self._items if replaces(other)]:
                self._items.remove(waiting)
            return self._append(item)

    def _append(self, item: T) -> bool:
        if not self._closed:
            self._items.append(item)
            self._changed.notify_all()
        return not self._closed

    def get(self, timeout_s: float | None = None) -> T | None:
        """Wait for an item and take it; None when the time is over, or the channel is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items, timeout_s)
            if not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def close(self, discard: bool = False) -> None:
        """Take nothing more; `discard` what waits."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._items


class Pipeline:
    """One run over some sources. Make a new one for another run."""

    def __init__(
        self,
        infer: Infer,
        sinks: Sequence[Sink] = (),
        on_result: Callable[[Result], None] = lambda result: None,
        fallen_back: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare.

        Args:
            infer: Runs the model on one picture; called from one thread.
            sinks: Take the results; the pipeline closes them.
            on_result: Called after the sinks with each result, for a progress display.
            fallen_back: Says whether the CPU runs the model in place of an accelerator; asked after each picture.
        """
        self.stats = Stats()
        self._infer = infer
        self._sinks = sinks
        self._on_result = on_result
        self._fallen_back = fallen_back
        self._inbox: _Channel[_Captured] = _Channel()
        self._results: _Channel[Result] = _Channel()
        self._capturing = 0
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._stopping = False

    def stop(self) -> None:
        """End the run soon: the frame in work is finished, the files are closed. Safe in a signal handler."""
        # A plain assignment: a lock could be held by the very thread that the signal interrupts.
        self._stopping = True

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def run(self, sources: Sequence[Source]) -> Stats:
        """Process the sources: files one after another, live ones all at once. Closes sources and sinks.

        Returns:
            What was done, also in `stats` when an error is raised.

        Raises:
            EdgeError: A source was lost, the model failed, or an output cannot be written. What was captured
                before is written first, as far as outputs work.
            BrokenPipeError: The reader of standard output went away.
        """
        numbered = list(enumerate(sources))
        groups = [[item] for item in numbered if item[1].live]
        if files := [item for item in numbered if not item[1].live]:
            groups.append(files)
        self._capturing = len(groups)
        if not groups:
            self._inbox.close()
        threads = [
            threading.Thread(target=self._capture, args=(group,), name="edge-capture", daemon=True) for group in groups
        ]
        inference = threading.Thread(target=self._run_model, name="edge-model", daemon=True)
        for thread in (inference, *threads):
            thread.start()
        try:
            self._write_results()
        finally:
            self._inbox.close(discard=True)
            self._results.close(discard=True)
            inference.join()
            self._close_sinks()
            for thread in threads:
                thread.join(_JOIN_S)
            for source, thread in ((s, t) for t, group in zip(threads, groups, strict=True) for _, s in group):
                self.stats.skipped += source.skipped
                # One that hangs in native code cannot be closed under its reader.
                if not thread.is_alive():
                    source.close()
        if self._error is not None:
            raise self._error
        return self.stats

    def _capture(self, sources: Iterable[tuple[int, Source]]) -> None:
        """Read sources one after another into the inbox; the work of a capture thread."""
        try:
            for number, source in sources:
                if not self._capture_one(number, source):
                    return
        except Exception as error:  # a thread's boundary: raised again by `run`
            self._fail(error)
        finally:
            with self._lock:
                self._capturing -= 1
                last = self._capturing == 0
            if last:
                self._inbox.close()

    def _capture_one(self, number: int, source: Source) -> bool:
        """Read one source to its end; False when the run ended before."""
        frames = iter(source)
        while True:
            start = perf_counter()
            frame = next(frames, None)
            if frame is None:
                return True
            item = _Captured(number, frame, (perf_counter() - start) * 1e3)

            def replaces(waiting: _Captured, item: _Captured = item) -> bool:
                if waiting.source == item.source:
                    item.dropped += 1 + waiting.dropped
                return waiting.source == item.source

            if not (self._inbox.put_newest(item, replaces) if source.live else self._inbox.put(item)):
                return False

    def _run_model(self) -> None:
        """Turn frames into results; the work of the inference thread."""
        try:
            while (item := self._inbox.get()) is not None:
                found, stage_ms = self._infer(item.frame.image)
                times = {"capture": item.capture_ms, **stage_ms}
                if isinstance(found, Classification):
                    result = Result(item.frame, Detections.empty(), times, item.dropped, found, self._fallen_back())
                else:
                    result = Result(item.frame, found, times, item.dropped, None, self._fallen_back())
                if not self._results.put(result):
                    break
        except Exception as error:  # a thread's boundary: raised again by `run`
            self._fail(error)
        finally:
            self._inbox.close(discard=True)
            self._results.close()

    def _write_results(self) -> None:
        """Draw and write until the results end or the run is stopped."""
        started: float | None = None
        try:
            while not self._results.finished:
                if self._stopping:
                    # What is in the model is finished and written; what waits before it is not.
                    self._inbox.close(discard=True)
                result = self._results.get(_POLL_S)
                if result is None:
                    continue
                if started is None:
                    started = result.frame.captured_s
                start = perf_counter()
                for sink in self._sinks:
                    sink.write(result)
                if self._sinks:
                    result.stage_ms["write"] = (perf_counter() - start) * 1e3 - result.stage_ms.get("draw", 0.0)
                self.stats.add(result)
                self.stats.elapsed_s = time.monotonic() - started
                self._on_result(result)
        except (OutputError, BrokenPipeError) as error:
            self._fail(error)

    def _close_sinks(self) -> None:
        for sink in self._sinks:
            try:
                sink.close()
            except (OutputError, BrokenPipeError) as error:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keep the first error for `run`, and let the capture end; what was captured before is still written."""
        with self._lock:
            if self._error is None:
                self._error = error
            else:
                log.warning("%s", error)
        self._inbox.close()
