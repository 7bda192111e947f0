"""What is tried with a V4L2 camera inside the virtual machine; prints a line RESULT NAME JSON for each."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] if len(sys.argv) < 2 else Path(sys.argv[1])
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fixtures import tiny_detector  # noqa: E402

from edge.errors import SourceError  # noqa: E402
from edge.sources import SourceOptions, open_source  # noqa: E402
from edge.sources.reconnect import Backoff, ReconnectingSource  # noqa: E402

LINK = Path("/dev/v4l/by-id/usb-Vivid_Camera-video-index0")
WAIT_S = 120

said: list[str] = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        said.append(record.getMessage())


def result(name: str, value: object) -> None:
    print("RESULT", name, json.dumps(value), flush=True)


def link_to(node: str) -> None:
    # What udev does on a machine that has it.
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(f"../../{node}")


def refusal(uri: str) -> str:
    try:
        open_source(uri).close()
    except SourceError as error:
        return str(error)
    return "it opens"


def options() -> None:
    asked = SourceOptions(size_wh=(640, 360), fps=30, format="YUYV", every=2)
    with open_source(str(LINK), asked) as source:
        frames = [frame for frame, _ in zip(source, range(5), strict=False)]
        result(
            "open",
            {
                "size_wh": source.size_wh,
                "fps": source.fps,
                "indices": [frame.index for frame in frames],
                "shape": frames[0].image.shape,
                "ages_s": [time.monotonic() - frame.captured_s for frame in frames[-1:]],
                "spread": int(frames[0].image.max()) - int(frames[0].image.min()),
                "said": list(said),
            },
        )
        result("busy", subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True).stdout.strip())
    said.clear()
    with open_source("0", SourceOptions(size_wh=(1234, 567), format="MJPG")) as source:
        result("other", {"size_wh": source.size_wh, "said": list(said)})
    result("side", refusal("/dev/video1"))


BUSY = f"""
import sys
sys.path[:0] = {sys.path!r}
from edge.sources import open_source
try:
    open_source("0")
    print("it opens")
except Exception as error:
    print(error)
"""


def replug() -> None:
    """Unplug the camera, and plug it in again, where it gets another number."""
    source = ReconnectingSource(str(LINK), backoff=Backoff(0.2, 1.0))
    frames: list[tuple[int, float]] = []

    def read() -> None:
        for frame in source:
            frames.append((frame.index, frame.timestamp_s))

    thread = threading.Thread(target=read)
    thread.start()

    def until(condition: object) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.05)

    until(lambda: len(frames) >= 10)
    subprocess.run(["v4l2-ctl", "-d", "/dev/video0", "-c", "disconnect=1"], check=True, capture_output=True)
    unplugged = time.monotonic()
    until(lambda: source.counters.state == "offline")
    noticed_s = time.monotonic() - unplugged
    reason = source.counters.last_error
    LINK.unlink()
    until(lambda: "there is no camera" in str(source.counters.last_error))
    subprocess.run(["/tmp/guest/busybox", "rmmod", "vivid"], check=True)
    subprocess.run(["/bin/sh", "/tmp/guest/replug"], check=True)
    link_to("video5")
    back = time.monotonic()
    before = len(frames)
    until(lambda: len(frames) >= before + 10)
    back_s = time.monotonic() - back
    source.interrupt()
    thread.join(WAIT_S)
    source.close()
    indices = [index for index, _ in frames]
    times = [time_s for _, time_s in frames]
    result(
        "replug",
        {
            "noticed_s": noticed_s,
            "reason": reason,
            "back_s": back_s,
            "outages": source.counters.outages,
            "reconnects": source.counters.reconnects,
            "in_order": indices == sorted(set(indices)) and times == sorted(times),
            "first": indices[0],
            "ended": not thread.is_alive(),
            "hanging": source.hanging,
        },
    )


def command() -> None:
    model = tiny_detector().save(Path("/tmp/tiny.tflite"))
    words = ["detect", "-m", str(model), "-s", str(LINK), "--json", "/tmp/out.jsonl", "--save", "/tmp/out.mp4", "-q"]
    process = subprocess.Popen([sys.executable, "-m", "edge", *words], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    out = Path("/tmp/out.jsonl")
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        if out.exists() and len(out.read_bytes().splitlines()) >= 10:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=WAIT_S)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    result(
        "command", {"code": process.returncode, "err": err, "rows": len(rows), "video": os.path.getsize("/tmp/out.mp4")}
    )


logging.getLogger("edge").addHandler(Keep())
link_to("video0")
options()
replug()
command()
