"""The path of a frame: capture, inference and writing overlap in threads.

::

    capture thread(s) --lanes--> engine threads --outlet--> the caller's thread: draw and write

Files wait for a slow model (bounded queue); a camera does not, and its newest frame replaces the one that waits. Files
come one after another through one lane, every live source has its own. Results of a lane keep the order of its frames
however many threads run the model. Drawing and writing happen in the thread that calls `run`, because desktop windows
and signals belong to the main thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from edge.detections import Detections
from edge.engine import Engine, Job, Lane, Outlet, Pool
from edge.errors import OutputError, SourceLostError
from edge.frame import Image
from edge.result import Classification, Result
from edge.sinks import Sink
from edge.sources import Source

log = logging.getLogger(__name__)

Infer = Callable[[Image], tuple[Detections | Classification, dict[str, float]]]
"""A detector's `detect` or a classifier's `classify`: uint8 (H, W, 3) BGR -> what it found, milliseconds by stage."""

_POLL_S = 0.1
"""How soon `stop` is noticed while nothing happens."""

_JOIN_S = 2.0
"""How long capture threads that hang in a driver or on the network are waited for, all together."""

_SAMPLES = 20_000
"""Times kept per stage, the latest."""


@dataclass
class Stats:
    """What a run did.

    Attributes:
        frames: Results written.
        dropped: Frames of live sources that were replaced by newer ones.
        skipped: Files that could not be read.
        left_out: Frames that `every` and `max_fps` of the sources left out.
        elapsed_s: From the first frame's arrival to the end of the last one's writing.
        fallback: Results that the CPU computed because the accelerator had failed.
        found: Detections per class index; for a classifier, pictures per best class.
        stage_ms: Stage -> its latest times.
    """

    frames: int = 0
    dropped: int = 0
    skipped: int = 0
    left_out: int = 0
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


class Pipeline:
    """One run over some sources. Make a new one for another run."""

    def __init__(
        self,
        infer: Infer | Sequence[Infer],
        sinks: Sequence[Sink] = (),
        on_result: Callable[[Result], None] = lambda result: None,
        fallen_back: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare.

        Args:
            infer: Runs the model on one picture; called from one thread. Several run as many frames at the same time.
            sinks: Take the results; the pipeline closes them.
            on_result: Called after the sinks with each result, for a progress display.
            fallen_back: Says whether the CPU runs the model in place of an accelerator; asked after each picture.
        """
        self.stats = Stats()
        infers = [infer] if callable(infer) else list(infer)
        self._engine = Engine(0, self._model_failed)
        self._pool = Pool(infers)
        self._outlet = Outlet(self._engine)
        self._lanes: list[Lane] = []
        self._sinks = sinks
        self._on_result = on_result
        self._fallen_back = fallen_back
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

        A source that is lost does not end the others; what it raised is raised in the end.

        Returns:
            What was done, also in `stats` when an error is raised.

        Raises:
            EdgeError: A source was lost, the model failed, or an output cannot be written. What was captured
                before is written first, as far as outputs work.
            BrokenPipeError: The reader of standard output went away.
        """
        groups = [[source] for source in sources if source.live]
        if files := [source for source in sources if not source.live]:
            groups.append(files)
        threads = []
        for group in groups:
            lane = Lane(self._engine, self._pool, self._look, self._outlet, newest=group[0].live)
            self._engine.add(lane)
            self._lanes.append(lane)
            threads.append(threading.Thread(target=self._capture, args=(group, lane), name="edge-capture", daemon=True))
        self._engine.grow(self._pool.size)
        for thread in threads:
            thread.start()
        try:
            self._write_results()
        finally:
            for lane in self._lanes:
                lane.abandon()
            for source in sources:
                # One that waits for a camera to come back would not notice.
                source.interrupt()
            self._engine.stop()
            self._close_sinks()
            deadline = time.monotonic() + _JOIN_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            for group, thread in zip(groups, threads, strict=True):
                for source in group:
                    self.stats.skipped += source.skipped
                    self.stats.left_out += source.skipped_frames
                    # One that hangs in native code cannot be closed under its reader.
                    if not thread.is_alive():
                        source.close()
        if self._error is not None:
            raise self._error
        return self.stats

    def _capture(self, sources: Iterable[Source], lane: Lane) -> None:
        """Read sources one after another into their lane; the work of a capture thread."""
        try:
            for source in sources:
                if not capture(source, lane):
                    return
        except SourceLostError as error:
            self._keep(error)
        except Exception as error:  # a thread's boundary: raised again by `run`
            self._fail(error)
        finally:
            lane.close()

    def _look(self, infer: Infer, job: Job) -> Result:
        """Make the result of a frame; the work of an engine thread."""
        found, stage_ms = infer(job.frame.image)
        return result_of(job, found, stage_ms, self._fallen_back())

    def _model_failed(self, error: Exception) -> None:
        self._fail(error, discard=True)

    def _write_results(self) -> None:
        """Draw and write until the results end or the run is stopped."""
        started: float | None = None
        try:
            while not self._outlet.finished:
                if self._stopping:
                    # What is in the model is finished and written; what waits before it is not.
                    for lane in self._lanes:
                        lane.close(discard=True)
                result = self._outlet.get(_POLL_S)
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

    def _fail(self, error: BaseException, discard: bool = False) -> None:
        """Keep the first error for `run`, and let the capture end; what was captured before is still written."""
        self._keep(error)
        for lane in self._lanes:
            lane.close(discard)

    def _keep(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            else:
                log.warning("%s", error)


def capture(source: Source, lane: Lane) -> bool:
    """Read a source to its end into a lane; False when the lane took no more."""
    frames = iter(source)
    while True:
        start = perf_counter()
        frame = next(frames, None)
        if frame is None:
            return True
        if not lane.put(frame, (perf_counter() - start) * 1e3):
            return False


def result_of(job: Job, found: Detections | Classification, stage_ms: dict[str, float], fallback: bool) -> Result:
    """Return the result of a frame in which something was found."""
    times = {"capture": job.capture_ms, **stage_ms}
    if isinstance(found, Classification):
        return Result(job.frame, Detections.empty(), times, job.dropped, found, fallback)
    return Result(job.frame, found, times, job.dropped, None, fallback)
