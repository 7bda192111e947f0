"""Measurements of real tiny models: that everything is there, never how long it took."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_fakes import free_size_detector
from fixtures import SIZE_WH, paint, tiny_classifier, tiny_detector
from media import film

from edge.benchmark import profile, profile_child
from edge.benchmark import run as running
from edge.benchmark.clip import SIZE_WH as CLIP_WH
from edge.benchmark.clip import write_clip
from edge.benchmark.cold import KEYS, cold_starts, memory_mb
from edge.benchmark.feed import Reel
from edge.benchmark.measure import MODES
from edge.benchmark.plan import Plan
from edge.benchmark.run import Measurement
from edge.benchmark.variant import Variant, variants
from edge.errors import BackendError, InputError, ModelFileError

SHORT: dict[str, Any] = {"runs": 8, "seconds": 60.0, "rounds": 4, "warmup": 2, "starts": 0, "idle_s": 0.0}
LATENCY = {
    "init_ms",
    "warmup_first_ms",
    "warmup_avg_ms",
    "num_warmup_runs",
    "avg_ms",
    "min_ms",
    "max_ms",
    "median_ms",
    "std_ms",
    "p5_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "num_runs",
    "rounds_ms",
    "spread",
    "cpu_ms",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector().save(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> str:
    scenes = (paint([("red", i % 4, 1), ("blue", 3, 0)]) for i in range(12))
    return str(film(tmp_path_factory.mktemp("street") / "s.mkv", scenes, 200.0, SIZE_WH, "FFV1"))


def test_all_modes_of_a_detector_have_all_their_keys(model: Path, street: str) -> None:
    told: list[str] = []
    measurement = Measurement(Plan([Variant(model, 1)], source=street, **SHORT), told.append)
    measurement.run()
    report = measurement.report()
    assert report["complete"] and report["schema"] == "edge-benchmark" and report["schema_version"] == 1
    assert report["source"] == {"name": street, "synthetic": False, "fps": 200.0, "size_wh": list(SIZE_WH)}
    (row,) = report["results"]
    assert row["key"] == "tiny.tflite cpu 1"
    assert row["problem"] is None
    assert set(row["latency"]) == LATENCY
    assert row["latency"]["num_runs"] == 8
    assert row["latency"]["num_warmup_runs"] == 2
    assert len(row["latency"]["rounds_ms"]) == 4
    several = running.interpreters(Variant(model, 1))
    modes = [mode for mode in MODES[1:] if mode != "throughput" or several]
    assert list(row["modes"]) == modes
    for mode, found in row["modes"].items():
        assert found["frames"] >= 8
        assert len(found["fps_rounds"]) == 4
        assert found["fps"] > 0
        assert found["found_per_frame"] == 2
        stages = {"preprocess", "invoke", "decode", "nms", "draw", "write"}
        assert set(found["stages"]) == stages | ({"capture"} if mode != "live" else set())
        assert (found["frame"] is None) == (mode != "sequential")
    assert row["modes"]["live"]["age"]["p95_ms"] >= row["modes"]["live"]["age"]["p50_ms"] > 0
    if several:
        assert row["modes"]["throughput"]["interpreters"] == several
    assert (row["input_wh"], row["format"], row["accuracy"]) == (list(SIZE_WH), "unknown", None)
    assert row["operators"] >= row["delegated"] > 0
    assert told[-1].startswith("round 4 of 4")


def test_models_alternate_and_one_that_fails_does_not_end_the_others(
    model: Path, street: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_classifier().save(tmp_path / "other.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"nothing of the kind")
    order: list[str] = []
    original = Measurement._take

    def take(self: Measurement, mode: str, subject: Any, *rest: Any) -> None:
        order.append(f"{subject.variant.path.stem} {mode}")
        if subject.variant.path == other and mode == "sequential":
            raise BackendError("the device is gone")
        original(self, mode, subject, *rest)

    monkeypatch.setattr(Measurement, "_take", take)
    plan = Plan(variants([model, broken, other], 1, "cpu", {}), modes=["invoke", "sequential"], source=street, **SHORT)
    measurement = Measurement(plan)
    measurement.run()
    good, bad, gone = measurement.report()["results"]
    assert order[:6] == ["tiny invoke", "tiny sequential", "other invoke", "other sequential"] + [
        "tiny invoke",
        "tiny sequential",
    ]
    assert good["modes"]["sequential"]["frames"] >= 8
    assert bad["latency"] is None and "TFLite" in bad["problem"]
    assert gone["problem"] == "the device is gone"
    assert gone["latency"]["num_runs"] == 2  # what was measured before is kept
    assert gone["modes"] == {}


def test_a_sweep_of_threads_measures_throughput_once_and_shows_it_everywhere(model: Path, street: str) -> None:
    if running.interpreters(Variant(model, 1)) is None:
        pytest.skip("one core: there is no throughput mode")
    plan = Plan(variants([model], None, "cpu", {"threads": ["1", "2"]}), modes=["throughput"], source=street, **SHORT)
    measurement = Measurement(plan)
    measurement.run()
    one, two = measurement.report()["results"]
    assert one["modes"]["throughput"] == two["modes"]["throughput"]
    assert len(one["modes"]["throughput"]["fps_rounds"]) == 4


def test_a_model_of_free_size_is_swept(street: str, tmp_path: Path) -> None:
    free = free_size_detector().save(tmp_path / "free.tflite")
    plan = Plan(
        variants([free], 1, "cpu", {"size": ["64", "128x96"]}), modes=["invoke", "sequential"], source=street, **SHORT
    )
    measurement = Measurement(plan)
    measurement.run()
    small, large = measurement.report()["results"]
    assert (small["input_wh"], large["input_wh"]) == ([64, 64], [128, 96])
    assert large["modes"]["sequential"]["found_per_frame"] == 2
    assert small["key"] != large["key"]


def test_a_model_of_fixed_size_is_not(model: Path, street: str) -> None:
    plan = Plan(variants([model], 1, "cpu", {"size": ["64"]}), source=street, **SHORT)
    with pytest.raises(InputError, match=r"fixed at \(1, 96, 128, 3\)"):
        Measurement(plan).run()


def test_a_model_alone_that_cannot_be_loaded_is_an_error(street: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        Measurement(Plan([Variant(tmp_path / "no.tflite", 1)], source=street, **SHORT)).run()


def test_what_was_measured_is_there_when_the_user_has_enough(
    model: Path, street: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    original = Measurement._take

    def take(self: Measurement, *rest: Any) -> None:
        nonlocal turns
        turns += 1
        if turns == 6:
            raise KeyboardInterrupt
        original(self, *rest)

    monkeypatch.setattr(Measurement, "_take", take)
    measurement = Measurement(Plan([Variant(model, 1)], source=street, modes=["invoke", "sequential"], **SHORT))
    with pytest.raises(KeyboardInterrupt):
        measurement.run()
    report = measurement.report()
    assert not report["complete"]
    (row,) = report["results"]
    assert len(row["latency"]["rounds_ms"]) == 3
    assert len(row["modes"]["sequential"]["fps_rounds"]) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rounds": 0}, "--rounds 0"),
        ({"runs": 0}, "--runs 0"),
        ({"warmup": -1}, "--warmup -1"),
        ({"seconds": 0.0}, "--seconds 0"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"fps": 0.0}, "--fps 0"),
        ({"starts": -1}, "--cold-starts -1"),
        ({"minutes": -1.0}, "--minutes -1"),
    ],
)
def test_numbers_out_of_range_are_one_line(model: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Measurement(Plan([Variant(model, 1)], **{**SHORT, **change}))


def test_a_sustained_run_is_of_one_variant(model: Path) -> None:
    with pytest.raises(InputError, match="2 variants"):
        Measurement(Plan([Variant(model, 1), Variant(model, 2)], minutes=1.0, **SHORT))


def test_a_sustained_run_has_windows(model: Path, street: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = running.Recorder.__init__

    def init(self: Any, start_s: float, read: Any) -> None:
        original(self, start_s, read, 0.05)

    monkeypatch.setattr(running.Recorder, "__init__", init)
    plan = Plan([Variant(model, 1)], source=street, modes=["invoke"], **{**SHORT, "minutes": 0.02})
    measurement = Measurement(plan)
    measurement.run()
    found = measurement.report()["results"][0]["sustained"]
    assert len(found["windows"]) >= 2
    assert found["first_fps"] > 0 and found["drop"] is not None


def test_the_clip_moves_and_is_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, again = write_clip(tmp_path, frames=5), write_clip(tmp_path / "b", frames=5)
    one, two = Reel(str(first)), Reel(str(again))
    pictures = [one.next().image for _ in range(5)]
    assert one.size_wh == CLIP_WH
    assert all((a != b).any() for a, b in zip(pictures[:-1], pictures[1:], strict=True))
    assert (two.next().image == pictures[0]).all()


def test_a_cold_start_is_measured_in_a_process_of_its_own(model: Path) -> None:
    job = {
        "path": str(model),
        "threads": 1,
        "delegate": "cpu",
        "size_wh": None,
        "overrides": {},
        "frame_wh": list(SIZE_WH),
    }
    found = cold_starts(job, 1)
    assert found["starts"] == 1
    assert set(found) == {"starts", *KEYS}
    parts = sum(found[key] for key in ("python_ms", "import_ms", "load_ms", "first_inference_ms"))
    assert found["total_ms"] == pytest.approx(parts)
    assert found["peak_rss_mb"] > found["model_rss_mb"] >= 0
    with pytest.raises(BackendError, match="no such model file"):
        cold_starts({**job, "path": str(model) + "x"}, 1)


def test_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n")
    assert memory_mb("VmHWM", status) == 2
    assert memory_mb("VmSwap", status) is None
    assert memory_mb("VmHWM", tmp_path / "nothing") is None


def test_operators_are_timed_where_the_runtime_can(model: Path) -> None:
    found = profile.profile(Variant(model, 1), runs=3)
    if profile.library_path() is None:
        assert "no profiler" in found["problem"]
        return
    assert found["problem"] is None
    assert found["runs"] == 3
    names = " ".join(row["name"] for row in found["operators"])
    assert "Pool" in names and ("Conv" in names or "Fully Connected" in names)
    assert sum(row["share"] for row in found["operators"]) == pytest.approx(1) or found["total_ms"] == 0
    times = [row["median_ms"] for row in found["operators"]]
    assert times == sorted(times, reverse=True)


def test_a_runtime_without_a_profiler_is_one_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_CHILD", "import os; os.kill(os.getpid(), 11)")
    assert profile.profile(Variant(model, 1))["problem"] == "this runtime's profiler crashed (SIGSEGV)"
    monkeypatch.setattr(profile, "_CHILD", "import sys; sys.exit('edge: this LiteRT has no profiler')")
    assert profile.profile(Variant(model, 1))["problem"] == "this LiteRT has no profiler"
    monkeypatch.setattr(profile, "_CHILD", "pass")
    assert profile.profile(Variant(model, 1))["problem"] == "this runtime has no profiler"
    assert "on the CPU alone" in profile.profile(Variant(model, 1, "gpu"))["problem"]


def test_medians_of_operators_are_over_runs_and_ordered() -> None:
    runs = [
        [("conv", 0, 1.0), ("add", 1, 5.0)],
        [("conv", 0, 3.0), ("add", 1, 0.5)],
        [("conv", 0, 2.0), ("add", 1, 0.5)],
    ]
    found = profile.summarised(runs, [4.0, 5.0, 9.0])
    assert [(row["name"], row["median_ms"]) for row in found["operators"]] == [("conv", 2.0), ("add", 0.5)]
    assert found["operators"][0]["share"] == pytest.approx(0.8)
    assert (found["total_ms"], found["invoke_ms"]) == (2.5, 5.0)
    assert profile.summarised([], [])["problem"] == "this runtime's profiler saw no operators"
    kinds = profile.by_kind(
        [{"name": "a", "median_ms": 1.0, "share": 0.2}] * 2 + [{"name": "b", "median_ms": 3.0, "share": 0.6}]
    )
    assert [(kind["name"], kind["count"], kind["median_ms"]) for kind in kinds] == [("b", 1, 3.0), ("a", 2, 2.0)]


def test_a_delegate_that_times_its_own_operators_is_not_counted_twice() -> None:
    class Event:
        def __init__(self, tag: bytes, kind: int, us: int) -> None:
            self.tag, self.kind, self.node, self.elapsed_us = tag, kind, 0, us

    inside = [
        Event(b"invoke", 16, 90),
        Event(b"Convolution", 8, 50),
        Event(b"TfLiteXNNPackDelegate", 2, 55),
        Event(b"ABS", 2, 7),
    ]
    assert profile_child.operators(inside) == [("Convolution", 0, 0.05), ("ABS", 0, 0.007)]
    outside = [Event(b"TfLiteGpuDelegate", 2, 55), Event(b"ABS", 2, 7)]
    assert profile_child.operators(outside) == [("TfLiteGpuDelegate", 0, 0.055), ("ABS", 0, 0.007)]
