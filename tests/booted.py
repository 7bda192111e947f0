"""A real systemd for tests: booted in namespaces on a copy of this machine's files, gone with the test.

It takes root, Debian's systemd package, and a kernel that lets overlays and cgroups be mounted; `reason_not` says what
is missing. The machine has a network of its own with a loopback only, and no devices but the standard ones.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

BOOT = Path(__file__).with_name("boot_systemd.sh")
NAMESPACES = ("--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup")


def reason_not() -> str | None:
    """Return why no systemd can be booted here."""
    if os.geteuid() != 0:
        return "booting a systemd takes root"
    missing = [
        tool
        for tool in ("unshare", "nsenter", "setpriv", "systemctl", "pivot_root", "ip")
        if shutil.which(tool) is None
    ]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"booting a systemd takes {', '.join(missing) or 'systemd'} (apt install systemd util-linux iproute2)"
    if not _cgroup_root():
        return "there is no cgroup2 hierarchy here"
    done = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"namespaces are not allowed here: {done.stderr.strip()}"


def _cgroup_root() -> Path | None:
    for folder in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (folder / "cgroup.procs").exists() and (folder / "cgroup.controllers").exists():
            return folder
    return None


class Booted:
    """A running systemd."""

    def __init__(self, folder: Path, root: Path = Path("/"), shown: Sequence[Path] = ()) -> None:
        """Prepare.

        Args:
            folder: For what it needs while it runs; empty.
            root: The file system of which it gets a copy: this machine's, or one with another systemd.
            shown: Folders of this machine that it sees, too.
        """
        self._arguments = [str(path) for path in (root, *shown)]
        self._log = folder / "console.txt"
        self._base = folder / "booted"
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup: Path | None = None
        self.pid = 0

    def __enter__(self) -> Booted:
        root = _cgroup_root()
        assert root is not None
        self._cgroup = root / f"edge-booted-{os.getpid()}"
        self._cgroup.mkdir()
        self._base.mkdir(exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                # It ends with this process, however that ends.
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "sh",
                    "-c",
                    'echo $$ > "$1/cgroup.procs" && shift && exec "$@"',
                    "sh",
                    str(self._cgroup),
                ]
                + ["unshare", *NAMESPACES, "--kill-child", str(BOOT), str(self._base), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._await_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _await_boot(self) -> None:
        deadline = time.monotonic() + 60
        state = ""
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"it did not boot: {self._log.read_text(errors='replace')[-2000:]}")
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
                self.pid = int(children[0])
                state = self.run("systemctl is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise AssertionError(f"it did not boot: {state!r}, {self._log.read_text(errors='replace')[-2000:]}")

    def __exit__(self, *_: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        if self._process is not None:
            if not self.pid:
                self._process.kill()
            self._process.wait(20)
        assert self._cgroup is not None
        deadline = time.monotonic() + 10
        while self._cgroup.exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:  # its processes are still on their way out
                    time.sleep(0.05)

    def run(
        self, command: str, check: bool = True, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside, as root, with nothing of this process's environment."""
        assert self.pid
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"} | environment
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
            + ["--root", "--wdns=/", "sh", "-c", command],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=variables,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a `kill 0` inside stays there
        )
        if check:
            assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file inside."""
        self._put(path, text.encode(), mode)

    def copy(self, path: Path, target: str, mode: str = "644") -> None:
        """Copy a file of this machine in."""
        self._put(target, path.read_bytes(), mode)

    def _put(self, path: str, data: bytes, mode: str) -> None:
        subprocess.run(
            ["nsenter", "--target", str(self.pid), "--mount", "--root", "--wdns=/"]
            + ["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"', "sh", path, mode],
            input=data,
            check=True,
        )

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run(f"systemctl show {unit} --property={name} --value").stdout.strip()

    def journal(self, unit: str) -> str:
        """Return the log of a unit."""
        return self.run(f"journalctl --unit={unit} --no-pager --output=short-precise").stdout

    def files(self) -> set[str]:
        """Return the paths of all files outside /usr, the folders that change by themselves, and Python's caches."""
        skip = (
            "/proc /sys /dev /usr /run/udev /run/systemd /run/log /var/log /var/lib/systemd /var/tmp /tmp /work /root"
        )
        prune = " -o ".join(f"-path {path}" for path in skip.split())
        found = self.run(f"find / \\( {prune} -o -name __pycache__ \\) -prune -o -print")
        return set(found.stdout.splitlines())

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.run("journalctl --no-pager --lines=60 --output=cat").stdout
            time.sleep(0.1)
