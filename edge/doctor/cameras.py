"""Cameras: what V4L2 offers, who uses it, and the boards' own connectors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from edge.doctor.finding import Finding, count, missing, ok, one_line, warning
from edge.doctor.host import Host
from edge.doctor.isolate import Ending
from edge.doctor.machine import board, jetson_release
from edge.doctor.trouble import unfinished

RECEIVERS = ("unicam", "rp1-cfe", "tegra-video")
"""Drivers that hand out what a sensor on a CSI connector sends: raw, no picture that OpenCV could read."""

INTERNAL = ("bcm2835-isp", "bcm2835-codec", "pispbe", "rpivid", "rpi-hevc-dec", "hantro-vpu", "rkisp1", "rga")
"""Drivers of a chip's own picture processing, whose nodes look like cameras."""

_MOST_FORMATS = 3
_USUAL = ("MJPG", "H264", "YUYV", "NV12")


def cameras(host: Host) -> Iterator[Finding]:
    """Every /dev/video*: name, formats, permission, and who uses it."""
    paths = host.find("/dev/video[0-9]*")
    if not paths:
        yield _none(host)
        return
    denied = [path for path in paths if not host.may_use(path)]
    usable = [path for path in paths if path not in denied]
    if denied:
        group = host.group_of(denied[0]) or "video"
        names = ", ".join(denied[:3]) + ("..." if len(denied) > 3 else "")
        found = f"no permission to use {names} (group {group})"
        yield missing("cameras", found, f"sudo usermod -aG {group} $USER  # then log in again", denied=denied)
    if not usable:
        return
    outcome = host.attempt("cameras", devices=[str(host.path(path)) for path in usable])
    if outcome.ending is not Ending.DONE:
        yield unfinished(host, "cameras", outcome)
        return
    others: dict[str, int] = {}
    seen = False
    for path, device in zip(usable, outcome.value["devices"], strict=True):
        device = {**device, "path": path, "stable_name": _stable_name(host, path)}
        if "error" in device:
            seen = True
            yield _silent(host, path, device)
        elif device["driver"] in (*RECEIVERS, *INTERNAL) or device["kind"] != "capture":
            kind = "receiver" if device["driver"] in RECEIVERS else device["kind"]
            kind = "picture processing" if device["driver"] in INTERNAL else kind
            others[kind] = others.get(kind, 0) + 1
        else:
            seen = True
            yield _camera(path, device)
            if host.read_frames and not device["busy"]:
                yield _frame(host, path)
    if not seen and not denied:
        yield missing("cameras", f"none among {count(len(usable), 'video device')}")
    if others:
        listed = ", ".join(f"{number} {kind}" for kind, number in others.items())
        yield ok("other video", f"{count(sum(others.values()), 'device')} beside: {listed}", **others)


def _none(host: Host) -> Finding:
    """Say that there is no video device; a USB camera without one lacks its driver."""
    for path in host.find("/sys/bus/usb/devices/*/bInterfaceClass"):
        if host.text(path) == "0e":
            return warning("cameras", "a USB camera is connected, but it has no /dev/video*", "sudo modprobe uvcvideo")
    return missing("cameras", "no /dev/video*; files and network streams work without")


def _silent(host: Host, path: str, device: Mapping[str, Any]) -> Finding:
    code = device["errno"]
    if code == "EBUSY":
        return warning("camera", f"{path}: another program uses it", f"sudo fuser -v {path}", **device)
    if code in ("EACCES", "EPERM"):
        return warning("camera", f"{path}: no permission; a container must be given the device", **device)
    return warning("camera", f"{path}: does not answer ({device['error']})", "unplug it and plug it in again", **device)


def _camera(path: str, device: Mapping[str, Any]) -> Finding:
    formats = sorted(device["formats"], key=lambda row: _USUAL.index(row["fourcc"]) if row["fourcc"] in _USUAL else 9)
    said = [_format(row) for row in formats[:_MOST_FORMATS]]
    said += [f"{len(formats) - _MOST_FORMATS} more"] if len(formats) > _MOST_FORMATS else []
    found = f"{path}: {device['card']}; {', '.join(said) or 'it names no format'}"
    found += f"; survives a restart as {device['stable_name']}" if device["stable_name"] else ""
    if device["busy"]:
        who = ", ".join(device["users"]) or "another program"
        return warning("camera", f"{found}; in use by {who}", f"sudo fuser -v {path}", **device)
    return ok("camera", found, **device)


