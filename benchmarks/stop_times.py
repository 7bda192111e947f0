"""Seconds from SIGTERM to the end of `edge run`, by what it is doing: ``python benchmarks/stop_times.py``."""

from __future__ import annotations

import argparse
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from c_delegate import build_delegate  # noqa: E402
from fixtures import tiny_detector  # noqa: E402
from mjpeg import MjpegCamera  # noqa: E402

ROUNDS = 5


def stop_s(folder: Path, source: str, wait_s: float, model: str = "", act: object = None) -> float:
    """Run a configuration, wait, and return the seconds that its end took."""
    config = folder / "edge.toml"
    sinks = '[sinks.a]\nkind = "json"\npath = "a.jsonl"\n[sinks.v]\nkind = "record"\npath = "v"\n'
    config.write_text(f'[models.m]\n{model}\n[cameras.c]\nsource = "{source}"\n{sinks}')
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "edge", "run", str(config)], stderr=log)
    time.sleep(wait_s)
    if callable(act):
        act()
        time.sleep(1.0)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    took = time.monotonic() - start
    said = (folder / "log").read_text()
    # Before it has begun, nothing catches the signal, and nothing is lost.
    if code not in (0, -signal.SIGTERM) or "Traceback" in said:
        sys.exit(f"exit code {code}: {said}")
    return took


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name, MjpegCamera(fps=15) as camera, socket.socket() as silent:
        folder = Path(name)
        library = build_delegate(folder)
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        tiny_detector().save(folder / "m.tflite")
        hanging = f'path = "m.tflite"\ndelegate = "{library}?fail=hang&after=20"'
        states = {
            "frames come": lambda: stop_s(folder, camera.url, 4),
            "the server refuses": lambda: stop_s(folder, "rtsp://127.0.0.1:9/x", 4),
            "the server takes the connection and is silent": lambda: stop_s(folder, mute, 4),
            "the camera has frozen": lambda: stop_s(folder, camera.url, 4, act=camera.freeze),
            "an inference hangs": lambda: stop_s(folder, camera.url, 5, hanging),
            "the model is being loaded": lambda: stop_s(folder, camera.url, 0.9),
        }
        print("| at SIGTERM | median s | longest s |\n|---|---|---|")
        for state, measure in states.items():
            times = []
            for _ in range(ROUNDS):
                camera.start()
                times.append(measure())
            print(f"| {state} | {statistics.median(times):.2f} | {max(times):.2f} |", flush=True)


if __name__ == "__main__":
    main()
