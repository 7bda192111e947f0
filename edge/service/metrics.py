"""Prometheus text of a `Status`.

Nothing is counted here: the numbers are those of the snapshot at the moment of a scrape, so that the hot path has
nothing to do with metrics. prometheus-client writes the two text formats and the metrics of the process. It is imported
at the first scrape: it takes 6 MB, which a service without a scraper keeps for itself. docs/metrics.md lists the names.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, get_args

from edge.errors import MissingDependencyError
from edge.runner.status import INVOKE_BOUNDS_MS, CameraState

if TYPE_CHECKING:
    from prometheus_client import Metric

    from edge.device import DeviceReadings
    from edge.runner.status import CameraStatus, ModelStatus, Status

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_STATES: tuple[str, ...] = get_args(CameraState)


def require_prometheus() -> None:
    """Check that prometheus-client is there, without importing it.

    Raises:
        MissingDependencyError: It is not installed.
    """
    if importlib.util.find_spec("prometheus_client") is None:
        raise MissingDependencyError(
            "metrics need prometheus-client, which is not installed; "
            "install it with: pip install 'edge-pipeline[service]'"
        )


def metrics_text(status: Status, device: DeviceReadings, openmetrics: bool = False) -> bytes:
    """Return all metrics.

    Args:
        status: The service.
        device: The device.
        openmetrics: In the OpenMetrics 1.0 format (`OPENMETRICS_TYPE`), not in Prometheus' own (`TEXT_TYPE`).

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """
    require_prometheus()
    from prometheus_client import generate_latest
    from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

    # prometheus-client has no types for these two; of a registry they take nothing but `collect`.
    write: Callable[[_Scrape], bytes] = generate_openmetrics if openmetrics else generate_latest
    return write(_Scrape(status, device))


class _Scrape:
    """Stands where prometheus-client has a registry: that is for metrics that live on."""

    def __init__(self, status: Status, device: DeviceReadings) -> None:
        self._status = status
        self._device = device

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once."""
        from prometheus_client import ProcessCollector

        yield from _metrics(self._status, self._device)
        yield from ProcessCollector(registry=None).collect()


def _metrics(status: Status, device: DeviceReadings) -> Iterator[Metric]:
    yield from _service(status)
    yield from _cameras(status.cameras)
    yield from _sinks(status.cameras)
    yield from _models(status.models)
    yield from _device(device)


def _service(status: Status) -> Iterator[Metric]:
    build = {"version": status.version, "python": platform.python_version(), "machine": platform.machine()}
    yield _metric("info", "edge_build", "Version of edge, and what it runs on", [(build, 1)])
    yield _metric("gauge", "edge_uptime_seconds", "Time since the service started", [({}, status.uptime_s)])
    yield _metric("gauge", "edge_ready", "Whether every model has made its first pass", [({}, status.ready)])
    yield _metric("gauge", "edge_hung", "Things that have made no progress for too long", [({}, len(status.hung))])
    yield _metric("gauge", "edge_threads", "Threads of the process", [({}, count) for count in _threads()])
    config = status.config
    yield _metric("counter", "edge_config_reloads", "Changed configurations that were taken", [({}, config.reloads)])
    yield _metric("counter", "edge_config_refusals", "Changed configurations that were refused", [({}, config.refused)])
    name, taken = "edge_config_last_reload_successful", config.error is None
    yield _metric("gauge", name, "Whether the latest configuration is the one in use", [({}, taken)])


def _cameras(cameras: Sequence[CameraStatus]) -> Iterator[Metric]:
    def each(kind: str, name: str, help: str, value: Callable[[CameraStatus], float]) -> Metric:
        return _metric(kind, name, help, [({"camera": camera.name}, value(camera)) for camera in cameras])

    infos = [{"camera": camera.name, "source": camera.source, "model": camera.model} for camera in cameras]
    yield _metric("info", "edge_camera", "What a camera reads, and the model that looks at it", [(i, 1) for i in infos])
    yield each("gauge", "edge_camera_up", "Whether frames come", lambda camera: camera.state == "online")
    states = [
        ({"camera": camera.name, "state": state}, camera.state == state) for camera in cameras for state in _STATES
    ]
    yield _metric("gauge", "edge_camera_state", "1 for the state that a camera is in, 0 for the others", states)
    yield each("gauge", "edge_camera_state_duration_seconds", "Time in the present state", lambda c: c.since_s)
    yield each("counter", "edge_camera_frames", "Frames that were captured", lambda camera: camera.frames)
    yield each("counter", "edge_camera_results", "Frames that were looked at", lambda camera: camera.results)
    help = "Frames that were replaced by newer ones before the model had time"
    yield each("counter", "edge_camera_frames_dropped", help, lambda camera: camera.dropped)
    help = "Frames that every and max_fps left out"
    yield each("counter", "edge_camera_frames_skipped", help, lambda camera: camera.skipped)
    yield each("counter", "edge_camera_outages", "How often a camera went away", lambda camera: camera.outages)
    yield each("counter", "edge_camera_reconnects", "How often a camera came back", lambda camera: camera.reconnects)
    help = "Frames looked at per second, over the last seconds"
    yield each("gauge", "edge_camera_results_per_second", help, lambda camera: camera.fps)
    ages = [
        ({"camera": camera.name, "quantile": quantile}, age_ms / 1000.0)
        for camera in cameras
        if camera.results
        for quantile, age_ms in zip(("0.5", "0.95"), camera.age_ms, strict=True)
    ]
    help = "Age of frames when their detections were ready, over the last results"
    yield _metric("summary", "edge_camera_frame_age_seconds", help, ages)
    found = [
        ({"camera": camera.name, "label": label}, count) for camera in cameras for label, count in camera.found.items()
    ]
    yield _metric("counter", "edge_camera_detections", "Objects that were found", found)


