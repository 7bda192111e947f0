"""Machines made of files: a Raspberry Pi 5, a Jetson Orin, a PC. Their contents are as such machines have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.doctor.finding import Finding
from edge.doctor.host import Host
from edge.doctor.isolate import Ending, Outcome

GROUPS = "root:x:0:\nplugdev:x:46:pi\nvideo:x:44:pi\nrender:x:105:\napex:x:999:\n"
RUNTIME = {
    "numpy": "2.4.6",
    "runtime": "LiteRT 2.3.0",
    "model": "edge-yolo-n",
    "threads": 4,
    "inference_ms": 21.5,
    "runs": 20,
    "operators": 281,
    "delegated": 281,
    "partitions": 1,
}
OPENCV = {
    "version": "5.0.0",
    "problem": None,
    "file": "/x/cv2/__init__.py",
    "ffmpeg": True,
    "gstreamer": False,
    "v4l2": True,
    "gui": "QT5",
}


def done(**value: Any) -> Outcome:
    return Outcome(Ending.DONE, value)


def failed(problem: str, stage: str = "", kind: str = "") -> Outcome:
    return Outcome(Ending.FAILED, {}, stage, problem, kind)


@dataclass(frozen=True)
class Fake(Host):
    """A host whose permissions and answers are given; what is not given fails the test."""

    closed: frozenset[str] = frozenset()
    owners: Mapping[str, str] = field(default_factory=dict)

    def may_use(self, name: str) -> bool:
        return name not in self.closed

    def group_of(self, name: str) -> str | None:
        return self.owners.get(name)


def fake(
    root: Path,
    machine: str = "aarch64",
    outcomes: Mapping[str, Outcome] | None = None,
    commands: Mapping[str, str | None] | None = None,
    **given: Any,
) -> Fake:
    """Make a host.

    Args:
        root: Its files.
        machine: Architecture.
        outcomes: Probe -> what came of it.
        commands: Command line -> what it prints; another one is missing.
        given: Other attributes of `Fake`.
    """
    answers = {"runtime": done(**RUNTIME), "opencv": done(**OPENCV), **(outcomes or {})}

    def isolated(probe: str, arguments: Mapping[str, Any], timeout_s: float) -> Outcome:
        return answers[probe]

    def command(line: Sequence[str], timeout_s: float) -> str | None:
        return (commands or {}).get(" ".join(line))

    settings: dict[str, Any] = {
        "affinity": 4,
        "groups": frozenset({1000, 44, 46}),
        "superuser": False,
        "environ": {"USER": "pi"},
        "bits": 64,
        "time": lambda: 1_790_000_000.0,  # in 2026
        "synchronised": lambda: True,
    }
    return Fake(root=root, machine=machine, isolated=isolated, command=command, **{**settings, **given})


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def link(root: Path, name: str, target: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, path)


def arm_cpuinfo(cores: int, part: str, features: str) -> str:
    one = (
        "processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: {f}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        "CPU variant\t: 0x4\nCPU part\t: {p}\nCPU revision\t: 1\n"
    )
    return "\n".join(one.format(n=n, f=features, p=part) for n in range(cores))


def raspberry_pi_5(root: Path) -> Path:
    """8 GB, an SD card, a USB camera and two Edge TPUs' worth of USB ports."""
    features = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    files = {
        "/proc/cpuinfo": arm_cpuinfo(4, "0xd0b", features) + "\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
        "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "/proc/sys/kernel/osrelease": "6.6.31+rpt-rpi-2712\n",
        "/proc/meminfo": "MemTotal:        8245280 kB\nMemFree:         6012344 kB\nMemAvailable:    7340032 kB\n"
        "SwapTotal:        102384 kB\nSwapFree:         102384 kB\n",
        "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/var/swap file 102384 0 -2\n",
        "/proc/self/cgroup": "0::/user.slice/user-1000.slice/session-1.scope\n",
        "/proc/self/mounts": "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\nproc /proc proc rw 0 0\n",
        "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "/etc/group": GROUPS,
        "/sys/block/mmcblk0/device/type": "SD\n",
        "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "/sys/class/thermal/thermal_zone0/temp": "52350\n",
        "/sys/class/hwmon/hwmon2/name": "rpi_volt\n",
        "/sys/class/hwmon/hwmon2/in0_lcrit_alarm": "0\n",
        "/sys/class/rtc/rtc0/name": "rpi-rtc soc:rpi_rtc\n",
        "/usr/bin/vcgencmd": "",
        f"{policy}/scaling_governor": "ondemand\n",
        f"{policy}/scaling_driver": "cpufreq-dt\n",
        f"{policy}/scaling_cur_freq": "1500000\n",
        f"{policy}/scaling_max_freq": "2400000\n",
        f"{policy}/cpuinfo_max_freq": "2400000\n",
        "/run/systemd/system/x": "",
    }
    return write(root, files)


def jetson_orin(root: Path) -> Path:
    """An Orin Nano at 7 W with an IMX219 on its connector."""
    features = (
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat"
    )
    files = {
        "/proc/cpuinfo": arm_cpuinfo(6, "0xd42", features),
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic, EABI: aarch64\n",
        "/etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
        "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=7W >\n",
        "/var/lib/nvpmodel/status": "pmode:0001\n",
        "/proc/meminfo": "MemTotal:        7800000 kB\nMemAvailable:    5300000 kB\nSwapTotal:       3900000 kB\n",
        "/proc/swaps": "Filename Type Size Used Priority\n"
        + "".join(f"/dev/zram{n} partition 650000 0 5\n" for n in range(6)),
        "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "/sys/class/thermal/thermal_zone0/temp": "47500\n",
        "/sys/class/thermal/thermal_zone3/type": "cv0-thermal\n",
        "/sys/class/thermal/thermal_zone3/temp": "-256000\n",
        "/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n",
        "/tmp/argus_socket": "",
        "/dev/video0": "",
        "/etc/group": GROUPS,
    }
    return write(root, files)


def pc(root: Path) -> Path:
    """A PC with an Intel GPU."""
    core = (
        "processor\t: {n}\nmodel name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz\n"
        "flags\t\t: fpu sse4_2 avx f16c avx2 fma\n"
    )
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    files = {
        "/proc/cpuinfo": "\n".join(core.format(n=n) for n in range(8)),
        "/sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "/sys/class/dmi/id/product_name": "20LS\n",
        "/proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:   11000000 kB\nSwapTotal:             0 kB\n",
        "/etc/group": GROUPS,
        "/dev/dri/renderD128": "",
        f"{policy}/scaling_governor": "powersave\n",
        f"{policy}/scaling_driver": "intel_pstate\n",
        f"{policy}/scaling_cur_freq": "800000\n",
        f"{policy}/scaling_max_freq": "3400000\n",
        f"{policy}/cpuinfo_max_freq": "3400000\n",
        "/proc/self/mounts": "/dev/nvme0n1p2 / ext4 rw 0 0\n",
    }
    return write(root, files)


def only(findings: object) -> Finding:
    (found,) = findings  # type: ignore[misc]
    return found


Check = Callable[[Host], Any]
