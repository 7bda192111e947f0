"""`edge detect` and `edge classify` on cameras that go away, come back, hang, and on what their flags ask for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures import paint, tiny_classifier, tiny_detector
from media import film, frames_of, picture
from mjpeg import MjpegCamera
from rtsp import NoRtspServerError, RtspCamera
from typer.testing import CliRunner

from edge.cli.app import app
from edge.cli.options import give_up_s
from edge.errors import InputError

WAIT_S = 60
RED = paint([("red", 0, 0)])


class Running:
    """An `edge detect` in a process of its own."""

    def __init__(self, model: Path, out: Path, *words: object, command: str = "detect") -> None:
        self.out = out
        line = [sys.executable, "-m", "edge", command, "-m", str(model), "--json", str(out), "-q", *map(str, words)]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def rows(self) -> list[dict[str, Any]]:
        text = self.out.read_text() if self.out.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.05)

    def more(self, count: int = 20) -> None:
        wanted = len(self.rows()) + count
        self.until(lambda: len(self.rows()) >= wanted)

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, list[str]]:
        """Send a signal, wait for the end, and return the exit code and the lines on stderr."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=WAIT_S)
        assert self.process.args and out == ""
        return self.process.returncode, err.splitlines()


def without_reasons(lines: list[str]) -> list[str]:
    """Leave out the lines that tell a further reason of an outage; one is told once."""
    further = [line for line in lines if ": still offline: " in line]
    assert len(further) == len(set(further)) and all(line.startswith("edge: WARNING: ") for line in further)
    return [line for line in lines if line not in further]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector().save(tmp_path_factory.mktemp("model") / "tiny.tflite")


