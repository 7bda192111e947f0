"""An RTSP camera that is killed and frozen, again and again: does it come back each time, and how soon?

    python benchmarks/rtsp_outages.py [--rounds 50] [--json FILE]

Serves a stream on 127.0.0.1 (GStreamer), kills the server or stops it with SIGSTOP in turn, lets it go on after a
random time, and takes the time from then to the first frame. The limit beside it is the wait between attempts that was
in effect, plus 3 s: opening an RTSP stream takes 2 s of them, in which FFmpeg looks at its first frames.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rtsp import NoRtspServerError, RtspCamera  # noqa: E402

from edge.errors import SourceLostError  # noqa: E402
from edge.sources.reconnect import Backoff, ReconnectingSource, SourceEvent  # noqa: E402

WAIT_S = 60.0


class Noted(Backoff):
    """The usual back-off; remembers its latest wait."""

    latest_s = 0.0

    def wait_s(self, attempts: int) -> float:
        """Return the seconds to wait."""
        Noted.latest_s = super().wait_s(attempts)
        return Noted.latest_s


class Consumer:
    """Takes the frames, and notes when the latest came and whether their order is right."""

    def __init__(self, url: str) -> None:
        """Begin to read."""
        self.events: list[SourceEvent] = []
        self.source = ReconnectingSource(url, backoff=Noted(), on_event=self.events.append)
        self.frames = 0
        self.disorder = 0
        self.lost: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        index, time_s = -1, -1.0
        try:
            for frame in self.source:
                self.disorder += frame.index <= index or frame.timestamp_s < time_s
                index, time_s = frame.index, frame.timestamp_s
                self.frames += 1
        except SourceLostError as error:
            self.lost = error

    def wait(self, state: str) -> bool:
        """Wait until the source is in a state, and online also gives a frame."""
        deadline, seen = time.monotonic() + WAIT_S, self.frames
        while time.monotonic() < deadline:
            if self.source.counters.state == state and (state != "online" or self.frames > seen):
                return True
            time.sleep(0.005)
        return False


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    rows = []
    try:
        camera = RtspCamera((320, 240))
    except NoRtspServerError as error:
        sys.exit(str(error))
    with camera:
        consumer = Consumer(camera.url)
        if not consumer.wait("online"):
            sys.exit("the stream does not begin")
        for number in range(asked.rounds):
            kind = ("kill", "freeze")[number % 2]
            # Long enough for the next loss to be a first one.
            time.sleep(5.5)
            start = time.monotonic()
            camera.kill() if kind == "kill" else camera.freeze()
            noticed = consumer.wait("offline")
            noticed_s = time.monotonic() - start
            time.sleep(chance.uniform(0.0, 6.0))
            camera.start()
            back, wait_s = time.monotonic(), Noted.latest_s
            recovered = consumer.wait("online")
            row = {
                "kind": kind,
                "noticed_s": noticed_s if noticed else None,
                "down_s": back - start,
                "recovered_s": time.monotonic() - back if recovered else None,
                "backoff_s": max(wait_s, Noted.latest_s),
            }
            rows.append(row)
            print(
                f"{number + 1:>3} {kind:<7} noticed {noticed_s:5.2f} s, back after {time.monotonic() - back:5.2f} s "
                f"(wait {row['backoff_s']:.2f} s)",
                flush=True,
            )
            if not (noticed and recovered):
                break
        consumer.source.interrupt()
        consumer.thread.join(WAIT_S)
        consumer.source.close()
    print(f"\n{'':<8}{'outages':>8}{'survived':>9}{'noticed p95':>12}{'back p50':>9}{'back p95':>9}{'in limit':>9}")
    for kind in ("kill", "freeze"):
        some = [row for row in rows if row["kind"] == kind]
        good = [row for row in some if row["recovered_s"] is not None]
        if not good:
            continue
        noticed = [row["noticed_s"] for row in good]
        back_s = [row["recovered_s"] for row in good]
        within = sum(row["recovered_s"] <= row["backoff_s"] + 3 for row in good)
        print(
            f"{kind:<8}{len(some):>8}{len(good):>9}{np.percentile(noticed, 95):>11.2f}s{np.median(back_s):>8.2f}s"
            f"{np.percentile(back_s, 95):>8.2f}s{within:>9}"
        )
    counters = consumer.source.counters
    print(
        f"{consumer.frames} frames, {consumer.disorder} out of order; {counters.outages} outages, "
        f"{counters.reconnects} reconnects, hanging: {consumer.source.hanging}, lost: {consumer.lost}"
    )
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
