"""Reloads under load: `edge run` gets a new configuration 200 times, every fifth of them a bad one.

    python benchmarks/reloads.py --times 200

One Motion JPEG camera is in every configuration and must not miss a frame because of a reload; others come, go and
change. Prints what the untouched camera saw, how long a reload took, and what grew.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from soak import free_port, sample

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from mjpeg import MjpegCamera  # noqa: E402


def text(turn: int, url: str, http: int) -> str:
    """Return the configuration of a turn."""
    lines = [f'[service]\nhttp = "127.0.0.1:{http}"', '[models.default]\n[models.second]\npath = "edge-yolo-n-int8"']
    lines.append(f'[cameras.kept]\nsource = "{url}"\nmodel = "default"')
    if turn % 2:
        lines.append(f'[cameras.guest]\nsource = "{url}"\nconf = 0.{1 + turn % 9}')
    if turn % 3 == 0:
        lines.append(f'[cameras.other]\nsource = "{url}"\nmodel = "second"')
    if turn % 5 == 4:
        lines.append("[cameras.bad]\nsorce = 0" if turn % 2 else "this is no TOML")
    return "\n".join(lines)


def main() -> None:
    """Reload and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    times = parser.parse_args().times
    http = free_port()

    def status() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/status", timeout=10) as answer:
            return dict(json.load(answer))

    with tempfile.TemporaryDirectory() as folder, MjpegCamera(fps=15) as camera:
        config = Path(folder, "edge.toml")
        config.write_text(text(0, camera.url, http))
        with open(Path(folder, "log"), "wb") as log:
            edge = subprocess.Popen([sys.executable, "-m", "edge", "run", str(config)], stderr=log)
        try:
            took, rows = [], []
            while True:
                try:
                    if any(camera["results"] > 15 for camera in status()["cameras"]):
                        break
                except OSError:
                    pass
                time.sleep(0.2)
            for turn in range(1, times + 1):
                before = status()["config"]
                config.write_text(text(turn, camera.url, http))
                start = time.monotonic()
                edge.send_signal(signal.SIGHUP)
                while (now := status()["config"]) == before:
                    time.sleep(0.01)
                took.append((time.monotonic() - start) * 1e3)
                assert (now["refused"] > before["refused"]) == (turn % 5 == 4), now
                if turn % max(1, times // 20) == 0:
                    rows.append(sample(edge.pid))
            kept = status()["cameras"][0]
            end = status()
        finally:
            edge.terminate()
            code = edge.wait(20)
        said = Path(folder, "log").read_text()
    print(f"{end['config']['reloads']} taken, {end['config']['refused']} refused, exit code {code}")
    print(f"reload: median {statistics.median(took):.0f} ms, longest {max(took):.0f} ms")
    print(f"untouched camera: {kept['results']} results of {kept['frames']} frames, {kept['outages']} outages")
    for key in ("rss_mb", "threads", "fds"):
        half = -(-len(rows) // 2)
        first, last = (statistics.median(row[key] for row in part) for part in (rows[:half], rows[-half:]))
        print(f"{key}: median of the first half {first:.1f}, of the second {last:.1f}")
    print("rss_mb:", " ".join(f"{row['rss_mb']:.0f}" for row in rows))
    print("traceback!" if "Traceback" in said else "no traceback")


if __name__ == "__main__":
    main()
