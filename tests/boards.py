"""A Debian for another processor, run by QEMU in a folder: a Raspberry Pi as far as programs can tell.

What it needs: root, and the Debian packages mmdebstrap and qemu-user-static. Nothing outside of the folder changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ARCHITECTURES = {
    # Debian's name: QEMU's name, and the platforms of wheels that its C library takes
    "arm64": ("aarch64", ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")),
    "armhf": ("arm", ("manylinux_2_34_armv7l", "manylinux_2_31_armv7l", "manylinux2014_armv7l")),
}

_BIN = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")

# LiteRT asks the cpuinfo library what the processor can, and that reads these files: without them it goes on without
# XNNPACK, ten times slower and with other rounding than any real board. (All of the host's /sys would crash it.)
_CORES = "0-3\n"
_CPUINFO = """processor\t: {core}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


@dataclass(frozen=True)
class Board:
    """A root folder and the processor that it is run on.

    Attributes:
        root: The folder.
        architecture: A key of `ARCHITECTURES`.
        python: Version of its Python, "3.11".
    """

    root: Path
    architecture: str
    python: str

    def run(self, *command: object, cpu: str | None = None, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a program of the board.

        Args:
            command: Path in the board, and arguments.
            cpu: QEMU's name of the processor; "cortex-a72" is that of a Raspberry Pi 4, "cortex-a76" of a 5.
            timeout: Seconds.
        """
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONPATH": "/opt/py", "LC_ALL": "C.UTF-8"}
        emulator = ["/qemu", *(["-cpu", cpu] if cpu else [])]
        return subprocess.run(
            [_tool("chroot"), str(self.root), *emulator, *map(str, command)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
        )

    def edge(self, *arguments: object, cpu: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the `edge` command."""
        return self.run(f"/usr/bin/python{self.python}", "-m", "edge", *arguments, cpu=cpu)

    def put(self, path: Path) -> str:
        """Copy a file or a folder into the board; returns its path there."""
        target = self.root / "tmp" / path.name
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, target)
        return f"/tmp/{path.name}"

    def install(self, *packages: str, dependencies: bool = True) -> None:
        """Install wheels for the board with the host's pip; skips the test where they cannot be had."""
        platforms = [word for name in ARCHITECTURES[self.architecture][1] for word in ("--platform", name)]
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade"]
        command += ["--target", str(self.root / "opt" / "py"), "--python-version", self.python]
        command += ["--implementation", "cp", "--only-binary=:all:", *platforms]
        command += [] if dependencies else ["--no-deps"]
        done = subprocess.run([*command, *packages], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{', '.join(packages)} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")


def _plain_mirror() -> list[str]:
    """Return the first mirror of the host's own that has no security updates; none where apt knows none."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    known = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    return [uri for uri in known if "security" not in uri][:1]


def debian(folder: Path, suite: str, architecture: str, python: str, *packages: str) -> Board:
    """Make a board with a minimal Debian and its Python; skips the test where that is impossible.

    Args:
        folder: Where it goes.
        suite: Debian's release, "bookworm".
        architecture: A key of `ARCHITECTURES`.
        python: The version that this release has.
        packages: More Debian packages.
    """
    if os.geteuid() != 0:
        pytest.skip("a board needs root, for chroot")
    emulator = shutil.which(f"qemu-{ARCHITECTURES[architecture][0]}-static")
    bootstrap = shutil.which("mmdebstrap")
    if emulator is None or bootstrap is None:
        pytest.skip("a board needs the Debian packages mmdebstrap and qemu-user-static")
    root = folder / f"{suite}-{architecture}"
    command = [bootstrap, "--quiet", "--variant=extract", f"--architectures={architecture}"]
    wanted = ",".join(("python3", "libstdc++6", *packages))
    # All of the host's mirrors first, then the one without security updates: those may be in the middle of an update.
    for mirror in ([], _plain_mirror()):
        shutil.rmtree(root, ignore_errors=True)
        full = [*command, f"--include={wanted}", suite, str(root), *mirror]
        done = subprocess.run(full, capture_output=True, text=True)
        if not done.returncode:
            break
    if done.returncode:
        pytest.skip(f"Debian {suite} for {architecture} cannot be made: {done.stderr.strip().splitlines()[-1:]}")
    for name in ("lib", "bin", "sbin"):
        if not (root / name).exists():  # base-files makes them, which is not among the packages
            (root / name).symlink_to(f"usr/{name}")
    shutil.copy(emulator, root / "qemu")
    for name in ("tmp", "dev", "proc", "sys/devices/system/cpu"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present"):
        (root / "sys/devices/system/cpu" / name).write_text(_CORES)
    (root / "proc/cpuinfo").write_text("".join(_CPUINFO.format(core=core) for core in range(4)))
    return Board(root, architecture, python)


def wheel(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return next(folder.glob("*.whl"))


def _tool(name: str) -> str:
    return shutil.which(name, path=os.pathsep.join(_BIN)) or name
