"""Temperature, throttling, supply and clock frequency."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from edge.doctor.finding import Finding, missing, ok, warning
from edge.doctor.host import Host

HOT_C = 80.0
"""From here on a Raspberry Pi slows down; others do a little later."""

THROTTLED = {
    0: "the supply voltage is too low",
    1: "the clock is capped",
    2: "it is throttled",
    3: "it is near the temperature limit",
    16: "the supply voltage was too low",
    17: "the clock was capped",
    18: "it was throttled",
    19: "it was near the temperature limit",
}
"""Bit of `vcgencmd get_throttled` -> meaning, as Raspberry Pi's documentation has it; 16 and up: since it started."""

_SUPPLY = "use the board's own power supply and a short cable"
_COOLING = "give it a heat sink or a fan"


def temperature(host: Host) -> Iterator[Finding]:
    """The hottest sensor."""
    zones = []
    for path in host.find("/sys/class/thermal/thermal_zone*/temp"):
        value = host.number(path)
        # -256 or so is a sensor that is switched off (Jetson).
        if value is not None and -40_000 < value < 200_000:
            zones.append((value / 1000, host.text(path.replace("/temp", "/type")) or "?"))
    if not zones:
        yield missing("temperature", "no sensor (a virtual machine or container has none)")
        return
    celsius, name = max(zones)
    facts: dict[str, Any] = {"hottest_c": celsius, "zones_c": {zone: value for value, zone in zones}}
    if celsius >= HOT_C:
        found = f"{celsius:.0f} °C ({name}): it slows down from about {HOT_C:g} °C"
        yield warning("temperature", found, _COOLING, **facts)
    else:
        yield ok("temperature", f"{celsius:.0f} °C ({name})", **facts)


def supply(host: Host) -> Iterator[Finding]:
    """Undervoltage and throttling, as the firmware of a Raspberry Pi reports it; a Jetson's power mode."""
    bits = throttled(host)
    if bits is not None:
        now = [THROTTLED[bit] for bit in range(4) if bits >> bit & 1]
        # What is so now was so before: one mention is enough.
        before = [THROTTLED[bit + 16] for bit in range(4) if bits >> (bit + 16) & 1 and not bits >> bit & 1]
        facts: dict[str, Any] = {"throttled": hex(bits), "now": now, "since_start": before}
        if now or before:
            mend = _SUPPLY if bits & 0x10001 else _COOLING
            said = [f"now {', '.join(now)}"] * bool(now) + [f"since it started {', '.join(before)}"] * bool(before)
            yield warning("power", "; ".join(said), mend, **facts)
        else:
            yield ok("power", "no undervoltage, no throttling since it started", **facts)
    for path in host.find("/sys/class/hwmon/hwmon*/name"):
        if host.text(path) == "rpi_volt" and host.number(path.replace("/name", "/in0_lcrit_alarm")) and not bits:
            yield warning("power", "the supply voltage is too low", _SUPPLY, undervoltage=True)
    yield from _jetson_mode(host)


def throttled(host: Host) -> int | None:
    """Return the bits of `vcgencmd get_throttled`; None where there is none."""
    said = host.ask("vcgencmd", "get_throttled") if host.find("/usr/bin/vcgencmd") else None
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", said or "")
    if found:
        return int(found[1], 16)
    text = host.text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


def _jetson_mode(host: Host) -> Iterator[Finding]:
    conf = host.text("/etc/nvpmodel.conf")
    if conf is None:
        return
    names = dict(re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", conf))
    status = re.search(r"pmode:0*(\d+)", host.text("/var/lib/nvpmodel/status") or "")
    if status is None:
        return
    name = names.get(status[1], f"mode {status[1]}")
    full = next((number for number, label in names.items() if label.startswith("MAXN")), None)
    facts: dict[str, Any] = {"mode": name, "modes": list(names.values())}
    if full is not None and status[1] != full:
        mend = f"sudo nvpmodel -m {full}  # all cores, highest clock; needs the supply and the cooling for it"
        yield warning("power mode", f"{name}: fewer cores or a lower clock than {names[full]}", mend, **facts)
    else:
        yield ok("power mode", name, **facts)


def clock_speed(host: Host) -> Iterator[Finding]:
    """Governor and frequency of the cores."""
    policies = host.find("/sys/devices/system/cpu/cpufreq/policy*")
    if not policies:
        policies = host.find("/sys/devices/system/cpu/cpu*/cpufreq")
    if not policies:
        yield missing("CPU clock", "not to be seen here (the host of a virtual machine governs it)")
        return
    # The fastest cores do the work.
    fastest = max(policies, key=lambda policy: host.number(f"{policy}/cpuinfo_max_freq") or 0)
    current, allowed, most = (
        (host.number(f"{fastest}/{name}") or 0) / 1000
        for name in ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
    )
    governor = host.text(f"{fastest}/scaling_governor") or "unknown"
    driver = host.text(f"{fastest}/scaling_driver") or ""
    found = f"{current:.0f} of {most:.0f} MHz, governor {governor}"
    facts: dict[str, Any] = {"current_mhz": current, "allowed_mhz": allowed, "most_mhz": most, "governor": governor}
    files = "/sys/devices/system/cpu/cpufreq/policy*"
    # Under intel_pstate and amd-pstate "powersave" is the name of the one that follows the load.
    if governor == "powersave" and "pstate" not in driver:
        mend = f"echo ondemand | sudo tee {files}/scaling_governor"
        yield warning("CPU clock", f"{found}: stays at its lowest", mend, **facts)
    elif most and allowed < 0.95 * most:
        mend = f"echo {most * 1000:.0f} | sudo tee {files}/scaling_max_freq"
        yield warning("CPU clock", f"{found}; capped at {allowed:.0f} MHz", mend, **facts)
    else:
        yield ok("CPU clock", found, **facts)
