"""Cameras on a board's connector, and GStreamer pipelines, with stand-ins for the libraries of the boards."""

from __future__ import annotations

import logging
import sys
import threading
import time
import types
from typing import Any

import cv2
import numpy as np
import pytest

from edge.errors import SourceError, SourceLostError
from edge.sources import SourceOptions, csi, gstreamer, is_live, open_source
from edge.sources.urls import without_credentials


class Request:
    """A captured frame that must be given back."""

    held = 0

    def __init__(self, image: np.ndarray, metadata: dict[str, int]) -> None:
        self._image, self._metadata = image, metadata
        Request.held += 1

    def make_array(self, name: str) -> np.ndarray:
        assert name == "main"
        return self._image

    def get_metadata(self) -> dict[str, int]:
        return self._metadata

    def release(self) -> None:
        Request.held -= 1


class Picamera2:
    """A stand-in with the calls of picamera2 that are used, and its habit of taking no odd sizes."""

    made: list[Picamera2] = []
    cameras: list[dict[str, Any]] = [{"Model": "imx708", "Num": 0}, {"Model": "ov5647", "Num": 1}]
    fails: Exception | None = None

    def __init__(self, camera_num: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.number, self.calls, self.left = camera_num, ["made"], 4
        self.made.append(self)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return cls.cameras

    def create_video_configuration(self, main: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
        return {"main": main, "controls": controls}

    def configure(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration

    def start(self) -> None:
        self.calls.append("start")

    def capture_request(self) -> Request:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("camera frontend has timed out")
        width, height = self.configuration["main"]["size"]
        image = np.zeros((height, width - width % 2, 3), np.uint8)
        image[..., 0] = 255  # blue comes first
        stamp = time.clock_gettime(time.CLOCK_BOOTTIME) - 0.2
        return Request(image, {"SensorTimestamp": int(stamp * 1e9)})

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def picamera(monkeypatch: pytest.MonkeyPatch) -> type[Picamera2]:
    module = types.ModuleType("picamera2")
    module.Picamera2 = Picamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.setattr(Picamera2, "made", [])
    return Picamera2


def test_a_raspberry_pis_camera(picamera: type[Picamera2]) -> None:
    options = SourceOptions(size_wh=(640, 480), fps=20, rotate=90, every=2)
    with open_source("csi://1", options) as source:
        (camera,) = picamera.made
        assert camera.number == 1
        assert camera.configuration == {
            "main": {"size": (640, 480), "format": "RGB888"},
            "controls": {"FrameRate": 20},
        }
        assert (source.live, source.fps, source.size_wh) == (True, 10, (480, 640))
        frames = []
        with pytest.raises(SourceLostError, match="csi://1: the camera stopped delivering .*timed out"):
            for frame in source:
                frames.append(frame)  # noqa: PERF402
        assert [(f.index, f.live, f.source) for f in frames] == [(0, True, "csi://1"), (2, True, "csi://1")]
        assert frames[0].image[0, 0].tolist() == [255, 0, 0]
        assert 0.2 <= time.monotonic() - frames[1].captured_s < 5  # the sensor's time counts
        assert source.skipped_frames == 2
    assert camera.calls == ["made", "start", "stop", "close"]
    assert Request.held == 0


def test_the_size_that_a_camera_gives_instead_is_said(picamera, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), open_source("csi://0", SourceOptions(size_wh=(641, 480))) as source:
        assert source.size_wh == (640, 480)
    assert [r.getMessage() for r in caplog.records] == ["csi://0: the camera gives 640x480 instead of 641x480"]
    assert picamera.made[0].configuration["controls"] == {}


def test_a_number_without_a_camera_names_those_that_are_there(picamera, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="csi://2: there is no such camera; found csi://0 imx708, csi://1 ov5647"):
        open_source("csi://2")
    monkeypatch.setattr(picamera, "cameras", [])
    with pytest.raises(SourceError, match="found none: is the ribbon cable seated"):
        open_source("csi://0")


def test_a_camera_in_use_is_one_line(picamera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera, "fails", RuntimeError("Failed to acquire camera: Device or resource busy"))
    with pytest.raises(SourceError, match=r"csi://0: the camera does not start \(Failed to acquire .*another program"):
        open_source("csi://0")


@pytest.mark.parametrize("uri", ["csi://", "csi://x", "csi://-1", "csi://0/1", "csi://99999"])
def test_what_names_no_csi_camera(uri: str) -> None:
    with pytest.raises(SourceError, match="expected the number of a camera, like csi://0"):
        open_source(uri)


def test_without_any_of_it_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(csi, "has_gstreamer", lambda: False)
    with pytest.raises(SourceError) as caught:
        open_source("csi://0")
    text = str(caught.value)
    assert "apt install python3-picamera2" in text and "python3-opencv" in text and "\n" not in text
    monkeypatch.setattr(csi, "is_jetson", lambda: True)
    with pytest.raises(SourceError, match="on a Jetson the camera is read through GStreamer, which this OpenCV lacks"):
        open_source("csi://0")


def test_a_picamera2_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("numpy.dtype size changed\nlong story", name="simplejpeg")

    monkeypatch.setattr(csi.importlib, "import_module", fail)
    monkeypatch.setattr(csi, "has_gstreamer", lambda: False)
    with pytest.raises(SourceError, match=r"csi://0: picamera2 does not load \(numpy.dtype size changed\)"):
        open_source("csi://0")


class Pipeline:
    """A stand-in for a VideoCapture of GStreamer."""

    opened: list[Pipeline] = []
    runs = True

    def __init__(self, pipeline: str, backend: int, limits: list[int] | None = None) -> None:
        self.pipeline, self.backend, self.limits, self.left = pipeline, backend, limits, 2
        self.opened.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.runs

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((48, 64, 3), np.uint8)

    def get(self, key: int) -> float:
        return 30.0 if key == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        self.left = -1


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> type[Pipeline]:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  Video I/O:\n    GStreamer:   YES (1.20.3)\n")
    monkeypatch.setattr(cv2, "VideoCapture", Pipeline)
    monkeypatch.setattr(Pipeline, "opened", [])
    monkeypatch.setitem(sys.modules, "picamera2", None)
    return Pipeline


def test_a_jetsons_camera(pipelines: type[Pipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csi, "is_jetson", lambda: True)
    with (
        open_source("csi://1", SourceOptions(size_wh=(1920, 1080), fps=29.97)) as source,
        pytest.raises(SourceLostError),
    ):
        assert source.live
        for frame in source:
            assert frame.source == "csi://1"
    (opened,) = pipelines.opened
    assert opened.backend == cv2.CAP_GSTREAMER
    assert opened.pipeline == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=(int)1920,height=(int)1080,"
        "framerate=(fraction)29970/1000 ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! "
        "video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def test_libcamera_without_picamera2(pipelines: type[Pipeline]) -> None:
    open_source("csi://0").close()
    assert pipelines.opened[0].pipeline.startswith(
        "libcamerasrc ! video/x-raw,width=(int)1280,height=(int)720,framerate=(fraction)30/1 ! videoconvert"
    )


def test_a_pipeline_of_ones_own(pipelines: type[Pipeline]) -> None:
    options = SourceOptions(open_timeout_s=1.5, read_timeout_s=0.5)
    with open_source("gst://videotestsrc ! queue !", options) as source:
        assert (source.live, source.size_wh) == (True, (64, 48))
    open_source("gst://a ! b ! appsink name=x").close()
    first, second = pipelines.opened
    assert first.pipeline == f"videotestsrc ! queue ! {gstreamer.APPSINK}"
    assert first.limits == [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1500, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 500]
    assert second.pipeline == "a ! b ! appsink name=x"
    assert is_live("gst://a ! b")


def test_a_pipeline_that_does_not_run(pipelines: type[Pipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "runs", False)
    with pytest.raises(SourceError, match=r"gst://nosuch ! x: .*Try it with gst-launch-1\.0"):
        open_source("gst://nosuch ! x")
    with pytest.raises(SourceError, match="the pipeline is empty"):
        open_source("gst://")


def test_a_pipeline_that_does_not_start_is_not_waited_for_nor_tried_beside_itself(
    pipelines: type[Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = threading.Event()
    monkeypatch.setattr(gstreamer, "_START_S", 0.0)
    monkeypatch.setattr(pipelines, "isOpened", lambda self: leave.wait(30))
    monkeypatch.setattr(gstreamer.cv2, "__version__", "4.6.0")
    options = SourceOptions(open_timeout_s=0.1)
    with pytest.raises(
        SourceError, match=r"gst://x: the pipeline does not start within 0\.1 s; is each of its elements"
    ):
        open_source("gst://x", options)
    with pytest.raises(SourceError, match="gst://x: an earlier attempt to start this pipeline still hangs"):
        open_source("gst://x", options)
    assert len(pipelines.opened) == 1
    leave.set()
    deadline = time.monotonic() + 30
    while pipelines.opened[0].left != -1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pipelines.opened[0].left == -1  # released, since nobody waits for it
    open_source("gst://x", SourceOptions(open_timeout_s=10)).close()


def test_an_opencv_without_gstreamer_is_one_line() -> None:
    if gstreamer.has_gstreamer():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match="gst://videotestsrc: this OpenCV has no GStreamer"):
        open_source("gst://videotestsrc")


@pytest.mark.parametrize(
    ("pipeline", "shown"),
    [
        ("gst://rtspsrc location=rtsp://u:s3cret@h/x ! a", "gst://rtspsrc location=rtsp://***@h/x ! a"),
        ("gst://rtspsrc user-id=u user-pw=s3cret ! a", "gst://rtspsrc user-id=*** user-pw=*** ! a"),
        ('gst://x password = "s3cret s" ! a@b', "gst://x password = *** ! a@b"),
        ("gst://videotestsrc ! x", "gst://videotestsrc ! x"),
    ],
)
def test_credentials_in_a_pipeline_are_not_shown(pipeline: str, shown: str) -> None:
    assert without_credentials(pipeline) == shown
