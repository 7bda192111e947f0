"""A soak of `edge run`: three cameras for hours, with outages; memory, threads and file descriptors must not grow.

    python benchmarks/soak.py --minutes 120 --json out/soak.json

Two RTSP cameras (640 x 360 at 15 frames/s, 320 x 240 at 25) and one Motion JPEG camera (480 x 270 at 10), served from
this machine; each is killed, or stopped with SIGSTOP, in turn every few minutes and comes back. Outputs: JSON lines,
segments of video, snapshots, clips.
Needs Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-{base,good,bad,ugly}.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

RTSP = Path(__file__).parents[1] / "tests/sources/rtsp_camera.py"
MJPEG = Path(__file__).parents[1] / "tests/mjpeg.py"

CONFIG = """
[service]
http = "127.0.0.1:{http}"

[models.default]

[cameras.gate]
source = "rtsp://127.0.0.1:{rtsp1}/cam"
[cameras.yard]
source = "rtsp://127.0.0.1:{rtsp2}/cam"
[cameras.door]
source = "http://127.0.0.1:{mjpeg}/cam"

[sinks.log]
kind = "json"
path = "{camera}.jsonl"
max_mb = 5
keep = 2
[sinks.disk]
kind = "record"
path = "video"
max_gb = 0.2
[sinks.stills]
kind = "snapshots"
path = "stills"
min_score = 0.2
max_gb = 0.05
[sinks.events]
kind = "clips"
path = "clips"
min_score = 0.2
max_gb = 0.05
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A camera that can be killed, frozen and started again on the same port."""

    def __init__(self, command: list[str]) -> None:
        """Start it."""
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, or let it go on."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            return
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )

    def fault(self, kind: str) -> None:
        """Kill it, or freeze it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if kind == "freeze" else signal.SIGKILL)
        if kind == "kill":
            self._process.wait()

    def end(self) -> None:
        """Kill it for good."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


def sample(pid: int) -> dict[str, float]:
    """Return resident memory in MB, threads, file descriptors and CPU seconds of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {
        "rss_mb": int(fields["VmRSS"].split()[0]) / 1024,
        "anon_mb": int(fields["RssAnon"].split()[0]) / 1024,
        "threads": int(fields["Threads"]),
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "cpu_s": (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"),
    }


def main() -> None:
    """Run the soak and print what grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--warm-up", type=float, default=10, help="minutes that are not judged")
    parser.add_argument("--outage-every", type=float, default=3, help="minutes")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ports = {name: free_port() for name in ("http", "rtsp1", "rtsp2", "mjpeg")}
    servers = [
        Server(["/usr/bin/python3", str(RTSP), "640", "360", "--port", str(ports["rtsp1"]), "--fps", "15"]),
        Server(["/usr/bin/python3", str(RTSP), "320", "240", "--port", str(ports["rtsp2"]), "--fps", "25"]),
        Server([sys.executable, str(MJPEG), "480", "270", "--port", str(ports["mjpeg"]), "--fps", "10"]),
    ]
    with tempfile.TemporaryDirectory(prefix="edge-soak-") as folder:
        text = CONFIG
        for name, port in ports.items():
            text = text.replace("{" + name + "}", str(port))
        config = Path(folder, "edge.toml")
        config.write_text(text)
        with open(Path(folder, "log"), "wb") as log:
            edge = subprocess.Popen([sys.executable, "-m", "edge", "run", str(config)], stderr=log)
            try:
                rows = watch(edge, servers, arguments, ports["http"])
            finally:
                edge.terminate()
                code = edge.wait(20)
                for server in servers:
                    server.end()
        said = Path(folder, "log").read_text()
    judge(rows, arguments, code, said)


def watch(edge: subprocess.Popen[bytes], servers: list[Server], arguments: Any, http: int) -> list[dict[str, Any]]:
    """Sample once a minute while cameras come and go."""
    rows: list[dict[str, Any]] = []
    start = time.monotonic()
    faults = 0
    next_fault, back = start + 60 * arguments.outage_every, None
    next_sample = start + 30
    while (now := time.monotonic()) < start + 60 * arguments.minutes:
        if edge.poll() is not None:
            sys.exit(f"edge run ended with {edge.returncode} after {(now - start) / 60:.1f} minutes")
        if back is None and now >= next_fault:
            server, kind = servers[faults % len(servers)], ("kill", "freeze")[faults // len(servers) % 2]
            server.fault(kind)
            faults, back = faults + 1, (server, now + 15)
            next_fault = now + 60 * arguments.outage_every
        if back is not None and now >= back[1]:
            back[0].start()
            back = None
        if now >= next_sample:
            next_sample += 60
            row: dict[str, Any] = {"minute": round((now - start) / 60, 1), "faults": faults, **sample(edge.pid)}
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/status", timeout=10) as answer:
                status = json.load(answer)
            row["cameras"] = [
                {key: camera[key] for key in ("name", "state", "fps", "results", "outages", "reconnects", "age_ms")}
                for camera in status["cameras"]
            ]
            row["hung"] = status["hung"]
            rows.append(row)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                arguments.json.write_text(json.dumps(rows, indent=1))
        time.sleep(0.5)
    return rows


def judge(rows: list[dict[str, Any]], arguments: Any, code: int, said: str) -> None:
    """Print how it went."""
    judged = [row for row in rows if row["minute"] >= arguments.warm_up]
    if len(judged) < 10:
        sys.exit("too short to judge")
    # Medians of ten minutes: a single sample holds whatever buffer was just alive.
    for key in ("rss_mb", "anon_mb", "threads", "fds"):
        first, last = (statistics.median(row[key] for row in part) for part in (judged[:10], judged[-10:]))
        print(f"{key:8} {first:8.1f} -> {last:8.1f}   {last - first:+.1f}")
    for camera in rows[-1]["cameras"]:
        print(
            f"{camera['name']:6} {camera['state']:8} {camera['results']} results, {camera['outages']} outages, "
            f"{camera['reconnects']} reconnects, age p95 {camera['age_ms'][1]:.0f} ms"
        )
    share = (rows[-1]["cpu_s"] - rows[0]["cpu_s"]) / (60 * (rows[-1]["minute"] - rows[0]["minute"]))
    print(f"{rows[-1]['faults']} outages, {share:.2f} cores, exit code {code}, hung: {rows[-1]['hung'] or 'nothing'}")
    print("\n".join(line for line in said.splitlines() if "Traceback" in line or "ERROR" in line) or "no errors logged")


if __name__ == "__main__":
    main()