def _format(row: Mapping[str, Any]) -> str:
    text = str(row["fourcc"])
    if row["width"] is not None:
        text += f" {row['width']}x{row['height']}"
    return text + (f" at {row['fps']:g}" if row["fps"] else "")


def _frame(host: Host, path: str) -> Finding:
    outcome = host.attempt("frame", device=path)
    if outcome.ending is not Ending.DONE:
        return unfinished(host, "frame", outcome)
    value = outcome.value
    found = f"{path}: {value['width']}x{value['height']} after {value['took_ms']} ms"
    if value["dark"]:
        return warning("frame", f"{found}, but it is black: is the lens covered?", **value)
    return ok("frame", found, **value)


def _stable_name(host: Host, path: str) -> str | None:
    """Return a camera's name that survives a restart, in /dev/v4l/by-id."""
    for link in host.find("/dev/v4l/by-id/*"):
        try:
            if os.path.basename(os.readlink(host.path(link))) == os.path.basename(path):
                return link
        except OSError:
            continue
    return None


def connectors(host: Host) -> Iterator[Finding]:
    """Cameras on a board's ribbon connector (CSI): they need the board's own software."""
    if "Raspberry Pi" in board(host):
        yield from _libcamera(host)
    elif jetson_release(host):
        yield from _argus(host)


def _libcamera(host: Host) -> Iterator[Finding]:
    tool = next((t for t in ("rpicam-hello", "libcamera-hello") if host.find(f"/usr/bin/{t}")), None)
    if tool is None:
        yield missing("CSI", "Raspberry Pi's camera programs are not installed", "sudo apt install rpicam-apps")
        return
    said = host.ask(tool, "--list-cameras", timeout_s=6)
    if said is None:
        yield warning("CSI", f"{tool} fails or hangs; is another program using the camera?", f"{tool} --list-cameras")
        return
    found = re.findall(r"^\s*\d+ : (\S+) \[(\d+x\d+)", said, re.MULTILINE)
    if not found:
        yield missing("CSI", "no camera on the connector")
        return
    listed = ", ".join(f"{name} {size}" for name, size in found)
    outcome = host.attempt("picamera2")
    if outcome.ending is not Ending.DONE:
        yield unfinished(host, "CSI", outcome)
    elif outcome.value["loads"]:
        yield ok("CSI", f"{listed}; picamera2 loads; --source csi://0", cameras=listed)
    elif outcome.value["absent"] and host.exists("/usr/lib/python3/dist-packages/picamera2"):
        mend = "python3 -m venv --system-site-packages --upgrade " + (host.environ.get("VIRTUAL_ENV") or ".venv")
        yield warning("CSI", f"{listed}; this virtual environment does not see the system's picamera2", mend)
    else:
        problem = "is not installed" if outcome.value["absent"] else f"fails: {one_line(outcome.value['problem'])}"
        yield warning("CSI", f"{listed}; picamera2 {problem}", "sudo apt install python3-picamera2")


def _argus(host: Host) -> Iterator[Finding]:
    sensors = []
    for path in host.find("/sys/class/video4linux/video*/name"):
        name = host.text(path) or ""
        if name.startswith("vi-output"):
            sensors.append(name.removeprefix("vi-output,").strip())
    if not sensors:
        yield missing("CSI", "no camera on the connector")
        return
    listed = ", ".join(sensors)
    if not host.exists("/tmp/argus_socket"):
        yield warning("CSI", f"{listed}; nvargus-daemon does not run", "sudo systemctl restart nvargus-daemon")
        return
    outcome = host.attempt("opencv")
    if outcome.ending is Ending.DONE and outcome.value.get("gstreamer"):
        yield ok("CSI", f"{listed}; OpenCV has GStreamer to read it with; --source csi://0", cameras=sensors)
    else:
        mend = "python3 -m venv --system-site-packages .venv  # the system's OpenCV has it"
        yield warning("CSI", f"{listed}; OpenCV lacks GStreamer, which reads it", mend, cameras=sensors)
