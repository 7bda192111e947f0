"""`edge run` as a process: signals, reloads, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures import paint, tiny_detector
from media import film
from mjpeg import MjpegCamera

WAIT_S = 60
RED = paint([("red", 0, 0)])


class Service:
    """A running `edge run`, and what it says."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge", "run", "edge.toml"],
            cwd=folder,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(environment or {})},
        )

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.05)

    def says(self, text: str, times: int = 1) -> None:
        self.until(lambda: self.said.count(text) >= times)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def make(**environment: str) -> Service:
        services.append(Service(tmp_path, environment))
        return services[-1]

    yield make
    for service in services:
        service.close()


@pytest.fixture
def cam() -> Iterator[MjpegCamera]:
    with MjpegCamera(RED) as camera:
        yield camera


def write(folder: Path, cameras: dict[str, str], extra: str = "") -> None:
    if not (folder / "m.tflite").exists():
        tiny_detector().save(folder / "m.tflite")
    text = '[models.m]\npath = "m.tflite"\n[sinks.log]\nkind = "json"\npath = "{camera}.jsonl"\nflush_s = 0\n'
    text += "".join(f'[cameras.{name}]\nsource = "{url}"\n' for name, url in cameras.items())
    # As an editor does it: the file is never half there.
    (folder / "edge.toml.new").write_text(text + extra)
    os.replace(folder / "edge.toml.new", folder / "edge.toml")


def lines(folder: Path, camera: str) -> list[dict[str, Any]]:
    path = folder / f"{camera}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_it_runs_until_it_is_told_to_stop(tmp_path: Path, start: Callable[..., Service], cam: MjpegCamera) -> None:
    write(tmp_path, {"front": cam.url, "away": "rtsp://user:s3cret@127.0.0.1:9/x"})
    service = start()
    service.until(lambda: len(lines(tmp_path, "front")) >= 5)
    assert service.end() == 0
    assert {line["camera"] for line in lines(tmp_path, "front")} == {"front"}
    said = service.said
    assert "away" in said and "Connection refused" in said and "stopped" in said
    assert "s3cret" not in said and "Traceback" not in said


def test_ctrl_c_is_an_interrupt(tmp_path: Path, start: Callable[..., Service], cam: MjpegCamera) -> None:
    write(tmp_path, {"front": cam.url})
    service = start()
    service.until(lambda: lines(tmp_path, "front"))
    assert service.end(signal.SIGINT) == 130
    assert "Traceback" not in service.said


def test_files_are_read_to_their_end(tmp_path: Path, start: Callable[..., Service]) -> None:
    film(tmp_path / "v.mp4", (RED for _ in range(25)), size_wh=(128, 96))
    write(tmp_path, {"v": "v.mp4"})
    service = start()
    assert service.process.wait(WAIT_S) == 0, service.said
    assert [line["frame"] for line in lines(tmp_path, "v")] == list(range(25))


def test_a_changed_file_is_taken_and_a_bad_one_refused(
    tmp_path: Path, start: Callable[..., Service], cam: MjpegCamera
) -> None:
    write(tmp_path, {"a": cam.url})
    service = start()
    service.until(lambda: lines(tmp_path, "a"))
    write(tmp_path, {"a": cam.url, "b": cam.url})
    service.until(lambda: lines(tmp_path, "b"))
    write(tmp_path, {"a": cam.url}, "[cameras.b]\nsorce = '0'\n")
    service.says("did you mean source?")
    seen = len(lines(tmp_path, "b"))
    service.until(lambda: len(lines(tmp_path, "b")) > seen + 3)
    write(tmp_path, {"a": cam.url})
    service.process.send_signal(signal.SIGHUP)
    service.says("configuration reloaded: 1 cameras go on, 0 started, 1 ended")
    assert service.end() == 0
    frames = [line["frame"] for line in lines(tmp_path, "a")]
    assert frames == sorted(set(frames))


def test_a_bad_configuration_is_one_line_and_check_lists_all(tmp_path: Path) -> None:
    write(tmp_path, {"a": "0"}, "[cameras.b]\nsorce = '0'\n[service]\nlogg = 'json'\n")

    def edge(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge", "run", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    one = edge()
    assert (one.returncode, one.stdout, one.stderr.count("\n")) == (2, "", 1)
    checked = edge("edge.toml", "--check")
    assert checked.returncode == 2
    assert "sorce: unknown key" in checked.stderr and "logg: unknown key" in checked.stderr
    assert edge("nowhere.toml").stderr.startswith("edge: nowhere.toml: ")
    write(tmp_path, {"a": "0"})
    assert edge("--check").returncode == 0


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path, start: Callable[..., Service]) -> None:
    write(tmp_path, {"a": "0"})
    (tmp_path / "m.tflite").write_bytes(b"this is no model, whatever its name says")
    service = start()
    assert service.process.wait(WAIT_S) == 2
    assert "models.m: " in service.said and "not a TFLite model" in service.said and "Traceback" not in service.said


def test_systemd_is_told(tmp_path: Path, start: Callable[..., Service], cam: MjpegCamera) -> None:
    write(tmp_path, {"a": cam.url})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(WAIT_S)
        service = start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000")
        said = ""
        while "WATCHDOG=1" not in said:
            said += listener.recv(4096).decode() + "\n"
        assert "READY=1" in said and said.index("READY=1") < said.index("WATCHDOG=1")
        write(tmp_path, {"a": cam.url, "b": cam.url})
        while "RELOADING=1" not in said:
            said += listener.recv(4096).decode() + "\n"
        while said.count("READY=1") < 2:
            said += listener.recv(4096).decode() + "\n"
        service.process.terminate()
        while "STOPPING=1" not in said:
            said += listener.recv(4096).decode() + "\n"
    assert service.process.wait(WAIT_S) == 0


def test_health_and_metrics(tmp_path: Path, start: Callable[..., Service], cam: MjpegCamera) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    write(tmp_path, {"a": cam.url}, f'[service]\nhttp = "127.0.0.1:{port}"\n')
    service = start()
    service.until(lambda: lines(tmp_path, "a"))

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_S) as answer:
            return str(answer.read().decode())

    assert get("/healthz") and get("/readyz")
    assert 'camera="a"' in get("/metrics")
    assert json.loads(get("/status"))["cameras"][0]["state"] == "online"
    assert service.end() == 0