def _sinks(cameras: Sequence[CameraStatus]) -> Iterator[Metric]:
    labelled = [
        ({"camera": camera.name, "sink": sink.name, "kind": sink.kind}, sink)
        for camera in cameras
        for sink in camera.sinks
    ]
    ups = [(labels, sink.error is None) for labels, sink in labelled]
    yield _metric("gauge", "edge_sink_up", "Whether an output writes", ups)
    errors = [(labels, sink.errors) for labels, sink in labelled]
    yield _metric("counter", "edge_sink_errors", "How often an output began to fail", errors)
    lost = [(labels, sink.lost) for labels, sink in labelled]
    yield _metric("counter", "edge_sink_results_lost", "Results that an output could not take", lost)


def _models(models: Sequence[ModelStatus]) -> Iterator[Metric]:
    infos = [{"model": model.name, "path": model.path, "description": model.description} for model in models]
    yield _metric("info", "edge_model", "File of a model, and what runs it", [(info, 1) for info in infos])
    counts = [({"model": model.name}, model.interpreters) for model in models]
    yield _metric("gauge", "edge_model_interpreters", "Interpreters of a model", counts)
    fallbacks = [({"model": model.name}, model.failure is not None) for model in models]
    help = "Whether the CPU runs a model because its accelerator failed"
    yield _metric("gauge", "edge_model_fallback", help, fallbacks)
    stuck = [({"model": model.name}, model.stuck_s) for model in models]
    help = "For how long the longest inference of this moment has been running"
    yield _metric("gauge", "edge_inference_running_seconds", help, stuck)
    times = _metric("histogram", "edge_inference_duration_seconds", "Time of one inference", [])
    for model in models:
        # The count is that of the buckets: the two may differ by one in a snapshot, and must not in a histogram.
        totals = list(accumulate(model.invoke_ms))
        bounds = [str(bound_ms / 1000.0) for bound_ms in INVOKE_BOUNDS_MS] + ["+Inf"]
        for bound, total in zip(bounds, totals, strict=True):
            times.add_sample(f"{times.name}_bucket", {"model": _clean(model.name), "le": bound}, total)
        times.add_sample(f"{times.name}_count", {"model": _clean(model.name)}, totals[-1])
        times.add_sample(f"{times.name}_sum", {"model": _clean(model.name)}, model.invoke_sum_ms / 1000.0)
    yield times


def _device(device: DeviceReadings) -> Iterator[Metric]:
    temperatures = [({"sensor": name}, celsius) for name, celsius in device.temperatures_c.items()]
    yield _metric("gauge", "edge_device_temperature_celsius", "Temperature of the device", temperatures)
    flags = [({"reason": name}, active) for name, active in device.throttled.items()]
    yield _metric("gauge", "edge_device_throttled", "Whether this slows the device down now", flags)
    clocks = [({"policy": name}, hz) for name, hz in device.cpu_hz.items()]
    yield _metric("gauge", "edge_device_cpu_frequency_hertz", "Clock of the CPU", clocks)
    highest = [({"policy": name}, hz) for name, hz in device.cpu_max_hz.items()]
    yield _metric("gauge", "edge_device_cpu_frequency_max_hertz", "Highest clock of the CPU", highest)


_SUFFIXES = {"counter": "_total", "info": "_info"}


def _metric(kind: str, name: str, help: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    """Return a metric with its samples: labels and value each."""
    from prometheus_client import Metric

    metric = Metric(name, help, kind)
    for labels, value in samples:
        cleaned = {label: _clean(text) for label, text in labels.items()}
        metric.add_sample(name + _SUFFIXES.get(kind, ""), cleaned, float(value))
    return metric


def _clean(text: str) -> str:
    """Return a label value that can be written as UTF-8: a path need not be."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _threads() -> Iterator[int]:
    """Yield how many threads the kernel counts, those of native libraries included; nothing where it does not say."""
    try:
        yield len(os.listdir("/proc/self/task"))
    except OSError:
        return
