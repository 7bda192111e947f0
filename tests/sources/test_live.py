"""Cameras and streams, served from this machine."""

from __future__ import annotations

import http.server
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media import clip
from rtsp import NoRtspServerError, RtspCamera, drawn_s

from edge.errors import SourceError, SourceLostError
from edge.sources import SourceOptions, live, open_source, usb

FRAMES = 20


class Camera(http.server.BaseHTTPRequestHandler):
    """Serves /cam (Motion JPEG, 20 frames), /hang (5 frames, then silence), /clip.mp4, /page and /secret."""

    clip = b""
    protocol_version = "HTTP/1.0"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/clip.mp4":
            self._send("video/mp4", self.clip)
        elif path == "/page":
            self._send("text/html", b"<html><body>no video here</body></html>" * 50)
        elif path in ("/cam", "/hang"):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for i in range(FRAMES if path == "/cam" else 5):
                    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 10 * i, np.uint8))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                if path == "/hang":
                    self.server.released.wait(30)  # type: ignore[attr-defined]
            except OSError:
                pass
        else:
            self.send_error(404 if path != "/secret" else 401)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[str]:
    Camera.clip = clip(tmp_path / "clip.mp4", 15).read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.released = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.released.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_motion_jpeg_camera_gives_all_its_frames_and_is_then_lost(camera: str) -> None:
    frames = []
    with open_source(f"http://{camera}/cam") as source:
        assert (source.live, source.frame_count, source.size_wh) == (True, None, (64, 48))
        with pytest.raises(SourceLostError, match=f"after {FRAMES} frames") as caught:
            for frame in source:
                frames.append(frame)  # noqa: PERF402
    assert caught.value.exit_code == 3
    assert [f.index for f in frames] == list(range(FRAMES))
    assert [round(float(f.image.mean()) / 10) for f in frames] == list(range(FRAMES))
    assert frames[0].timestamp_s == 0
    assert all(f.live for f in frames)


def test_a_camera_that_freezes_is_lost_after_a_while(camera: str) -> None:
    count = 0
    options = SourceOptions(read_timeout_s=0.5)
    with open_source(f"http://{camera}/hang", options) as source, pytest.raises(SourceLostError):
        for _ in source:
            count += 1
    assert count >= 4


def test_credentials_are_in_no_name_and_no_error(camera: str) -> None:
    with open_source(f"http://admin:s3cret@{camera}/cam?token=s3cret") as source:
        names = {next(iter(source)).source, source.name}
        with pytest.raises(SourceLostError) as lost:
            list(source)
    assert names == {f"http://***@{camera}/cam?token=***"}
    with pytest.raises(SourceError) as refused:
        open_source(f"http://admin:s3cret@{camera}/nothing?token=s3cret")
    assert "s3cret" not in f"{lost.value} {refused.value}"
    assert camera in str(refused.value)


def test_a_video_file_behind_http_ends_like_a_file(camera: str) -> None:
    with open_source(f"http://{camera}/clip.mp4") as source:
        assert (source.live, source.frame_count, source.fps) == (False, 15, 10.0)
        assert len(list(source)) == 15


@pytest.mark.parametrize("path", ["page", "nothing", "secret"])
def test_a_host_without_video_is_refused(camera: str, path: str) -> None:
    with pytest.raises(SourceError, match="gives no video") as caught:
        open_source(f"http://{camera}/{path}")
    assert "\n" not in str(caught.value)


