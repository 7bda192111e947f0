"""What a running service knows about itself: one snapshot that health, metrics, watchdog and logs read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

CameraState = Literal["starting", "online", "offline", "hung", "ended"]
"""starting: not opened yet. online: frames come. offline: it is away and tried again. hung: its thread does not come
back from a call. ended: a file that was read to its end."""

INVOKE_BOUNDS_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""Upper bounds of the histogram of inference times; one bucket more holds what is longer."""


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """One output of one camera.

    Attributes:
        name: As the configuration calls it.
        kind: "json", "record", ...
        error: Why it does not write at the moment (a full disk); None where it works.
        errors: How often it began to fail.
        lost: Results that it could not take.
    """

    name: str
    kind: str
    error: str | None = None
    errors: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera.

    Attributes:
        name: As the configuration calls it.
        source: What it reads, without credentials.
        model: The model that looks at it.
        state: See `CameraState`.
        since_s: Seconds in that state.
        frames: Frames that were captured.
        results: Frames that were looked at.
        dropped: Frames that were replaced by newer ones before the model had time.
        skipped: Frames that `every` and `max_fps` left out.
        outages: How often it went away.
        reconnects: How often it came back.
        error: The latest reason of an outage; None before the first.
        fps: Results per second over the last seconds.
        age_ms: (p50, p95) age of the frames when their detections were ready, over the last results; zeros before.
        size_wh: Of the latest frame; None before the first.
        found: Label -> detections so far.
        sinks: Its outputs.
    """

    name: str
    source: str
    model: str
    state: CameraState
    since_s: float
    frames: int = 0
    results: int = 0
    dropped: int = 0
    skipped: int = 0
    outages: int = 0
    reconnects: int = 0
    error: str | None = None
    fps: float = 0.0
    age_ms: tuple[float, float] = (0.0, 0.0)
    size_wh: tuple[int, int] | None = None
    found: dict[str, int] = field(default_factory=dict)
    sinks: tuple[SinkStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model, with all its interpreters.

    Attributes:
        name: As the configuration calls it.
        path: Its file.
        description: What runs it: "LiteRT 2.3.0, CPU, 1 thread".
        interpreters: How many there are.
        failure: Why the CPU runs it instead of the accelerator; None where it runs as asked.
        invocations: How often it ran.
        stuck_s: For how long the longest inference of this moment has been running; 0 where none runs.
        invoke_ms: Times of the invocations: one count for each of `INVOKE_BOUNDS_MS`, and one beyond; not cumulative.
        invoke_sum_ms: Their sum.
    """

    name: str
    path: str
    description: str
    interpreters: int
    failure: str | None
    invocations: int
    stuck_s: float
    invoke_ms: tuple[int, ...]
    invoke_sum_ms: float


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """The configuration file.

    Attributes:
        path: The file.
        reloads: How often a changed file was taken.
        refused: How often one was refused.
        error: Why the latest one was refused; None where it was taken.
    """

    path: str
    reloads: int = 0
    refused: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The whole service.

    Attributes:
        version: Of edge.
        uptime_s: Since it started.
        ready: Whether every model has made its first pass.
        hung: What has made no progress for longer than allowed: one line each. Empty means alive: a source that is
            merely offline is not in it.
        cameras: In the order of the configuration.
        models: Likewise.
        config: The configuration file.
    """

    version: str
    uptime_s: float
    ready: bool
    hung: tuple[str, ...]
    cameras: tuple[CameraStatus, ...]
    models: tuple[ModelStatus, ...]
    config: ConfigStatus
