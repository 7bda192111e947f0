"""The window, on a display in memory where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from media import result

from edge.errors import OutputError
from edge.sinks import Overlay
from edge.sinks.window import WindowSink, window_problem


def sink() -> WindowSink:
    return WindowSink(Overlay(()), lambda: None, lambda: True)


@pytest.mark.parametrize("display", ["", ":4711", "localhost:4711", ":4711.0"])
def test_without_a_display_it_is_one_line(monkeypatch: pytest.MonkeyPatch, display: str) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("edge.sinks.window.cv2.getBuildInformation", lambda: "  GUI:   QT5\n")
    with pytest.raises(OutputError, match=r"--show: .*use --save") as caught:
        sink()
    assert "\n" not in str(caught.value)
    assert display in str(caught.value)


def test_an_opencv_without_windows_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edge.sinks.window.cv2.getBuildInformation", lambda: "  GUI:                NONE\n    GTK+: NO\n"
    )
    with pytest.raises(OutputError, match="opencv-python-headless"):
        sink()


@pytest.fixture
def display() -> Iterator[str]:
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        pytest.skip("no Xvfb: install Debian's package xvfb")
    read_end, write_end = os.pipe()
    command = [xvfb, "-displayfd", str(write_end), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write_end], stderr=subprocess.DEVNULL)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as numbers:
            yield f":{numbers.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def test_a_display_that_answers_is_no_problem(monkeypatch: pytest.MonkeyPatch, display: str) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr("edge.sinks.window.cv2.getBuildInformation", lambda: "  GUI:   QT5\n")
    assert window_problem() is None


def test_it_shows_a_frame_and_a_key_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = iter([-1, -1, ord("q")])
    shown: list[tuple[int, ...]] = []
    stops: list[int] = []
    monkeypatch.setattr("edge.sinks.window.window_problem", lambda: None)
    monkeypatch.setattr("edge.sinks.window.cv2.namedWindow", lambda *a: None)
    monkeypatch.setattr("edge.sinks.window.cv2.resizeWindow", lambda *a: None)
    monkeypatch.setattr("edge.sinks.window.cv2.imshow", lambda title, image: shown.append(image.shape))
    monkeypatch.setattr("edge.sinks.window.cv2.waitKey", lambda ms: next(keys))
    monkeypatch.setattr("edge.sinks.window.cv2.getWindowProperty", lambda *a: 1.0)
    monkeypatch.setattr("edge.sinks.window.cv2.destroyAllWindows", lambda: shown.append(()))
    window = WindowSink(Overlay(()), lambda: stops.append(1), lambda: False)
    window.write(result(0))
    window.write(result(1))
    assert not stops
    window.write(result(2))
    assert stops == [1]
    window.close()
    window.close()
    assert shown == [(48, 64, 3)] * 3 + [()]
