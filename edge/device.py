"""What the kernel shows of the device itself: temperatures, throttling, CPU clock.

Nothing here starts a program (`vcgencmd` would fork a process of hundreds of megabytes at each look), and nothing
raises: what a board does not show, or refuses to show at this moment, is left out.

Sources: Documentation/ABI/testing/sysfs-class-thermal and sysfs-class-hwmon of Linux, and its driver raspberrypi-hwmon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_PLAUSIBLE_C = (-60.0, 200.0)
"""Sensors that are off show values like -256 or -274 degrees."""

_CPU_SENSORS = ("coretemp", "k10temp", "zenpower")
"""hwmon drivers of PC processors, some of which (AMD's) have no thermal zone."""

_LIMITS = re.compile(r"(thermal-)?cpufreq-|Processor$|.*-throttle-alert$")
"""Cooling devices that slow a processor down. Fans are some too, and a GPU's devfreq state says little of heat."""

_PI_FLAGS = ("undervoltage", "frequency-capped", "throttled", "soft-temperature-limit")
"""Bits 0 to 3 of the Raspberry Pi firmware's word."""


@dataclass(frozen=True, slots=True)
class DeviceReadings:
    """One look at the device. What it does not show is missing.

    Attributes:
        temperatures_c: Sensor -> degrees Celsius.
        throttled: Reason -> whether it slows the device down now: "undervoltage", or a cooling device of the kernel.
        cpu_hz: Group of cores with one clock ("policy0") -> present frequency in hertz.
        cpu_max_hz: The same groups -> highest frequency of the hardware in hertz.
    """

    temperatures_c: dict[str, float]
    throttled: dict[str, bool]
    cpu_hz: dict[str, float]
    cpu_max_hz: dict[str, float]


def read_device(root: Path = Path("/")) -> DeviceReadings:
    """Look at the device.

    Args:
        root: The folder that holds `sys`; another than / in tests.
    """
    return DeviceReadings(
        temperatures_c(root),
        throttled(root),
        _frequencies(root, "scaling_cur_freq"),
        _frequencies(root, "cpuinfo_max_freq"),
    )


def temperatures_c(root: Path = Path("/")) -> dict[str, float]:
    """Return sensor -> degrees Celsius: thermal zones, processors of PCs, and Edge TPUs on PCIe."""
    found: dict[str, float] = {}
    for zone in _sorted(root, "sys/class/thermal", "thermal_zone*"):
        _add(found, _text(zone / "type") or zone.name, _number(zone / "temp"))
    for chip in _sorted(root, "sys/class/hwmon", "hwmon*"):
        name = _text(chip / "name")
        if name in _CPU_SENSORS:
            _add(found, name, _number(chip / "temp1_input"))
    for device in _sorted(root, "sys/class/apex", "apex_*"):
        _add(found, "edgetpu", _number(device / "temp"))
    return found


def throttled(root: Path = Path("/")) -> dict[str, bool]:
    """Return reason -> whether it slows the device down at this moment."""
    found: dict[str, bool] = {}
    for device in _sorted(root, "sys/class/thermal", "cooling_device*"):
        name, state = _text(device / "type"), _number(device / "cur_state")
        if name and state is not None and _LIMITS.match(name):
            found[name] = found.get(name, False) or state > 0
    for chip in _sorted(root, "sys/class/hwmon", "hwmon*"):
        if _text(chip / "name") == "rpi_volt":
            alarm = _number(chip / "in0_lcrit_alarm")
            if alarm is not None:
                found["undervoltage"] = alarm > 0
    if "undervoltage" not in found:
        # Only kernels without that driver: later ones write a warning with a stack trace to their log when it is read.
        for file in _sorted(root, "sys/devices/platform", "soc*/*firmware/get_throttled"):
            word = _hexadecimal(file)
            if word is not None:
                found |= {name: bool(word >> bit & 1) for bit, name in enumerate(_PI_FLAGS)}
    return found


def _frequencies(root: Path, name: str) -> dict[str, float]:
    policies = _sorted(root, "sys/devices/system/cpu/cpufreq", "policy*")
    found = {policy.name: _number(policy / name) for policy in policies}
    return {policy: khz * 1000.0 for policy, khz in found.items() if khz is not None}


def _add(found: dict[str, float], name: str, millidegrees: float | None) -> None:
    """Add a temperature under a name that no other has: boards have several zones of one type."""
    if millidegrees is None:
        return
    celsius = millidegrees / 1000.0
    if _PLAUSIBLE_C[0] <= celsius <= _PLAUSIBLE_C[1]:
        taken = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in found)
        found[f"{name}-{taken + 1}" if taken else name] = celsius


def _sorted(root: Path, folder: str, pattern: str) -> list[Path]:
    """Return what matches, thermal_zone2 before thermal_zone10; nothing where the folder cannot be read."""
    try:
        found = list((root / folder).glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), str(path)))


def _text(file: Path) -> str | None:
    # A sensor whose unit is switched off answers with EAGAIN, EINVAL or ENODATA.
    try:
        return file.read_text("utf-8", "replace").strip("\0\n ") or None
    except OSError:
        return None


def _number(file: Path) -> float | None:
    text = _text(file)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _hexadecimal(file: Path) -> int | None:
    try:
        return int(_text(file) or "", 16)
    except ValueError:
        return None
