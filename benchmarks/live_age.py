"""How old is a frame when its detections are ready? Cameras that carry the time in their pixels, and a slow model.

    python benchmarks/live_age.py [--seconds 20] [--json FILE]

Serves RTSP (GStreamer, H.264, in a process of its own) and Motion JPEG on 127.0.0.1. The age is the time between the
drawing of the picture in the camera and the end of the inference, on one clock; encoding, network and decoding are in
it. Printed beside it: one and a half intervals between frames plus the inference, and how much older the frames of the
last third are than those of the first.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mjpeg import MjpegCamera  # noqa: E402
from rtsp import CLOCK_BITS, NoRtspServerError, RtspCamera, drawn_s  # noqa: E402

from edge.detections import Detections  # noqa: E402
from edge.pipeline import Pipeline  # noqa: E402
from edge.sources import open_source  # noqa: E402
from edge.sources.reconnect import ReconnectingSource  # noqa: E402

SIZE_WH = (640, 360)


class MjpegClock(MjpegCamera):
    """Draws the time into each picture when it is sent."""

    @property
    def image(self) -> Any:
        """The picture of now."""
        ticks = int(time.monotonic() * 1e4)
        bits = np.array([235 if ticks >> bit & 1 else 16 for bit in range(CLOCK_BITS)], np.uint8)
        row = np.repeat(bits, SIZE_WH[0] // CLOCK_BITS)
        return np.broadcast_to(row[None, :, None], (SIZE_WH[1], SIZE_WH[0], 3)).copy()

    @image.setter
    def image(self, value: Any) -> None:
        pass


def measure(url: str, seconds: float, model_ms: float) -> tuple[list[float], int]:
    """Return the ages in milliseconds, in order, and how many frames were dropped."""
    ages: list[float] = []

    def infer(image: Any) -> tuple[Detections, dict[str, float]]:
        time.sleep(model_ms / 1e3)
        ages.append((time.monotonic() - drawn_s(image)) * 1e3)
        return Detections.empty(), {"invoke": model_ms}

    source = ReconnectingSource(url, opened=open_source(url))
    # A model takes its time to load, and the camera does not wait for it.
    time.sleep(2)
    pipeline = Pipeline(infer)
    timer = threading.Timer(seconds, lambda: (pipeline.stop(), source.interrupt()))
    timer.start()
    stats = pipeline.run([source])
    return ages, stats.dropped


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model-ms", type=float, nargs="+", default=[150.0, 20.0])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    print(
        f"{'camera':<8}{'fps':>4}{'model ms':>9}{'p50':>7}{'p95':>7}{'max':>7}{'bound':>7}"
        f"{'growth':>8}{'frames':>8}{'dropped':>8}"
    )
    for model_ms in asked.model_ms:
        for kind in ("rtsp", "mjpeg"):
            for fps in (5, 15, 30):
                try:
                    camera: Any = RtspCamera(SIZE_WH, fps, clock=True) if kind == "rtsp" else MjpegClock(fps=fps)
                except NoRtspServerError as error:
                    print(f"{kind}: {error}")
                    break
                with camera:
                    ages, dropped = measure(camera.url, asked.seconds, model_ms)
                third = len(ages) // 3
                row = {
                    "camera": kind,
                    "fps": fps,
                    "model_ms": model_ms,
                    "p50_ms": float(np.percentile(ages, 50)),
                    "p95_ms": float(np.percentile(ages, 95)),
                    "max_ms": float(np.max(ages)),
                    "bound_ms": 1500 / fps + model_ms,
                    "growth_ms": float(np.median(ages[-third:]) - np.median(ages[:third])),
                    "frames": len(ages),
                    "dropped": dropped,
                }
                rows.append(row)
                print(
                    f"{kind:<8}{fps:>4}{model_ms:>9.0f}{row['p50_ms']:>7.0f}{row['p95_ms']:>7.0f}{row['max_ms']:>7.0f}"
                    f"{row['bound_ms']:>7.0f}{row['growth_ms']:>+8.1f}{len(ages):>8}{dropped:>8}",
                    flush=True,
                )
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1))
    late = [row for row in rows if row["p95_ms"] > row["bound_ms"]]
    print(f"{len(rows) - len(late)} of {len(rows)} within the bound")


if __name__ == "__main__":
    main()
