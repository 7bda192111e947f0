"""Many cameras in one process: outages, reloads, outputs that fail, things that hang."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from c_delegate import build_delegate
from fixtures import paint, tiny_classifier, tiny_detector
from media import film
from mjpeg import MjpegCamera

from edge.config.load import load_config
from edge.errors import EdgeError, OutputError
from edge.runner.models import Model
from edge.runner.runner import Runner
from edge.runner.sinks import GuardedSink
from edge.runner.status import CameraStatus
from edge.sources import reconnect
from edge.sources.video import CaptureSource

WAIT_S = 30
RED = paint([("red", 0, 0)])
BOTH = paint([("red", 0, 0), ("green", 3, 2)])


class Site:
    """A folder with a model and a configuration, and the runners made from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "edge.toml"
        self.runners: list[Runner] = []
        tiny_detector().save(folder / "m.tflite")

    def write(self, cameras: dict[str, str], extra: str = "", sinks: bool = True) -> None:
        text = '[models.m]\npath = "m.tflite"\n'
        for name, keys in cameras.items():
            text += f"[cameras.{name}]\n{keys}\n"
        if sinks:
            text += '[sinks.log]\nkind = "json"\npath = "{camera}.jsonl"\nflush_s = 0\n'
        self.file.write_text(text + extra)

    def start(self) -> Runner:
        runner = Runner(load_config(self.file))
        self.runners.append(runner)
        runner.start()
        return runner

    def lines(self, camera: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / f"{camera}.jsonl").read_text().splitlines()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for runner in site.runners:
        runner.stop()
    left = [t.name for t in threading.enumerate() if t.name.startswith("edge-")]
    deadline = time.monotonic() + WAIT_S
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [t.name for t in threading.enumerate() if t.name.startswith("edge-")]
    assert not left


@pytest.fixture
def cam() -> Iterator[MjpegCamera]:
    with MjpegCamera(RED) as camera:
        yield camera


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def state(runner: Runner, name: str) -> CameraStatus:
    return next(camera for camera in runner.status().cameras if camera.name == name)


def source(camera: MjpegCamera, more: str = "") -> str:
    return f'source = "{camera.url}"\n{more}'


def test_a_dead_camera_disturbs_no_other(site: Site, cam: MjpegCamera) -> None:
    site.write({"a": source(cam), "dead": 'source = "http://127.0.0.1:9/x"', "b": source(cam)})
    runner = site.start()
    until(lambda: min(state(runner, "a").results, state(runner, "b").results) >= 10)
    status = runner.status()
    assert [(c.name, c.state) for c in status.cameras] == [("a", "online"), ("dead", "offline"), ("b", "online")]
    assert "Connection refused" in (state(runner, "dead").error or "")
    assert status.ready and not status.hung
    assert state(runner, "a").found["red"] >= 10 and state(runner, "a").size_wh == (128, 96)
    assert 0 < state(runner, "a").age_ms[0] <= state(runner, "a").age_ms[1]
    (model,) = status.models
    assert model.invocations >= 20 and model.failure is None and sum(model.invoke_ms) == model.invocations
    assert runner.stop()
    for name in "ab":
        lines = site.lines(name)
        assert len(lines) == state(runner, name).results
        assert all(line["camera"] == name and line["detections"][0]["name"] == "red" for line in lines)


def test_a_camera_comes_back(site: Site, cam: MjpegCamera, caplog: pytest.LogCaptureFixture) -> None:
    site.write({"a": source(cam)})
    with caplog.at_level(logging.INFO):
        runner = site.start()
        until(lambda: state(runner, "a").results >= 3)
        cam.stop()
        until(lambda: state(runner, "a").state == "offline")
        before = state(runner, "a")
        assert not runner.status().hung
        cam.image = paint([("blue", 1, 1)], (160, 96))  # it comes back with another size
        cam.start()
        until(lambda: state(runner, "a").results >= before.results + 3)
    log = [record.message for record in caplog.records]
    assert "camera a: online, 128 x 96" in log and "camera a: its pictures are 160 x 96 now" in log
    after = state(runner, "a")
    assert (after.state, after.outages, after.reconnects, after.size_wh) == ("online", 1, 1, (160, 96))
    assert after.found["blue"] >= 1
    runner.stop()
    indices = [line["frame"] for line in site.lines("a")]
    assert indices == sorted(set(indices))