def test_a_host_that_does_not_listen_is_refused_with_the_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SourceError, match="Connection refused"):
            open_source(f"rtsp://u:s3cret@127.0.0.1:{unused.getsockname()[1]}/cam")


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_host_that_says_nothing_is_refused_in_time(scheme: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(SourceError, match=r"takes the connection, but gives no video within 0\.3 s"):
            open_source(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/cam", SourceOptions(open_timeout_s=0.3))
        # OpenCV's own time-out is 30 s.
        assert time.monotonic() - start < 20


def test_a_name_that_is_not_resolved_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(live.socket, "getaddrinfo", lambda *args, **options: answered.wait(30))
    with pytest.raises(SourceError, match=r"no connection to cam\.lan \(its name is not resolved within 0\.1 s\)"):
        open_source("rtsp://u:s3cret@cam.lan/x", SourceOptions(open_timeout_s=0.1))
    answered.set()


def test_a_second_address_is_tried(camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def both(host: str, port: int, **options: Any) -> list[Any]:
        return [*resolve("::1", port, **options), *resolve(host, port, **options)]

    monkeypatch.setattr(live.socket, "getaddrinfo", both)
    with open_source(f"http://{camera}/cam") as source:
        assert source.live


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gopher://x/y", "unknown scheme 'gopher'"),
        ("http:///x", "names no host"),
        ("tcp://localhost", "names no port"),
        ("http://host:port/", "no valid URL"),
        ("rtsp://host:99999/", "no valid URL"),
        ("rtsp://nosuchhost.invalid/", "no connection to nosuchhost.invalid"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(url)


@pytest.mark.parametrize("device", ["97", "/dev/video97"])
def test_a_camera_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(SourceError, match=r"no camera at /dev/video97; found "):
        open_source(device)


def test_the_cameras_that_are_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Path("/dev/video10"), Path("/dev/video2")]
    monkeypatch.setattr(usb.Path, "glob", lambda self, pattern: iter(found))
    with pytest.raises(SourceError, match="found /dev/video2, /dev/video10"):
        open_source("97")


def test_no_permission_for_a_camera_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb.os.path, "exists", lambda path: True)
    monkeypatch.setattr(usb.os, "access", lambda path, mode: False)
    with pytest.raises(SourceError, match="usermod -aG video"):
        open_source("0")


@pytest.fixture
def rtsp() -> Iterator[RtspCamera]:
    try:
        camera = RtspCamera()
    except NoRtspServerError as error:
        pytest.skip(str(error))
    with camera:
        yield camera


def test_an_rtsp_camera_is_live_and_lost_when_it_is_killed(rtsp: RtspCamera) -> None:
    with open_source(rtsp.url) as source:
        assert (source.live, source.fps, source.size_wh) == (True, 15.0, (160, 120))
        count = 0
        with pytest.raises(SourceLostError):
            for frame in source:
                assert frame.image.shape == (120, 160, 3)
                count += 1
                if count == 10:
                    rtsp.kill()
    assert count >= 10
    with pytest.raises(SourceError, match="Connection refused"):
        open_source(rtsp.url)


def test_the_time_of_an_rtsp_frame_is_that_of_its_beginning() -> None:
    try:
        camera = RtspCamera((640, 360), fps=4, clock=True)
    except NoRtspServerError as error:
        pytest.skip(str(error))
    with camera, open_source(camera.url) as source:
        frames = list(itertools.islice(source, 9))
    late_s = [frame.captured_s - drawn_s(frame.image) for frame in frames]
    # FFmpeg gives it a quarter of a second later, with the next one.
    assert abs(float(np.median(late_s))) < 0.125
    assert [b.captured_s > a.captured_s for a, b in itertools.pairwise(frames)] == [True] * 8


def test_an_rtsp_path_that_is_wrong_is_refused(rtsp: RtspCamera) -> None:
    with pytest.raises(SourceError, match="gives no video"):
        open_source(rtsp.url.replace("/cam", "/other"))


def test_rtsp_goes_over_tcp_unless_udp_is_asked_for(rtsp: RtspCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", raising=False)
    with open_source(rtsp.url) as source:
        assert (rtsp.said(), next(iter(source)).size_wh) == ("setup tcp", (160, 120))
    with open_source(rtsp.url, SourceOptions(transport="udp")) as source:
        assert (rtsp.said(), next(iter(source)).size_wh) == ("setup udp", (160, 120))
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ
    with open_source(rtsp.url) as source:
        assert rtsp.said() == "setup tcp"


def test_a_users_own_ffmpeg_options_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "fflags;nobuffer")
    with live._transport("udp", "cam", 1.0), live._transport("udp", "cam", 1.0):
        assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "fflags;nobuffer|rtsp_transport;udp"
        with pytest.raises(SourceError, match="cam: another stream has been opening for too long"):
            live._transport("tcp", "cam", 0.02).__enter__()
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "fflags;nobuffer"
    with live._transport("tcp", "cam", 0.02):
        assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "fflags;nobuffer"


def test_a_stream_that_one_thread_cannot_decode_is_opened_again(
    rtsp: RtspCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_heavy", set())
    opened: list[list[int]] = []
    capture = cv2.VideoCapture

    def spy(url: str, backend: int, wanted: list[int]) -> Any:
        opened.append(wanted)
        return capture(url, backend, wanted)

    monkeypatch.setattr(live.cv2, "VideoCapture", spy)
    monkeypatch.setattr(live.StreamSource, "_saturated", lambda self: self.captured == 3)
    with open_source(rtsp.url) as source:
        frames = [frame.index for frame, _ in zip(source, range(6), strict=False)]
    assert frames == list(range(6))
    with open_source(rtsp.url):
        pass
    assert [cv2.CAP_PROP_N_THREADS in wanted for wanted in opened] == [True, False, False]


def test_a_thread_that_only_computes_is_saturated(camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"monotonic": 0.0, "thread_time": 0.0}
    for name in clock:
        monkeypatch.setattr(live.time, name, lambda name=name: clock[name])

    def after(seconds: float, computed: float) -> bool:
        clock["monotonic"] += seconds
        clock["thread_time"] += computed
        return bool(source._saturated())

    with open_source(f"http://{camera}/clip.mp4") as source:
        assert [after(1, 1), after(2.5, 2.45), after(3.5, 1), after(1, 1), after(1, 1), after(1.5, 1.5)] == [
            False,
            True,
            False,
            False,
            False,
            True,
        ]


class Backlog:
    """A capture in which old frames wait: grabbing them takes no time, the first new one does."""

    def __init__(self, old: int) -> None:
        self.old, self.grabbed = old, 0

    def get(self, key: int) -> float:
        return 10.0

    def grab(self) -> bool:
        self.grabbed += 1
        if self.grabbed > self.old:
            time.sleep(0.08)
        return True


def test_old_frames_of_a_stream_are_passed_over() -> None:
    backlog = Backlog(30)
    live._skip_backlog(backlog)
    assert backlog.grabbed == 31
    endless = Backlog(1_000_000_000)
    live._skip_backlog(endless)  # frames that come faster than they say do not hold it up
    assert endless.grabbed > 31
