"""USB cameras: what is asked of them, and what they answer. A real driver is met in tests/lab."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import SourceError, SourceLostError
from edge.sources import SourceOptions, is_live, open_source, usb
from edge.sources.usb import is_camera


class Device:
    """A stand-in for an open camera, which has one format, size and rate."""

    opened: list[Device] = []

    def __init__(self, index: int, backend: int) -> None:
        self.opened_with = (index, backend)
        self.left = 3
        self.damaged: set[int] = set()
        self.retrieved = 0
        self.asked: list[tuple[int, float]] = []
        self.opened.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, key: int, value: float) -> bool:
        self.asked.append((key, value))
        return False

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        self.retrieved += 1
        ok = self.left not in self.damaged
        return ok, np.full((48, 64, 3), self.left, np.uint8) if ok else None

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return (time.monotonic() - 0.25) * 1e3
        code = cv2.VideoWriter.fourcc(*"YUYV")
        given = {cv2.CAP_PROP_FPS: 30, cv2.CAP_PROP_FRAME_WIDTH: 64, cv2.CAP_PROP_FRAME_HEIGHT: 48}
        return float({**given, cv2.CAP_PROP_FOURCC: code}.get(key, -1))

    def release(self) -> None:
        self.left = -1


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    monkeypatch.setattr(usb, "_check_device", lambda device, path: None)
    monkeypatch.setattr(usb.cv2, "VideoCapture", Device)
    monkeypatch.setattr(Device, "opened", [])
    return Device


def test_a_camera_is_live_and_unplugging_it_loses_it(device: type[Device]) -> None:
    count = 0
    with open_source("/dev/video3") as source:
        assert device.opened[0].opened_with == (3, cv2.CAP_V4L2)
        assert (source.live, source.fps, source.frame_count, source.size_wh) == (True, 30.0, None, (64, 48))
        with pytest.raises(SourceLostError, match="/dev/video3: .* after 3 frames"):
            for _ in source:
                count += 1
    assert count == 3


def test_the_drivers_time_of_a_frame_counts(device: type[Device]) -> None:
    with open_source("0") as source:
        age_s = time.monotonic() - next(iter(source)).captured_s
    assert 0.25 <= age_s < 5


@pytest.mark.parametrize("stamp_s", [1.7e9, -1.0])
def test_a_drivers_time_on_another_clock_does_not(
    device: type[Device], stamp_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "get", lambda self, key: stamp_s * 1e3 if key == cv2.CAP_PROP_POS_MSEC else 30.0)
    before = time.monotonic()
    with open_source("0") as source:
        assert before <= next(iter(source)).captured_s <= time.monotonic()


def test_what_a_camera_gives_instead_is_said(device: type[Device], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        open_source("0", SourceOptions(size_wh=(1280, 720), fps=60, format="mjpeg"))
        assert [r.getMessage() for r in caplog.records] == [
            "0: the camera gives YUYV instead of MJPG, 64x48 instead of 1280x720, 30 instead of 60 frames/s"
        ]
        caplog.clear()
        open_source("0", SourceOptions(size_wh=(64, 48), fps=30, format="YUYV"))
        assert not caplog.records
    # The format comes first: sizes and rates depend on it.
    assert [key for key, _ in device.opened[0].asked] == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
    ]


def test_frames_that_are_left_out_are_never_decoded(device: type[Device]) -> None:
    with open_source("0", SourceOptions(every=3)) as source:
        device.opened[0].left = 9
        frames = []
        with pytest.raises(SourceLostError, match="after 10 frames"):
            for frame in source:
                frames.append(frame.index)  # noqa: PERF402
        assert (frames, source.skipped_frames, source.fps) == ([0, 3, 6, 9], 6, 10.0)
    assert device.opened[0].retrieved == 4


def test_damaged_frames_are_passed_over(device: type[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source("0") as source:
        device.opened[0].left, device.opened[0].damaged = 6, {3, 5}
        with pytest.raises(SourceLostError):
            assert [frame.index for frame in source] == [0, 2, 4, 5, 6]
    monkeypatch.setattr(device, "retrieve", lambda self: (False, None))
    with pytest.raises(SourceError, match="gives no frame"):
        open_source("0")


def test_a_link_is_followed_each_time(device: type[Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb, "_STABLE", (f"{tmp_path}/by-id/",))
    link = tmp_path / "by-id" / "usb-Cam-video-index0"
    link.parent.mkdir()
    for number in (2, 4):
        link.unlink(missing_ok=True)
        link.symlink_to(f"/dev/video{number}")
        open_source(str(link)).close()
    assert [one.opened_with[0] for one in device.opened] == [2, 4]


def test_a_link_that_leads_elsewhere_is_refused(device: type[Device], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(usb, "_STABLE", (f"{tmp_path}/",))
    (tmp_path / "x").touch()
    with pytest.raises(SourceError, match="expected a /dev/videoN"):
        open_source(str(tmp_path / "x"))


def test_a_stable_name_that_is_gone_names_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/dev/v4l/by-id/usb-Nothing-video-index0"
    with pytest.raises(SourceError, match=r"there is no camera at /dev/v4l/by-id/usb-N.*; found "):
        open_source(path)
    assert is_camera(path) and is_live(path)


@pytest.mark.parametrize(
    ("uri", "camera"), [("0", True), ("/dev/video12", True), ("/dev/null", False), ("/dev/videos", False), ("a", False)]
)
def test_what_names_a_camera(uri: str, camera: bool) -> None:
    assert is_camera(uri) is camera


def test_a_side_channel_names_the_node_with_the_pictures(
    device: type[Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usb, "_SYSFS", str(tmp_path))
    (tmp_path / "usb").mkdir()
    for number, index in ((0, 0), (1, 1)):
        node = tmp_path / f"video{number}"
        node.mkdir()
        (node / "index").write_text(f"{index}\n")
        (node / "device").symlink_to(tmp_path / "usb")
    monkeypatch.setattr(device, "isOpened", lambda self: False)
    with pytest.raises(SourceError, match=r"/dev/video1 is a side channel of the camera at /dev/video0 .*; use /dev/v"):
        open_source("1")
    for other in ("0", "7"):
        with pytest.raises(SourceError, match=f"/dev/video{other} is no capture device, or another program uses it"):
            open_source(other)
