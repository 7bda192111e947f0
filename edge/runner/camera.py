"""One camera of a service: a thread that captures, one that writes, and what is known of it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from edge.config.schema import CameraConfig
from edge.engine import Engine, Job, Lane, Outlet
from edge.frame import Frame
from edge.result import Result
from edge.runner.feed import Feed, make_feed
from edge.runner.models import Member, Model
from edge.runner.sinks import GuardedSink
from edge.runner.status import CameraState, CameraStatus
from edge.sources import without_credentials

log = logging.getLogger(__name__)

_TICK_S = 0.5
"""How often outputs that do things by the clock are asked while no frame comes."""

_RECENT = 256
"""Ages kept, the latest."""

_FPS_WINDOW_S = 10.0

_LAST_S = 0.3
"""How long a writer that waited for a result may take to close its files."""


class Camera:
    """A source, its lane to a model, and its outputs.

    Attributes:
        name: As the configuration calls it.
        model: What looks at it.
    """

    def __init__(
        self, name: str, config: CameraConfig, model: Model, engine: Engine, sinks: Sequence[GuardedSink]
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            name: As the configuration calls it.
            config: Its section.
            model: What looks at it.
            engine: Whose threads run the model.
            sinks: Its outputs.

        Raises:
            InputError: A limit or a class does not suit the model.
        """
        self.name = name
        self.model = model
        self._config = config
        self._engine = engine
        self._sinks = sinks
        self._look = model.looker(name, config)
        self._source: Feed = make_feed(name, config)
        self._outlet = Outlet(engine)
        self._lane = Lane(engine, model.pool, self._work, self._outlet, newest=self._source.live)
        self._stopping = False
        self._frames = self._results = self._dropped = 0
        self._size_wh: tuple[int, int] | None = None
        self._found: Counter[int] = Counter()
        self._ages_ms: deque[float] = deque(maxlen=_RECENT)
        self._times: deque[float] = deque(maxlen=1024)
        self._reading_s: float | None = None
        self._writer_beat_s = time.monotonic()
        self._capture_thread = threading.Thread(target=self._capture, name=f"edge-capture-{name}", daemon=True)
        self._writer_thread = threading.Thread(target=self._write, name=f"edge-write-{name}", daemon=True)

    def start(self) -> None:
        """Open the source and let frames come; returns at once."""
        self._engine.add(self._lane)
        self._writer_thread.start()
        self._capture_thread.start()

    def signal_stop(self) -> None:
        """Ask it to end; returns at once."""
        self._stopping = True
        self._source.interrupt()
        self._lane.close(discard=True)

    def join(self, timeout_s: float) -> bool:
        """Wait until it has ended and its files are closed; False where a thread did not come back in time.

        A thread that hangs in a driver or on a dead disk cannot be ended from here: it is left behind.
        """
        deadline = time.monotonic() + timeout_s
        # The writer matters more: its files.
        self._writer_thread.join(max(0.0, deadline - time.monotonic()))
        # An inference that hangs has no result: the writer need not wait for it.
        self._lane.abandon()
        self._writer_thread.join(_LAST_S)
        self._capture_thread.join(max(0.0, deadline - time.monotonic()))
        if not self._capture_thread.is_alive():
            self._source.close()
        return not (self._writer_thread.is_alive() or self._capture_thread.is_alive() or self._source.hanging)

    @property
    def ended(self) -> bool:
        """Whether it was a file that was read and written to its end."""
        return not self._writer_thread.is_alive() and self._writer_thread.ident is not None

    def _capture(self) -> None:
        try:
            frames = iter(self._source)
            while not self._stopping:
                start = perf_counter()
                self._reading_s = time.monotonic()
                frame = next(frames, None)
                self._reading_s = None
                if frame is None:
                    break
                self._frames += 1
                self._note_size(frame)
                if not self._lane.put(frame, (perf_counter() - start) * 1e3):
                    break
        except Exception:  # a thread's boundary: one camera's fault must not end the others
            log.exception("%s: the camera's thread failed", self.name)
        finally:
            if not self._stopping and not self._source.live:
                log.info("camera %s: ended after %d frames", self.name, self._frames)
            self._lane.close()

    def _note_size(self, frame: Frame) -> None:
        before, self._size_wh = self._size_wh, frame.size_wh
        if before is None:
            log.info("camera %s: online, %d x %d", self.name, *frame.size_wh)
        elif before != frame.size_wh and not frame.still:
            log.info("camera %s: its pictures are %d x %d now", self.name, *frame.size_wh)

    def _work(self, member: Member, job: Job) -> Result:
        result = self._look(member, job)
        self._ages_ms.append((time.monotonic() - job.frame.captured_s) * 1e3)
        return result

    def _write(self) -> None:
        ticked_s = time.monotonic()
        while not self._outlet.finished:
            result = self._outlet.get(_TICK_S)
            self._writer_beat_s = time.monotonic()
            if result is not None:
                self._note(result)
                for sink in self._sinks:
                    sink.write(result)
            if self._writer_beat_s - ticked_s >= _TICK_S:
                ticked_s = self._writer_beat_s
                for sink in self._sinks:
                    sink.tick()
        for sink in self._sinks:
            sink.close()

    def _note(self, result: Result) -> None:
        self._results += 1
        self._dropped += result.dropped
        self._times.append(time.monotonic())
        if result.classification is None:
            self._found.update(result.detections.class_id.tolist())
        else:
            self._found.update(result.classification.class_id[:1])

    def hung(self, stuck_s: float) -> list[str]:
        """Return a line for each thread of it that has not come back from a call for `stuck_s`."""
        now = time.monotonic()
        lines = []
        reading_s = self._reading_s
        # While it waits for a source that is away, it gives signs of life.
        if reading_s is not None and (away := now - max(reading_s, self._source.beat_s)) > stuck_s:
            lines.append(f"camera {self.name}: its thread has been inside a call of the source for {away:.0f} s")
        if self._writer_thread.is_alive() and (away := now - self._writer_beat_s) > stuck_s:
            lines.append(f"camera {self.name}: its outputs have been inside a call for {away:.0f} s")
        return lines

    def status(self, stuck_s: float) -> CameraStatus:
        """Return what is known of it."""
        counters = self._source.counters
        state: CameraState = "ended" if self.ended else counters.state
        if self.hung(stuck_s):
            state = "hung"
        ages = list(self._ages_ms)
        p50, p95 = (float(v) for v in np.percentile(ages, (50, 95))) if ages else (0.0, 0.0)
        return CameraStatus(
            name=self.name,
            source=without_credentials(self._config.source),
            model=self.model.name,
            state=state,
            since_s=time.monotonic() - counters.since_s,
            frames=self._frames,
            results=self._results,
            dropped=self._dropped + counters.dropped,
            skipped=self._source.skipped_frames,
            outages=counters.outages,
            reconnects=counters.reconnects,
            error=counters.last_error,
            fps=self._fps(),
            age_ms=(p50, p95),
            size_wh=self._size_wh,
            found={self._label(i): n for i, n in sorted(self._found.items())},
            sinks=tuple(sink.status() for sink in self._sinks),
        )

    def _fps(self) -> float:
        now = time.monotonic()
        recent = [t for t in list(self._times) if now - t <= _FPS_WINDOW_S]
        if not recent:
            return 0.0
        # Not since its start: a camera that has just come would count as slow.
        return len(recent) / max(min(_FPS_WINDOW_S, now - recent[0]), 1e-3) if len(recent) > 1 else 0.0

    def _label(self, class_id: int) -> str:
        labels = self.model.labels
        return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)