@pytest.fixture
def detect(model: Path, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*words: object, **options: Any) -> Running:
        started.append(Running(model, tmp_path / "out.jsonl", *words, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera(RED) as camera:
        yield camera


def test_a_camera_comes_back_with_one_line_each_way(detect, camera: MjpegCamera) -> None:
    run = detect("-s", camera.url)
    run.more()
    camera.stop()
    time.sleep(0.5)
    seen = len(run.rows())
    camera.image = paint([("blue", 1, 1)], (160, 96))
    camera.start()
    run.until(lambda: len(run.rows()) >= seen + 20)
    code, lines = run.end()
    assert code == 130
    lines = without_reasons(lines)
    assert [line.split(": ", 1)[0] for line in lines] == ["edge"] * 3
    assert f"WARNING: {camera.url}: offline: " in lines[0]
    assert f"WARNING: {camera.url}: back after " in lines[1]
    assert lines[2] == "edge: interrupted"
    rows = run.rows()
    indices = [row["frame"] for row in rows]
    assert indices == sorted(set(indices))
    assert [rows[n]["detections"][0]["name"] for n in (0, -1)] == ["red", "blue"]


def test_without_patience_a_lost_camera_ends_the_run(detect, camera: MjpegCamera) -> None:
    run = detect("-s", camera.url, "--give-up", 0)
    run.more()
    camera.stop()
    code, lines = run.end(None)
    (line,) = lines
    assert (code, line.startswith(f"edge: {camera.url}: the source stopped delivering after ")) == (3, True)
    assert all(row["detections"][0]["name"] == "red" for row in run.rows())


def test_a_camera_that_does_not_come_back_is_given_up(detect, camera: MjpegCamera) -> None:
    run = detect("-s", camera.url, "--give-up", 1)
    run.more()
    camera.stop()
    code, lines = run.end(None)
    assert code == 3
    lines = without_reasons(lines)
    assert len(lines) == 2 and lines[1].endswith("; it did not come back within 1 s")


def test_a_stop_does_not_wait_for_a_camera_that_is_away(detect, camera: MjpegCamera) -> None:
    run = detect("-s", camera.url, "--give-up", "inf")
    run.more()
    camera.stop()
    time.sleep(1)
    code, lines = run.end()
    assert any("still offline: no connection to 127.0.0.1" in line for line in lines)
    lines = without_reasons(lines)
    assert (code, len(lines), lines[-1]) == (130, 2, "edge: interrupted")


def test_a_stop_does_not_wait_for_a_call_that_hangs(detect, tmp_path: Path) -> None:
    try:
        camera = RtspCamera()
    except NoRtspServerError as error:
        pytest.skip(str(error))
    with camera:
        video = tmp_path / "out.mp4"
        # Longer than this test waits for anything.
        run = detect("-s", camera.url, "--read-timeout", 900, "--save", video)
        run.more()
        camera.freeze()
        time.sleep(1)
        code, lines = run.end()
    assert (code, lines) == (130, ["edge: interrupted"])
    assert len(run.rows()) >= 20
    assert len(frames_of(video)) >= 20


def test_a_dead_camera_of_a_list_does_not_disturb_the_other(detect, camera: MjpegCamera, tmp_path: Path) -> None:
    with MjpegCamera(RED) as other:
        (tmp_path / "all.streams").write_text(f"# two\n{camera.url}\n{other.url}\n")
        run = detect("-s", tmp_path / "all.streams")

        def rows(of: MjpegCamera) -> int:
            return sum(row["source"] == of.url for row in run.rows())

        run.until(lambda: rows(camera) >= 5 and rows(other) >= 5)
        other.stop()
        time.sleep(0.5)
        dead, alive = rows(other), rows(camera)
        run.until(lambda: rows(camera) >= alive + 20)
        assert rows(other) <= dead + 5
        assert run.end()[0] == 130


def test_a_camera_that_is_not_there_at_the_start_is_an_error(model: Path) -> None:
    result = CliRunner().invoke(app, ["detect", "-m", str(model), "-s", "http://127.0.0.1:9/x"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "Connection refused" in result.stderr


def test_flags_change_what_is_looked_at(model: Path, tmp_path: Path) -> None:
    video = film(tmp_path / "a.mkv", (paint([("red", 0, 0)]) for _ in range(24)), 12, (128, 96), "FFV1")

    def run(*words: str) -> tuple[list[int], list[int]]:
        result = CliRunner().invoke(app, ["detect", "-m", str(model), "-s", str(video), "--json", "-", "-q", *words])
        assert result.exit_code == 0, result.output
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        return [row["frame"] for row in rows], [round(v) for v in rows[0]["detections"][0]["box"].values()]

    assert run() == (list(range(24)), [0, 0, 32, 32])
    assert run("--every", "8", "--flip", "horizontal") == ([0, 8, 16], [96, 0, 128, 32])
    assert run("--max-fps", "6", "--rotate", "180") == (list(range(0, 24, 2)), [96, 64, 128, 96])


def test_a_thinned_video_plays_as_long_as_its_source(model: Path, tmp_path: Path) -> None:
    video = film(tmp_path / "a.mkv", (RED for _ in range(24)), 12, (128, 96), "FFV1")
    out = tmp_path / "out.mp4"
    words = ["detect", "-m", str(model), "-s", str(video), "--save", str(out), "--every", "3"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "16 left out as asked" in result.stderr
    capture = cv2.VideoCapture(str(out))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (4, 8)


def test_the_classifier_takes_the_flags_too(tmp_path: Path) -> None:
    model = tiny_classifier().save(tmp_path / "c.tflite")
    half = np.zeros((96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), half)
    for number in range(4):
        picture(tmp_path / "in" / f"{number}.png")
    words = ["classify", "-m", str(model), "-s", str(tmp_path / "in"), "--every", "2", "--rotate", "90", "-q"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--camera-size", "big"], "--camera-size 'big': expected width x height"),
        (["--camera-fps", "0"], "--camera-fps 0: expected a number above 0"),
        (["--camera-format", "MP"], "--camera-format 'MP': expected the four letters"),
        (["--every", "0"], "--every 0"),
        (["--max-fps", "-1"], "--max-fps -1"),
        (["--open-timeout", "nan"], "--open-timeout nan"),
        (["--read-timeout", "inf"], "--read-timeout inf"),
        (["--give-up", "never"], "--give-up 'never': expected seconds, 0 or inf"),
        (["--rotate", "45"], "'45' is not one of"),
        (["--flip", "left"], "'left' is not one of"),
        (["--transport", "sctp"], "'sctp' is not one of"),
    ],
)
def test_flags_out_of_range_are_one_line(model: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    image = picture(tmp_path / "a.png")
    result = CliRunner().invoke(app, ["detect", "-m", str(model), "-s", str(image), *flags])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("edge: ") and said in line


def test_how_long_to_try() -> None:
    assert (give_up_s("60"), give_up_s("0"), give_up_s("2.5"), give_up_s("inf")) == (60.0, 0.0, 2.5, None)
    for text in ("", "-1", "nan", "soon"):
        with pytest.raises(InputError, match="--give-up"):
            give_up_s(text)