def test_a_reload_leaves_the_others_alone(site: Site, cam: MjpegCamera) -> None:
    site.write({"a": source(cam), "b": source(cam)})
    runner = site.start()
    until(lambda: state(runner, "a").results >= 3)
    kept = runner._cameras["a"]
    site.write({"a": source(cam), "b": source(cam, "conf = 0.9"), "c": source(cam)})
    runner.reload(load_config(site.file))
    until(lambda: min(state(runner, name).results for name in "abc") >= 5)
    assert runner._cameras["a"] is kept
    assert (state(runner, "a").outages, state(runner, "a").error) == (0, None)
    site.write({"a": source(cam)})
    runner.reload(load_config(site.file))
    assert [camera.name for camera in runner.status().cameras] == ["a"]
    assert runner._cameras["a"] is kept
    seen = state(runner, "a").results
    until(lambda: state(runner, "a").results >= seen + 5)
    assert runner.status().config.reloads == 2
    runner.stop()
    frames = [line["frame"] for line in site.lines("a")]
    assert frames == sorted(set(frames))
    assert len(site.lines("a")) == state(runner, "a").results


@pytest.mark.parametrize(
    ("cameras", "extra", "says"),
    [
        ({"a": 'source = "0"\nclasses = ["yellow"]'}, "", "cameras.a: classes yellow: the model has no such class"),
        ({"a": 'source = "0"\nmodel = "n"'}, '[models.n]\npath = "none.tflite"\n', "models.n: .*no such model file"),
        ({"a": 'source = "0"\nmodel = "n"'}, '[models.n]\npath = "broken.tflite"\n', "models.n: .*not a TFLite model"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(
    site: Site, cam: MjpegCamera, cameras: dict[str, str], extra: str, says: str
) -> None:
    site.write({"a": source(cam)})
    runner = site.start()
    kept = runner._cameras["a"]
    (site.folder / "broken.tflite").write_bytes(b"no model at all, and long enough to be read")
    site.write(cameras, extra)
    with pytest.raises(EdgeError, match=says):
        runner.reload(load_config(site.file))
    assert runner._cameras == {"a": kept}
    before = state(runner, "a").results
    until(lambda: state(runner, "a").results >= before + 3)


def test_a_model_file_that_is_replaced_is_taken(site: Site, cam: MjpegCamera) -> None:
    cam.image = BOTH
    site.write({"a": source(cam)})
    runner = site.start()
    until(lambda: state(runner, "a").found.get("red", 0) >= 2)
    tiny_detector(labels=("rouge", "vert", "bleu")).save(site.folder / "new.tflite")
    shutil.move(site.folder / "new.tflite", site.folder / "m.tflite")
    runner.reload(load_config(site.file))
    until(lambda: state(runner, "a").found.get("vert", 0) >= 2)


def test_a_file_is_read_to_its_end(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    film(site.folder / "v.mp4", (RED for _ in range(40)), size_wh=(128, 96))
    site.write({"a": 'source = "v.mp4"', "b": 'source = "v.mp4"\nevery = 4'})
    with caplog.at_level(logging.INFO):
        runner = site.start()
        until(lambda: runner.ended)
    assert "camera b: ended after 10 frames" in [record.message for record in caplog.records]
    assert [camera.state for camera in runner.status().cameras] == ["ended", "ended"]
    assert [line["frame"] for line in site.lines("a")] == list(range(40))
    assert [line["frame"] for line in site.lines("b")] == list(range(0, 40, 4))
    assert state(runner, "b").skipped == 30


def test_a_classifier_looks_too(site: Site, cam: MjpegCamera) -> None:
    tiny_classifier().save(site.folder / "m.tflite")
    site.write({"a": source(cam)})
    runner = site.start()
    until(lambda: state(runner, "a").results >= 3)
    assert sum(state(runner, "a").found.values()) >= 3


def test_cameras_share_interpreters_and_a_second_one_brings_another(
    site: Site, cam: MjpegCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    site.write({"a": source(cam)})
    runner = site.start()
    kept, (model,) = runner._cameras["a"], runner.status().models
    assert (model.interpreters, "2 threads" in model.description) == (1, True)
    site.write({"a": source(cam), "b": source(cam), "c": source(cam)})
    runner.reload(load_config(site.file))
    (model,) = runner.status().models
    assert (model.interpreters, "1 thread" in model.description) == (2, True)
    assert runner._cameras["a"] is kept
    until(lambda: min(state(runner, name).results for name in "abc") >= 3)


def test_a_file_is_read_with_all_cores(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    film(site.folder / "v.mp4", (RED for _ in range(40)), size_wh=(128, 96))
    site.write({"a": 'source = "v.mp4"'})
    runner = site.start()
    (model,) = runner.status().models
    assert (model.interpreters, "1 thread" in model.description) == (3, True)
    until(lambda: runner.ended)
    assert [line["frame"] for line in site.lines("a")] == list(range(40))


def test_an_accelerator_that_is_lost_costs_no_frame(site: Site, tmp_path: Path) -> None:
    library = build_delegate(tmp_path)
    film(site.folder / "v.mp4", (RED for _ in range(30)), size_wh=(128, 96))
    site.write(
        {"a": 'source = "v.mp4"\nmodel = "x"'},
        f'[models.x]\npath = "m.tflite"\ndelegate = "{library}?fail=invoke&after=9"\n',
    )
    runner = site.start()
    until(lambda: runner.ended)
    (model,) = runner.status().models
    assert "the device is gone" in (model.failure or "") and model.interpreters == 1
    lines = site.lines("a")
    assert [line["frame"] for line in lines] == list(range(30))
    assert all(line["detections"][0]["name"] == "red" for line in lines)


class Hanging:
    """A source or a sink that does not come back until it is let go."""

    def __init__(self) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()

    def __call__(self, *args: object) -> None:
        self.inside.set()
        self.leave.wait(WAIT_S)


def test_an_inference_that_hangs_is_noticed(site: Site, cam: MjpegCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    hang = Hanging()
    site.write({"a": source(cam)}, "[service]\nstuck_s = 1\n")
    runner = site.start()
    until(lambda: state(runner, "a").results >= 2)
    monkeypatch.setattr(Model, "_count", hang)
    until(lambda: runner.status().hung)
    assert runner.status().hung[0].startswith("model m: an inference has been running for ")
    start = time.monotonic()
    assert not runner.stop()
    assert time.monotonic() - start < 10
    assert site.lines("a")  # its file is closed
    hang.leave.set()


def test_a_camera_thread_that_hangs_is_noticed_and_one_that_waits_is_not(
    site: Site, cam: MjpegCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "HANG_S", 0.3)
    hang = Hanging()
    site.write({"a": source(cam), "away": 'source = "http://127.0.0.1:9/x"'}, "[service]\nstuck_s = 1\n")
    runner = site.start()
    until(lambda: state(runner, "a").results >= 2)
    time.sleep(1.5)
    assert not runner.status().hung
    # The readers that take the place of the one that hangs do so, too.
    monkeypatch.setattr(CaptureSource, "_grab", lambda self: hang())
    until(lambda: runner.status().hung)
    (line,) = runner.status().hung
    assert line.startswith("camera a: its thread has been inside a call")
    assert (state(runner, "a").state, state(runner, "away").state) == ("hung", "offline")
    assert not runner.stop()
    hang.leave.set()


class Flaky:
    """A sink whose disk is full at times."""

    def __init__(self) -> None:
        self.full, self.written, self.closed = False, 0, 0
        self.outputs: list[Path] = []

    def write(self, result: object) -> None:
        if self.full:
            raise OutputError("x: the disk is full")
        self.written += 1

    def close(self) -> None:
        self.closed += 1


def test_an_output_that_fails_rests_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky()
    guarded = GuardedSink("a", "disk", "record", lambda: flaky, retry_s=0.2)
    with caplog.at_level(logging.WARNING):
        guarded.write(None)  # type: ignore[arg-type]
        flaky.full = True
        for _ in range(5):
            guarded.write(None)  # type: ignore[arg-type]
        assert guarded.status().error == "x: the disk is full"
        assert (guarded.status().errors, guarded.status().lost, flaky.written) == (1, 5, 1)
        flaky.full = False
        guarded.write(None)  # type: ignore[arg-type]
        assert guarded.status().lost == 6  # it still rests
        time.sleep(0.25)
        guarded.write(None)  # type: ignore[arg-type]
    assert guarded.status().error is None and flaky.written == 2
    guarded.close()
    assert flaky.closed == 1
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "a: sink disk: x: the disk is full; detecting goes on, tried again every 0.2 s",
        "a: sink disk: it works again",
    ]
