"""GPU, Edge TPU, and the permission to use them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from edge.doctor.finding import Finding, missing, ok, one_line, warning
from edge.doctor.host import Host
from edge.doctor.isolate import Ending
from edge.doctor.trouble import unfinished

USB_IDS = {("1a6e", "089a"): "not started yet", ("18d1", "9302"): "started"}
"""(vendor, product) of a Coral USB accelerator: it has another name once its firmware was loaded."""

PCI_ID = ("0x1ac1", "0x089a")
"""Vendor and device of a Coral on PCIe or M.2."""

_USB3_MBITS = 5000
_REPOSITORY = "libedgetpu1-std"


def drivers(host: Host) -> dict[str, str]:
    """Return the Vulkan drivers that are installed: file -> library."""
    given = host.environ.get("VK_DRIVER_FILES") or host.environ.get("VK_ICD_FILENAMES")
    files = given.split(":") if given else []
    if not given:
        for folder in ("/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d"):
            files += host.find(f"{folder}/*.json")
    found = {}
    for name in files:
        try:
            found[name] = str(json.loads(host.text(name) or "")["ICD"]["library_path"])
        except (ValueError, KeyError, TypeError):
            found[name] = ""
    return found


def gpu(host: Host) -> Iterator[Finding]:
    """Whether the bundled model runs on a GPU."""
    runtime = host.known("runtime")
    nodes = host.find("/dev/dri/renderD*")
    installed = drivers(host)
    facts: dict[str, Any] = {"vulkan_drivers": installed, "render_nodes": nodes}
    if runtime is not None and runtime.ending is not Ending.DONE:
        yield missing("GPU", "not tried: it needs a runtime", **facts)
        return
    outcome = host.attempt("gpu")
    if outcome.ending is Ending.DONE:
        yield _runs(host, outcome.value, facts)
    elif outcome.ending is not Ending.FAILED:
        yield unfinished(host, "GPU", outcome)
    elif "no GPU found" not in outcome.problem:
        yield missing("GPU", one_line(outcome.problem.removeprefix("delegate gpu: ")), "", False, **facts)
    else:
        yield _no_adapter(host, nodes, installed, facts)


def _runs(host: Host, value: Mapping[str, Any], facts: dict[str, Any]) -> Finding:
    runtime = host.known("runtime")
    cpu_ms = runtime.value["inference_ms"] if runtime is not None else None
    facts = {**facts, **value}
    found = f"{value['adapter'] or 'a GPU'} runs the bundled model in {value['inference_ms']:.1f} ms"
    found += f" (CPU: {cpu_ms:.1f} ms)" if cpu_ms is not None else ""
    if "CPU" in (value["adapter_type"] or ""):
        return warning("GPU", f"{found}: a driver in software, no GPU; stay with delegate cpu", **facts)
    if cpu_ms is not None and value["inference_ms"] > cpu_ms:
        return ok("GPU", f"{found}; slower than the CPU for this model: measure yours", **facts)
    return ok("GPU", found, **facts)


def _no_adapter(host: Host, nodes: list[str], installed: dict[str, str], facts: dict[str, Any]) -> Finding:
    denied = [node for node in nodes if not host.may_use(node)]
    if denied:
        group = host.group_of(denied[0]) or "render"
        mend = f"sudo usermod -aG {group} $USER  # then log in again"
        return warning("GPU", f"no permission to use {denied[0]} (group {group})", mend, **facts)
    if host.exists("/proc/driver/nvidia/version") and not installed:
        return missing("GPU", "NVIDIA's driver is there, but its Vulkan part is not", "", False, **facts)
    if nodes and not installed:
        return missing("GPU", "no Vulkan driver is installed", "sudo apt install mesa-vulkan-drivers", False, **facts)
    if nodes:
        found = "the Vulkan driver offers no GPU that LiteRT can use"
        return missing("GPU", found, "vulkaninfo --summary", False, **facts)
    return missing("GPU", "none here; the CPU does the work", "", False, **facts)


class Coral(NamedTuple):
    """An Edge TPU that is connected.

    Attributes:
        where: For humans.
        node: The file by which it is used; None where its driver is missing.
        speed_mbits: Of its USB port; None on PCIe.
    """

    where: str
    node: str | None
    speed_mbits: int | None


def corals(host: Host) -> list[Coral]:
    """Return the Edge TPUs that the buses know."""
    found = []
    for vendor in host.find("/sys/bus/usb/devices/*/idVendor"):
        folder = vendor.rpartition("/")[0]
        if (host.text(vendor), host.text(f"{folder}/idProduct")) in USB_IDS:
            bus, device = host.number(f"{folder}/busnum"), host.number(f"{folder}/devnum")
            node = f"/dev/bus/usb/{bus:03}/{device:03}" if bus is not None and device is not None else None
            speed = (host.text(f"{folder}/speed") or "").partition(".")[0]
            found.append(Coral(f"USB {folder.rpartition('/')[2]}", node, int(speed) if speed.isdecimal() else None))
    nodes = host.find("/dev/apex_[0-9]*")
    found += [Coral(f"PCIe {node}", node, None) for node in nodes]
    cards = 0
    for vendor in host.find("/sys/bus/pci/devices/*/vendor"):
        folder = vendor.rpartition("/")[0]
        cards += (host.text(vendor), host.text(f"{folder}/device")) == PCI_ID
    found += [Coral("PCIe", None, None)] * (cards - len(nodes))
    return found


def edgetpu(host: Host) -> Iterator[Finding]:
    """Whether a Coral is connected, fast enough, permitted, and starts."""
    connected = corals(host)
    outcome = host.attempt("edgetpu", device=bool(connected))
    if outcome.ending is not Ending.DONE:
        yield unfinished(host, "Edge TPU", outcome)
        return
    library, started, reason = (outcome.value[key] for key in ("library", "started", "reason"))
    facts: dict[str, Any] = {
        "devices": [coral._asdict() for coral in connected],
        "library": library,
        "started": started,
    }
    if not connected:
        said = "libedgetpu is installed" if library else "libedgetpu is not installed either"
        yield missing("Edge TPU", f"none connected; {said}", "", False, **facts)
        return
    where = ", ".join(coral.where for coral in connected)
    driverless = [coral for coral in connected if coral.node is None]
    denied = [coral.node for coral in connected if coral.node is not None and not host.may_use(coral.node)]
    slow = [c for c in connected if c.speed_mbits is not None and c.speed_mbits < _USB3_MBITS]
    if driverless and "PCIe" in driverless[0].where:
        found = f"{where}: the card is there, /dev/apex_0 is not: its driver is missing"
        yield missing("Edge TPU", found, "sudo apt install gasket-dkms  # then restart", False, **facts)
    elif not library:
        found = f"{where}: connected, but libedgetpu.so.1 does not load ({one_line(reason, 120)})"
        yield missing("Edge TPU", found, f"sudo apt install {_REPOSITORY}  # from Coral's repository", False, **facts)
    elif denied:
        group = host.group_of(denied[0]) or ("apex" if "apex" in denied[0] else "plugdev")
        found = f"{where}: no permission to use {denied[0]} (group {group})"
        yield missing("Edge TPU", found, f"sudo usermod -aG {group} $USER  # then log in again", False, **facts)
    elif not started:
        found = f"{where}: does not start ({one_line(reason, 200)})"
        yield missing("Edge TPU", found, "unplug it and plug it in again", False, **facts)
    elif slow:
        found = f"{where}: starts, on a USB 2 port ({slow[0].speed_mbits} Mbit/s): pictures reach it slowly"
        yield warning("Edge TPU", found, "use a USB 3 port (blue) and a USB 3 cable", **facts)
    else:
        yield ok("Edge TPU", f"{where}: starts", **facts)


GROUPS = {
    "video": "/dev/video[0-9]*",
    "render": "/dev/dri/renderD*",
    "plugdev": "/dev/bus/usb/*/*",
    "apex": "/dev/apex_*",
}
"""Group -> what it opens on Debian, Ubuntu and Raspberry Pi OS."""


def permissions(host: Host) -> Iterator[Finding]:
    """Which of the groups that devices belong to this user is in."""
    if host.superuser:
        yield ok("groups", "root: every device may be used", superuser=True)
        return
    known = {name: number for name, number, _ in host.named_groups()}
    user = host.environ.get("USER", "")
    listed = [name for name, _, members in host.named_groups() if user and user in members]
    wanted = [name for name, devices in GROUPS.items() if name in known and host.find(devices)]
    member = [name for name in wanted if known[name] in host.groups]
    lacks = [name for name in wanted if name not in member]
    later = [name for name in lacks if name in listed]
    absent = [name for name in lacks if name not in listed]
    facts: dict[str, Any] = {"member": member, "lacks": lacks}
    if absent:
        mend = f"sudo usermod -aG {','.join(absent)} $USER  # then log in again"
        found = f"not in {', '.join(absent)}" + (f"; in {', '.join(member)}" if member else "")
        yield warning("groups", f"{found}: devices of theirs are closed to this user", mend, **facts)
    elif later:
        yield warning("groups", f"{', '.join(later)}: this user was added after logging in", "log in again", **facts)
    elif wanted:
        yield ok("groups", f"in {', '.join(member)}", **facts)
    else:
        yield ok("groups", "no device here asks for one", **facts)
