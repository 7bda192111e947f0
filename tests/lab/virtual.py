"""A virtual machine with a kernel of Debian's, whose files are those of this machine, read-only.

It has what this machine's own kernel may lack: drivers that can be loaded, and devices that can be unplugged.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

BUSYBOX = "/tmp/guest/busybox"
"""Inside."""

_BOOT = ["virtio_pci", "9pnet_virtio", "9p"]

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
for module in {modules}; do /bin/busybox insmod /modules/$module; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=524288 host /host || echo NO HOST
for place in proc sys dev; do /bin/busybox mount -o bind /$place /host/$place; done
for place in tmp run; do /bin/busybox mount -t tmpfs none /host/$place; done
/bin/busybox mkdir -p /host/dev/shm
/bin/busybox mount -t tmpfs none /host/dev/shm
/bin/busybox ip link set lo up
/bin/busybox cp -r /guest /host/tmp/guest
/bin/busybox cp /bin/busybox /host/tmp/guest/busybox
/bin/busybox chroot /host /bin/sh /tmp/guest/run
echo "exit code: $?"
/bin/busybox poweroff -f
"""


class VirtualMachine:
    """Downloads kernel and busybox, and runs scripts in a machine made of them."""

    def __init__(self, folder: Path) -> None:
        """Prepare; skips the test where that is impossible."""
        self._folder = folder
        self._wanted: set[str] = set()
        if shutil.which("qemu-system-x86_64") is None:
            pytest.skip("no qemu-system-x86_64: install Debian's qemu-system-x86")
        kernel = _ask("apt-cache", "depends", "linux-image-amd64")
        names = [word for word in kernel.split() if word.startswith("linux-image-") and word != "linux-image-amd64"]
        if not names:
            pytest.skip("apt knows no kernel of Debian's")
        done = subprocess.run(
            ["apt-get", "download", names[0], "busybox-static"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"the kernel cannot be downloaded: {done.stderr.strip().splitlines()[-1:]}")
        self._root = folder / "kernel"
        for archive in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(self._root)], check=True)
            archive.unlink()
        self._busybox = self._root / "bin" / "busybox"
        self._modules = next((self._root / "lib" / "modules").iterdir())
        subprocess.run([self._busybox, "depmod", "-b", self._root, self._modules.name], check=True)
        lines = (self._modules / "modules.dep").read_text().splitlines()
        self._needs = {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}

    def insmod(self, name: str, *options: str) -> str:
        """Return the shell lines that load a module and what it needs."""
        files = self._chain(name)
        self._wanted.update(files)
        # What it needs may be loaded already.
        lines = [f"{BUSYBOX} insmod /tmp/guest/{os.path.basename(path)} 2>/dev/null" for path in files[:-1]]
        return "\n".join([*lines, f"{BUSYBOX} insmod /tmp/guest/{os.path.basename(files[-1])} {' '.join(options)}"])

    def _chain(self, name: str) -> list[str]:
        """Return a module's file and those that it needs, in the order of loading."""
        path = next(path for path in self._needs if path.endswith(f"/{name}.ko"))
        found: list[str] = []

        def add(one: str) -> None:
            for other in self._needs[one]:
                add(other)
            if one not in found:
                found.append(one)

        add(path)
        return found

    def run(self, script: str, files: dict[str, str], timeout_s: float = 600) -> str:
        """Run a shell script as root, and return what the machine's console showed.

        Args:
            script: Begins in /; /tmp and /run are empty, everything else is this machine's, read-only.
            files: Name -> content, in /tmp/guest.
            timeout_s: For all of it.
        """
        boot = list(dict.fromkeys(path for name in _BOOT for path in self._chain(name)))
        entries: dict[str, bytes | None] = dict.fromkeys(
            ("bin", "proc", "sys", "dev", "host", "guest", "modules"), None
        )
        entries["bin/busybox"] = self._busybox.read_bytes()
        entries["init"] = _INIT.format(modules=" ".join(os.path.basename(path) for path in boot)).encode()
        for path in boot:
            entries[f"modules/{os.path.basename(path)}"] = (self._modules / path).read_bytes()
        for path in self._wanted:
            entries[f"guest/{os.path.basename(path)}"] = (self._modules / path).read_bytes()
        entries["guest/run"] = script.encode()
        for name, content in files.items():
            entries[f"guest/{name}"] = content.encode()
        image = self._folder / "initramfs.gz"
        image.write_bytes(gzip.compress(_cpio(entries), 1))
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048", "-nodefaults"]
        command += ["-display", "none", "-serial", "stdio", "-no-reboot"]
        command += ["-kernel", str(next(self._root.glob("boot/vmlinuz*"))), "-initrd", str(image)]
        command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]
        command += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _cpio(entries: dict[str, bytes | None]) -> bytes:
    """Return an archive in the form that the kernel unpacks; None stands for a folder."""
    parts = []
    for number, (name, content) in enumerate([*entries.items(), ("TRAILER!!!", b"")]):
        mode = stat.S_IFDIR | 0o755 if content is None else stat.S_IFREG | 0o755
        body = content or b""
        fields = (number, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name.encode() + b"\0"
        parts += [head, bytes(-len(head) % 4), body, bytes(-len(body) % 4)]
    return b"".join(parts)
