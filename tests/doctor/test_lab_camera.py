"""Real Video4Linux: a virtual machine with Debian's kernel and its pretended camera (vivid), asked by the doctor."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "python3,busybox-static,kmod,linux-image-amd64"
MODULES = ("virtio_pci", "9pnet_virtio", "9p")

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mkdir -p /proc /sys /dev /new
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
for m in /lib/modules/*; do $B insmod $m; done
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose root /new
for d in proc sys dev; do $B mount --move /$d /new/$d; done
$B mount -t tmpfs tmp /new/tmp
exec $B switch_root /new /opt/start
"""
START = """#!/bin/busybox sh
export PATH=/usr/bin:/bin:/sbin PYTHONPATH=/opt/app PYTHONDONTWRITEBYTECODE=1
/sbin/modprobe vivid n_devs=1
/bin/busybox sleep 2
python3 /opt/job.py > /dev/ttyS1
/bin/busybox poweroff -f
"""
JOB = """
import fcntl, json, os, struct, subprocess, sys
from edge.doctor.host import Host
from edge.doctor.cameras import cameras
from edge.doctor.v4l2 import query

def buffers(camera, count):
    data = bytearray(struct.pack("=IIIIB3x", count, 1, 1, 0, 0))
    fcntl.ioctl(camera, 0xC0145608, data)  # VIDIOC_REQBUFS
    return struct.unpack_from("=I", data)[0]

free = [query(f"/dev/video{n}") for n in range(4)]
ask = "from edge.doctor.host import Host\\nfrom edge.doctor.cameras import cameras\\n"
ask += "print([[f.state, f.found] for f in cameras(Host(timeout_s=100))])"
camera = os.open("/dev/video0", os.O_RDWR)
held = buffers(camera, 4)
said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
again = buffers(camera, 2)  # refused if the question had taken the camera away
print(json.dumps({"free": free, "held": held, "again": again, "said": said.stdout + said.stderr}), flush=True)
"""


def pack(folder: Path, out: Path) -> None:
    """Write an initial RAM disk (cpio, newc)."""
    with gzip.open(out, "wb", 1) as file:
        entries = [(str(p.relative_to(folder)), p) for p in sorted(folder.rglob("*"))]
        for number, (name, path) in enumerate([*entries, ("TRAILER!!!", None)]):
            data = path.read_bytes() if path is not None and path.is_file() else b""
            mode = path.lstat().st_mode if path is not None else 0
            values = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
            head = b"070701" + b"".join(b"%08X" % value for value in values) + name.encode() + b"\0"
            file.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for tool, package in (("mmdebstrap", "mmdebstrap"), ("qemu-system-x86_64", "qemu-system-x86")):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: apt install {package}")
    if os.geteuid() != 0:
        pytest.skip("a file system of another machine is only made by root")
    folder = tmp_path_factory.mktemp("vm")
    root, disk = folder / "root", folder / "disk"
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={PACKAGES}", "bookworm", str(root)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"Debian's packages cannot be fetched: {made.stderr.strip().splitlines()[-1:]}")
    for name in ("proc", "sys", "dev", "tmp", "opt/app"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "edge", root / "opt" / "app" / "edge")
    (root / "opt" / "job.py").write_text(JOB)
    (root / "opt" / "start").write_text(START)
    (root / "opt" / "start").chmod(0o755)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    subprocess.run(["chroot", str(root), "/sbin/depmod", release], check=True)
    wanted: list[str] = []
    for module in MODULES:
        show = ["chroot", str(root), "/sbin/modprobe", "-S", release, "--show-depends", module]
        said = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        wanted += [line.split()[1] for line in said.splitlines() if line.startswith("insmod")]
    (disk / "lib" / "modules").mkdir(parents=True)
    (disk / "bin").mkdir()
    shutil.copy(root / "bin" / "busybox", disk / "bin")
    for number, name in enumerate(dict.fromkeys(wanted)):
        shutil.copy(root / name.lstrip("/"), disk / "lib" / "modules" / f"{number:02}.ko")
    (disk / "init").write_text(INIT)
    (disk / "init").chmod(0o755)
    pack(disk, folder / "initrd")
    console = folder / "console"
    machine = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-display", "none", "-no-reboot"]
    machine += ["-kernel", str(kernel), "-initrd", str(folder / "initrd"), "-append", "console=ttyS0 quiet panic=-1"]
    machine += ["-virtfs", f"local,path={root},mount_tag=root,security_model=none,readonly=on", "-net", "none"]
    machine += ["-serial", f"file:{console}", "-serial", f"file:{folder / 'answer'}"]
    subprocess.run(machine, stdin=subprocess.DEVNULL, timeout=600, check=True)
    text = (folder / "answer").read_text()
    assert text.strip(), console.read_text()[-3000:]
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_devices_are_told_apart(answer: dict[str, Any]) -> None:
    assert [device["kind"] for device in answer["free"]] == ["capture", "output", "metadata", "metadata"]
    camera = answer["free"][0]
    assert (camera["driver"], camera["card"], camera["busy"]) == ("vivid", "vivid", False)
    formats = {row["fourcc"]: row for row in camera["formats"]}
    assert {"YUYV", "NV12"} <= set(formats)
    assert (formats["YUYV"]["width"], formats["YUYV"]["height"]) == (3840, 2160) and formats["YUYV"]["fps"] > 0


def test_a_camera_in_use_is_seen_and_left_alone(answer: dict[str, Any]) -> None:
    assert answer["held"] >= 2 and answer["again"] >= 2
    assert "warning" in answer["said"] and "in use by python3 (process " in answer["said"]
