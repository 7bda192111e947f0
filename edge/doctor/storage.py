"""Disks, the temporary folder and the clock."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edge.doctor.finding import Finding, missing, ok, size, warning
from edge.doctor.host import Host

LITTLE_BYTES = 500 * 2**20
STATE_FOLDER = "/var/lib/edge"
"""Where the service keeps what it writes."""

_YEARS = range(2025, 2100)


class Mount(NamedTuple):
    """A row of /proc/self/mounts: what lies where, how."""

    device: str
    folder: str
    kind: str
    options: tuple[str, ...]


def mount_of(host: Host, folder: str) -> Mount | None:
    """Return the file system that a folder lies on."""
    rows = [line.split() for line in host.lines("/proc/self/mounts")]
    mounts = [
        Mount(row[0], row[1].encode().decode("unicode_escape"), row[2], tuple(row[3].split(",")))
        for row in rows
        if len(row) >= 4
    ]
    inside = [m for m in mounts if folder == m.folder or folder.startswith(m.folder.rstrip("/") + "/")]
    # The later of two on one folder hides the other.
    return max(enumerate(inside), key=lambda row: (len(row[1].folder), row[0]))[1] if inside else None


def is_sd_card(host: Host, device: str) -> bool:
    """Whether a block device is a card that can be taken out, and wears."""
    found = re.match(r"/dev/(mmcblk\d+)", device)
    return found is not None and host.text(f"/sys/block/{found[1]}/device/type") == "SD"


def disks(host: Host) -> Iterator[Finding]:
    """Free space and inodes where edge writes, and whether it can."""
    root = mount_of(host, "/")
    state = host.environ.get("STATE_DIRECTORY", "").partition(":")[0] or STATE_FOLDER
    folders = [str(Path.cwd()) if not host.emulated else "/"]
    folders += [state] if host.exists(state) else []
    seen = set()
    for folder in folders:
        mount = mount_of(host, folder)
        if mount in seen:
            continue
        seen.add(mount)
        yield _disk(host, folder, mount)
    if root is not None and (root.kind == "overlay" and host.find("/media/root-ro")):
        yield warning("root", "an overlay in memory (overlayroot): what is written is lost when it is switched off")


def _disk(host: Host, folder: str, mount: Mount | None) -> Finding:
    try:
        found = os.statvfs(host.path(folder))
    except OSError as error:
        return warning("disk", f"{folder}: {error.strerror}")
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    card = mount is not None and is_sd_card(host, mount.device)
    text = f"{folder}: {size(free)} of {size(total)} free" + (" on an SD card, which writing wears" if card else "")
    facts: dict[str, Any] = {"folder": folder, "free_bytes": free, "total_bytes": total, "sd_card": card}
    facts["device"] = mount.device if mount else None
    facts["free_inodes"] = found.f_favail if found.f_files else None
    read_only = bool(found.f_flag & os.ST_RDONLY) or (mount is not None and "ro" in mount.options)
    if read_only:
        mend = f"sudo mount -o remount,rw {mount.folder}" if mount else ""
        return warning("disk", f"{text}; read-only: outputs must go elsewhere", mend, **facts)
    if free < LITTLE_BYTES:
        mend = f"sudo du -xh --max-depth=2 {folder} | sort -h | tail"
        return warning("disk", f"{text}: little for recordings", mend, **facts)
    if found.f_files and found.f_favail < 0.02 * found.f_files:
        return warning("disk", f"{text}, but {found.f_favail} inodes: it takes few more files", "", **facts)
    return ok("disk", text, **facts)


def temporary(host: Host) -> Iterator[Finding]:
    """Whether temporary files can be written: models are loaded with one."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"edge" * 1024)
            file.flush()
    except OSError as error:
        mend = "export TMPDIR=/run/user/$(id -u)  # or free space"
        yield missing("temporary", f"no temporary file can be written ({error.strerror or error})", mend, True)
    else:
        yield ok("temporary", f"files can be written in {tempfile.gettempdir()}", folder=tempfile.gettempdir())


def clock(host: Host) -> Iterator[Finding]:
    """Whether the time is plausible and kept right, and survives a power-off."""
    now = time.localtime(host.time())
    chip = host.text("/sys/class/rtc/rtc0/name")
    synced = host.synchronised()
    text = time.strftime("%Y-%m-%d %H:%M %Z", now)
    facts = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z", now), "synchronised": synced, "rtc": chip}
    mend = "sudo timedatectl set-ntp true" if host.exists("/run/systemd/system") else ""
    if now.tm_year not in _YEARS:
        yield warning("clock", f"{text}: cannot be; times in outputs will be wrong", mend, **facts)
    elif synced is False:
        later = "" if chip else ", and without a clock chip it is wrong after each power-off"
        yield warning("clock", f"{text}; not synchronised with a time server{later}", mend, **facts)
    else:
        said = "synchronised" if synced else "whether it is synchronised is not known"
        said += "" if chip else "; no clock chip: wrong after a power-off until the network answers"
        yield ok("clock", f"{text}; {said}", **facts)
