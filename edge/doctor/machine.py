"""The board, its Python, its cores and its memory."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from typing import Any

from edge.doctor.finding import Finding, ok, size, warning
from edge.doctor.host import Host

ARM_CORES = {
    (0x41, 0xB76): "ARM1176",
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xC08): "Cortex-A8",
    (0x41, 0xC09): "Cortex-A9",
    (0x41, 0xC0F): "Cortex-A15",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x4E, 0x003): "NVIDIA Denver 2",
    (0x4E, 0x004): "NVIDIA Carmel",
}
"""(implementer, part) of /proc/cpuinfo -> name, as Arm's and Linux' tables have it."""

X86_FEATURES = {
    "AVX2": ("avx2", "float32"),
    "FMA": ("fma", "float32"),
    "F16C": ("f16c", "float16 weights"),
    "AVX-512": ("avx512f", "float32"),
    "VNNI": ("avx512_vnni avx_vnni", "int8"),
    "AMX": ("amx_int8", "int8"),
}
ARM_FEATURES = {
    "NEON": ("asimd neon", "everything"),
    "fp16": ("asimdhp fphp", "float16"),
    "dotprod": ("asimddp", "int8"),
    "i8mm": ("i8mm", "int8"),
    "bf16": ("bf16", ""),
    "SVE": ("sve", ""),
}
"""What counts -> (flags of /proc/cpuinfo, any of which says so; what it speeds up)."""

LITTLE_MEMORY_MB = 256


def is_x86(host: Host) -> bool:
    """Whether it is a PC's processor."""
    return host.machine in ("x86_64", "i686", "i586", "i386", "AMD64")


def cpu_features(host: Host) -> tuple[list[str], list[str]]:
    """Return which of the features that count this CPU has, and which it lacks."""
    flags = set((_cpuinfo(host, "flags" if is_x86(host) else "Features") or "").split())
    if not flags:  # not to be seen, as under an emulator that shows its host's
        return [], []
    table = X86_FEATURES if is_x86(host) else ARM_FEATURES
    has = [name for name, (names, _) in table.items() if flags.intersection(names.split())]
    return has, [name for name in table if name not in has]


def virtual(host: Host) -> bool:
    """Whether an x86 kernel knows that it runs in a virtual machine."""
    return "hypervisor" in (_cpuinfo(host, "flags") or "").split()


