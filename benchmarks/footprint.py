"""What the runtime costs beside inference: import time, cold start to the first frame's result, resident memory.

    python benchmarks/footprint.py --model M.tflite --video V.mp4 [--rounds 9]

Every number comes from fresh processes, the rounds of the rows interleaved; medians with the range. The file cache
is warm after the first round, which is not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import edge

IMPORT = """
import time
start = time.perf_counter()
import edge.detector
print((time.perf_counter() - start) * 1e3)
"""

# As a user's script would do it; the start of Python itself is in the wall time.
FIRST = """
import sys
from edge.detector import Detector
from edge.sources import open_source
detector = Detector.load(sys.argv[1])
with open_source(sys.argv[2]) as source:
    detector.detect(next(iter(source)).image)
"""

# The high-water mark that the kernel keeps of a whole `edge detect` run on the video.
RESIDENT = """
import resource, subprocess, sys
model, source, out = sys.argv[1:]
command = [sys.executable, "-m", "edge", "detect", "--model", model, "--source", source, "--json", out, "--quiet"]
subprocess.run(command, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def wall_ms(code: str, *arguments: str) -> float:
    """Run code in a fresh interpreter and return how long the process took in ms."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    return (time.perf_counter() - start) * 1e3


def printed(code: str, *arguments: str) -> float:
    """Run code in a fresh interpreter and return the number that it prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    model, video = str(options.model), str(options.video)
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds + 1):
            measured = {
                "python -c pass, ms": wall_ms("pass"),
                "import edge.detector, ms": printed(IMPORT),
                "start of the process to first result, ms": wall_ms(FIRST, model, video),
                "peak resident memory of edge detect, MB": printed(RESIDENT, model, video, f"{folder}/{number}.jsonl"),
            }
            if number:
                for name, value in measured.items():
                    rows.setdefault(name, []).append(value)
    print(f"edge {edge.__version__}, Python {platform.python_version()}, {platform.machine()}, {options.model.name}")
    print(f"{'':46} {'median':>8} {'least':>8} {'most':>8}   ({options.rounds} rounds)")
    for name, values in rows.items():
        print(f"{name:46} {statistics.median(values):8.0f} {min(values):8.0f} {max(values):8.0f}")
    print(json.dumps({name: statistics.median(values) for name, values in rows.items()}))


if __name__ == "__main__":
    main()
