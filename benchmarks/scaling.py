"""Many cameras in one process: total frames a second of 1, 2, 4 and 8 file cameras, and memory per live camera.

``python benchmarks/scaling.py --video CLIP``. Rounds are interleaved; a live camera is a Motion JPEG server on this
machine that sends frames of 768 x 432. The sum over the cameras should not depend on how many there are; they read the
same number of frames together.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from soak import free_port, sample

COUNTS = (1, 2, 4, 8)
ROOT = Path(__file__).parents[1]


def file_cameras(count: int, video: Path, frames: int, folder: Path) -> float:
    """Return the frames a second that so many cameras give together, each reading its share of copies of the clip."""
    copies = max(COUNTS)
    for i in range(copies):
        link = folder / str(count) / f"c{i % count}" / f"{i}{video.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(video)
    script = f"""
import json, time
from pathlib import Path
from edge.config.load import LoadedConfig
from edge.config.schema import CameraConfig, Config
from edge.runner.runner import Runner
cameras = {{f"c{{i}}": CameraConfig(source={str(folder / str(count))!r} + f"/c{{i}}") for i in range({count})}}
runner = Runner(LoadedConfig(Path("edge.toml"), Config(cameras=cameras)))
runner.start()
start = time.perf_counter()
while not runner.ended:
    time.sleep(0.01)
took = time.perf_counter() - start
results = sum(camera.results for camera in runner.status().cameras)
runner.stop()
print(json.dumps([results, took]))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    results, took = json.loads(done.stdout.splitlines()[-1])
    if results != copies * frames:
        sys.exit(f"{count} cameras gave {results} results, expected {copies * frames}")
    return float(results / took)


def live_memory_mb(count: int, port: int, folder: Path) -> float:
    """Return the resident memory of a service with so many live cameras."""
    text = "".join(f'[cameras.c{i}]\nsource = "http://127.0.0.1:{port}/cam"\n' for i in range(count))
    config = folder / "edge.toml"
    config.write_text(f"[models.m]\ninterpreters = 2\nthreads = 1\n{text}")
    process = subprocess.Popen([sys.executable, "-m", "edge", "run", str(config)], stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        time.sleep(12)
        return statistics.median(sample(process.pid)["rss_mb"] for _ in range(5))
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure and print."""
    import cv2

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    video = arguments.video.resolve()
    capture = cv2.VideoCapture(str(video))
    frames = 0
    while capture.grab():
        frames += 1
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for count in COUNTS:
                rates[count].append(file_cameras(count, video, frames, Path(folder)))
    print("| cameras | frames/s together, median (least-most) | of one camera's |\n|---|---|---|")
    one = statistics.median(rates[1])
    for count, values in rates.items():
        middle = statistics.median(values)
        print(f"| {count} | {middle:.0f} ({min(values):.0f}-{max(values):.0f}) | {middle / one:.2f} |")
    port = free_port()
    server = [sys.executable, str(ROOT / "tests/mjpeg.py"), "768", "432", "--port", str(port), "--fps", "5"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(server, stdout=subprocess.DEVNULL) as camera:
        try:
            memory = {count: live_memory_mb(count, port, Path(folder)) for count in COUNTS}
        finally:
            camera.kill()
    print("\n| live cameras | resident MB | MB per added camera |\n|---|---|---|")
    for count, used in memory.items():
        added = f"{(used - memory[1]) / (count - 1):.1f}" if count > 1 else "-"
        print(f"| {count} | {used:.0f} | {added} |")


if __name__ == "__main__":
    main()