def _cpuinfo(host: Host, key: str) -> str | None:
    found = re.search(rf"^{key}\s*:\s*(.*)$", host.text("/proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else None


def board(host: Host) -> str:
    """Return the model of the board or the computer."""
    model = host.text("/proc/device-tree/model")
    if not model:
        parts = [host.text(f"/sys/class/dmi/id/{name}") or "" for name in ("sys_vendor", "product_name")]
        model = " ".join(part for part in parts if part)
    return model or f"{host.machine} {'virtual machine' if virtual(host) else 'machine'}"


def jetson_release(host: Host) -> str | None:
    """Return the release of NVIDIA's Linux, like "L4T 36.3.0"; None where this is no Jetson."""
    found = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", host.text("/etc/nv_tegra_release") or "")
    return f"L4T {found[1]}.{found[2]}" if found else None


def system(host: Host) -> Iterator[Finding]:
    """The board and its operating system."""
    release = dict(line.split("=", 1) for line in host.lines("/etc/os-release") if "=" in line)
    name = release.get("PRETTY_NAME", "Linux").strip('"')
    kernel = host.text("/proc/sys/kernel/osrelease") or platform.release()
    parts = [board(host), jetson_release(host), name, f"kernel {kernel}"]
    facts: dict[str, Any] = {"board": board(host), "os": name, "kernel": kernel, "machine": host.machine}
    yield ok("system", ", ".join(part for part in parts if part), **facts)


def python(host: Host) -> Iterator[Finding]:
    """The interpreter: its version, its width against the kernel's, and whether it is a virtual environment."""
    version = platform.python_version()
    facts: dict[str, Any] = {"version": version, "bits": host.bits, "executable": sys.executable, "prefix": sys.prefix}
    environment = sys.prefix != sys.base_prefix
    where = f"virtual environment {sys.prefix}" if environment else f"no virtual environment ({sys.executable})"
    found = f"{version}, {host.bits}-bit, {where}"
    narrow = host.bits == 32 and host.machine in ("x86_64", "aarch64")
    if narrow:
        found = f"{version}: a 32-bit Python on a 64-bit kernel ({host.machine}), for which LiteRT has no wheels"
        yield warning("Python", found, "install the 64-bit system image (Raspberry Pi OS 64-bit)", **facts)
    else:
        yield ok("Python", found, **facts)


def cpu(host: Host) -> Iterator[Finding]:
    """The cores, how many of them may be used, and what they can do."""
    has, lacks = cpu_features(host)
    table = X86_FEATURES if is_x86(host) else ARM_FEATURES
    present = len(re.findall(r"^processor\s*:", host.text("/proc/cpuinfo") or "", re.MULTILINE)) or host.affinity
    limit = cgroup_cores(host)
    usable = min([host.affinity, *([limit] if limit is not None else [])])
    found = f"{present} x {_cpu_name(host)}"
    if usable < present:
        why = "this process is bound to them" if usable == host.affinity else "a control group's limit"
        found += f"; {usable:g} usable ({why})"
    gains = list(dict.fromkeys(table[name][1] for name in has))
    said = [f"{' '.join(n for n in has if table[n][1] == gain)}" + f" for {gain}" * bool(gain) for gain in gains]
    found += f"; {', '.join(said)}" if said else ""
    facts: dict[str, Any] = {"cores": present, "usable_cores": usable, "features": has, "lacks": lacks}
    if is_x86(host) and "AVX2" in lacks:
        mend = "give the virtual machine the CPU of its host (QEMU: -cpu host)" if virtual(host) else ""
        yield warning("CPU", f"{found}; no AVX2: several times slower than a CPU that has it", mend, **facts)
    elif "NEON" in lacks:
        yield warning("CPU", f"{found}; no NEON: very slow, and most wheels will crash", **facts)
    elif limit is not None and limit < 1:
        yield warning("CPU", found, "raise CPUQuota= of the service, or --cpus of the container", **facts)
    else:
        yield ok("CPU", found, **facts)


def _cpu_name(host: Host) -> str:
    text = host.text("/proc/cpuinfo") or ""
    pairs = re.findall(r"^CPU implementer\s*:\s*(\w+)(?:.*\n)+?^CPU part\s*:\s*(\w+)", text, re.MULTILINE)
    names = [ARM_CORES.get((int(a, 0), int(b, 0)), f"Arm core {a}:{b}") for a, b in pairs]
    if names:
        return " and ".join(dict.fromkeys(names))
    name = _cpuinfo(host, "model name") or host.machine
    return re.sub(r"\s+|\((R|TM)\)", " ", name).replace("  ", " ").partition(" @ ")[0].strip()


def _cgroups(host: Host) -> Iterator[str]:
    """Yield the folders of this process's control group and of those above it, version 2."""
    for line in host.lines("/proc/self/cgroup"):
        if line.startswith("0::"):
            name = line[3:].rstrip("/")
            for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                parts = name
                while True:
                    yield mount + parts
                    if not parts:
                        break
                    parts = parts.rpartition("/")[0]


def cgroup_cores(host: Host) -> float | None:
    """Return how many cores' time the control groups allow; None where they set no limit."""
    limits = []
    for folder in _cgroups(host):
        quota, _, period = (host.text(f"{folder}/cpu.max") or "max").partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):
            limits.append(int(quota) / int(period))
    quota_us, period_us = (host.number(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota_us and quota_us > 0 and period_us:
        limits.append(quota_us / period_us)
    return min(limits, default=None)


def memory(host: Host) -> Iterator[Finding]:
    """Memory, the control groups' limit of it, and swap."""
    table = dict(re.findall(r"^(\w+):\s+(\d+) kB$", host.text("/proc/meminfo") or "", re.MULTILINE))
    if "MemTotal" not in table:
        yield warning("memory", "cannot be read from /proc/meminfo")
        return
    total, free, swap = (int(table.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable", "SwapTotal"))
    limits = [host.number(f"{folder}/memory.max") for folder in _cgroups(host)]
    limits.append(host.number("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    limit = min((number for number in limits if number is not None and number < total), default=None)
    devices = [line.split()[0] for line in host.lines("/proc/swaps")[1:] if line.split()]
    kind = "zram" if devices and all("zram" in name for name in devices) else "swap"
    found = f"{size(free)} of {size(total)} free; " + (f"{size(swap)} {kind}" if swap else "no swap")
    if limit is not None:
        found += f"; a control group allows {size(limit)}"
    facts: dict[str, Any] = {
        "total_bytes": total,
        "available_bytes": free,
        "swap_bytes": swap,
        "swap_kind": kind if swap else None,
    }
    facts["limit_bytes"] = limit
    if min(free, limit or free) < LITTLE_MEMORY_MB * 2**20:
        mend = "end other programs" if swap else "sudo apt install zram-tools"
        yield warning("memory", f"{found}: little for a camera and a model", mend, **facts)
    else:
        yield ok("memory", found, **facts)
