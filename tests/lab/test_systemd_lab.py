"""`edge service` and `edge run` under a real systemd, booted in namespaces (see booted.py).

Nothing stands in for anything: the command installs, systemd starts, watches, ends and restarts, a camera of this
machine sends pictures, a delegate in C hangs. Time limits are made short by a drop-in. The first test, of a life from
the installation to the removal, belongs to every run; the others are for the laboratory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted import Booted, reason_not
from c_delegate import build_delegate
from fixtures import tiny_detector

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
EDGE = f"{sys.executable} -m edge"
PORT = 9001

CAMERA = f"""
import sys, time
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT)!r}]
from fixtures import paint
from mjpeg import MjpegCamera
camera = MjpegCamera(paint([("red", 0, 0)]), 10, {PORT})
while True:
    time.sleep(60)
"""

CONFIG = """
[service]
stuck_s = 2

[models.default]
{model}

[cameras.front]
source = "http://127.0.0.1:9001/cam"

[sinks.log]
kind = "json"
path = "/var/lib/edge/detections/{{camera}}.jsonl"
flush_s = 0
"""

AWAY = """
[cameras.away]
source = "rtsp://user:hunter2@127.0.0.1:9/x"
"""

FAST = """
[Service]
WatchdogSec=3
RestartSec=200ms
RestartMaxDelaySec=300ms
TimeoutAbortSec=2
"""

LATER = 'path = "/etc/edge/m.tflite"\ndelegate = "/etc/edge/libd.so?fail=hang&after={after}"'


@pytest.fixture(scope="module", params=["here", pytest.param("newer", marks=pytest.mark.lab)])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """This machine's systemd, and that of the Debian after it (257: notify-reload, restart steps)."""
    if reason := reason_not():
        pytest.skip(reason)
    places = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    if any(path.is_relative_to("/tmp") for path in places):
        pytest.skip("a service does not see this checkout: it lies in /tmp")
    folder = tmp_path_factory.mktemp("systemd")
    library = build_delegate(folder)
    model = tiny_detector().save(folder / "m.tflite")
    root, shown = Path("/"), []
    if request.param == "newer":
        root = newer_debian(tmp_path_factory.mktemp("debian") / "root")
        shown = sorted(p for p in places if not any(p != other and p.is_relative_to(other) for other in places))
    with Booted(folder, root, shown) as booted:
        done = booted.run(f"{sys.executable} -c 'import edge.cli.app, edge.pipeline'", check=False)
        if done.returncode:
            pytest.skip(f"edge does not run there: {done.stderr.splitlines()[-1]}")
        booted.copy(library, "/etc/edge/libd.so", "755")
        booted.copy(model, "/etc/edge/m.tflite")
        booted.write("/root/camera.py", CAMERA)
        booted.run(f"systemd-run --quiet --unit=camera {sys.executable} /root/camera.py")
        booted.run("useradd --create-home pi")
        yield booted


def newer_debian(folder: Path) -> Path:
    """Return the files of a Debian with a newer systemd."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed (apt install mmdebstrap)")
    packages = "systemd,systemd-sysv,dbus,libpam-systemd,iproute2,passwd,util-linux,libgl1,libglib2.0-0t64,libxcb1"
    command = ["mmdebstrap", "--variant=minbase", f"--include={packages}", "trixie", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no trixie from the Debian mirror: {done.stderr.splitlines()[-1]}")
    return folder


@pytest.fixture
def service(machine: Booted) -> Iterator[Booted]:
    """A machine without the service, before and after."""
    yield machine
    machine.run(f"{EDGE} service uninstall --purge", check=False)
    machine.run(
        "rm -rf /etc/edge/edge.toml /etc/edge/credentials /etc/systemd/system/edge.service*; journalctl --rotate"
    )
    machine.run("journalctl --vacuum-time=1s")


def configure(machine: Booted, model: str = "", more: str = "", fast: bool = True) -> None:
    machine.write("/etc/edge/edge.toml", CONFIG.format(model=model) + more)
    if fast:
        machine.write("/etc/systemd/system/edge.service.d/fast.conf", FAST)


def restarts(machine: Booted) -> int:
    return int(machine.show("edge", "NRestarts"))


def pid(machine: Booted) -> int:
    found = int(machine.show("edge", "MainPID"))
    assert found
    return found


def detections(machine: Booted) -> list[str]:
    return machine.run("cat /var/lib/edge/detections/front.jsonl", check=False).stdout.splitlines()


def test_from_install_to_uninstall(service: Booted) -> None:
    configure(service, more=AWAY, fast=False)
    before = service.files()
    said = service.run(f"{EDGE} service install").stdout
    assert "edge.service works: " in said
    assert service.show("edge", "ActiveState") == "active"
    assert service.show("edge", "UnitFileState") == "enabled"
    assert service.show("edge", "MemoryDenyWriteExecute") == "yes"

    service.until(lambda: len(detections(service)) > 5)
    service.until(lambda: "1 of 2 cameras online" in service.show("edge", "StatusText"))
    status = service.run(f"{EDGE} service status")
    assert "active (running)" in status.stdout and "1 of 2 cameras online" in status.stdout
    facts = json.loads(service.run(f"{EDGE} service status --json").stdout)
    assert (facts["active"], facts["restarts"], facts["pid"]) == ("active", 0, pid(service))
    process = service.run(f"cat /proc/{pid(service)}/status").stdout
    assert "CapEff:\t0000000000000000" in process and "Seccomp:\t2" in process and "Uid:\t0" not in process
    assert "hunter2" not in service.journal("edge")

    first = pid(service)
    service.run(f"kill -SEGV {first}")
    service.until(lambda: restarts(service) == 1 and service.show("edge", "ActiveState") == "active")
    assert pid(service) != first

    service.run("systemctl stop edge")
    assert service.show("edge", "Result") == "success"
    assert service.show("edge", "ExecMainCode") == "1"  # CLD_EXITED: nothing had to kill it
    assert service.show("edge", "ExecMainStatus") == "0"
    for line in detections(service):
        json.loads(line)
    assert service.run(f"{EDGE} service status", check=False).returncode == 3

    said = service.run(f"{EDGE} service uninstall").stdout
    assert "/var/lib/edge stays with its files; to remove it: sudo rm -r /var/lib/private/edge /var/lib/edge" in said
    assert service.run(f"{EDGE} service status", check=False).returncode == 4
    left = service.files() - before
    assert left and all(path.startswith(("/var/lib/edge", "/var/lib/private", "/run/private")) for path in left)

    service.run(f"{EDGE} service install")
    service.run(f"{EDGE} service uninstall --purge")
    assert service.files() - before <= {"/var/lib/private", "/var/cache/private", "/run/private"}
    # systemd removes a folder of links that was empty before.
    assert before - service.files() <= {"/etc/systemd/system/multi-user.target.wants"}


@pytest.mark.lab
def test_a_crash_is_followed_by_a_start_and_the_log_says_where_it_was(service: Booted) -> None:
    configure(service)
    service.run(f"{EDGE} service install")
    first = pid(service)
    service.run(f"kill -SEGV {first}")
    service.until(lambda: restarts(service) == 1 and service.show("edge", "ActiveState") == "active")
    assert pid(service) != first
    assert "Fatal Python error: Segmentation fault" in service.journal("edge")


@pytest.mark.lab
def test_a_process_that_is_frozen_is_started_again(service: Booted) -> None:
    configure(service)
    service.run(f"{EDGE} service install")
    service.run(f"kill -STOP {pid(service)}")
    service.until(lambda: restarts(service) == 1 and service.show("edge", "ActiveState") == "active")
    assert "Fatal Python error: Aborted" in service.journal("edge")


@pytest.mark.lab
def test_an_inference_that_hangs_is_named_and_ended_by_the_watchdog(service: Booted) -> None:
    configure(service, LATER.format(after=30))
    service.run(f"{EDGE} service install")
    service.until(lambda: restarts(service) >= 1)
    log = service.journal("edge")
    assert "model default: an inference has been running for" in log
    assert "in invoke" in log[log.index("Fatal Python error: Aborted") :]


@pytest.mark.lab
def test_a_stop_does_not_wait_for_an_inference_that_hangs(service: Booted) -> None:
    configure(service, LATER.format(after=30), fast=False)
    service.run(f"{EDGE} service install")
    service.until(lambda: "hangs" in service.journal("edge"))
    service.run("systemctl stop edge")
    assert service.show("edge", "Result") == "success"  # neither "timeout" nor "watchdog"
    assert service.show("edge", "ExecMainStatus") == "0"


@pytest.mark.lab
def test_it_is_not_ready_before_the_first_pass(service: Booted) -> None:
    configure(service, LATER.format(after=0))
    service.write("/etc/systemd/system/edge.service.d/start.conf", "[Service]\nTimeoutStartSec=6\n")
    done = service.run(f"{EDGE} service install", check=False)
    assert done.returncode == 4
    assert "edge.service is installed and does not start: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "running:" not in service.journal("edge")


@pytest.mark.lab
def test_a_camera_that_is_away_starves_no_watchdog(service: Booted) -> None:
    service.write("/etc/edge/edge.toml", "[service]\nstuck_s = 2\n" + AWAY)
    service.write("/etc/systemd/system/edge.service.d/fast.conf", FAST)
    service.run(f"{EDGE} service install")
    first = pid(service)
    service.run("sleep 9")  # three times the watchdog's limit
    assert (restarts(service), pid(service)) == (0, first)
    assert service.show("edge", "StatusText") == "0 of 1 cameras online, 0.0 frames/s"


@pytest.mark.lab
def test_a_reload_keeps_the_process_and_refuses_what_is_wrong(service: Booted) -> None:
    configure(service)
    service.run(f"{EDGE} service install")
    first = pid(service)
    configure(service, more=AWAY)
    service.run("systemctl reload edge")
    service.until(lambda: "configuration reloaded" in service.journal("edge"))
    service.until(lambda: "of 2 cameras" in service.show("edge", "StatusText"))
    service.write("/etc/edge/edge.toml", "[cameras.x]\n")
    service.run("systemctl reload edge")
    service.until(lambda: "the configuration that runs goes on" in service.journal("edge"))
    service.until(lambda: service.show("edge", "ActiveState") == "active")
    assert pid(service) == first
    # And systemd is told so: the watchdog is fed all the while.
    service.run("sleep 5")
    assert (restarts(service), service.show("edge", "ActiveState")) == (0, "active")


@pytest.mark.lab
def test_a_broken_configuration_reaches_the_limit_of_starts_and_a_good_one_ends_that(service: Booted) -> None:
    configure(service)
    service.run(f"{EDGE} service install")
    service.write("/etc/edge/edge.toml", "[cameras.x]\n")
    refused = service.run(f"{EDGE} service install", check=False)
    assert refused.returncode == 2 and "edge.toml:1: cameras.x" in refused.stderr
    assert service.show("edge", "ActiveState") == "active"  # what ran goes on
    service.run("systemctl restart edge", check=False)
    service.until(lambda: service.show("edge", "ActiveState") == "failed")
    status = service.run(f"{EDGE} service status", check=False)
    assert status.returncode == 3
    assert "failed" in status.stdout and "edge.toml:1: cameras.x" in status.stdout
    configure(service)
    service.run(f"{EDGE} service install")
    assert service.show("edge", "ActiveState") == "active"


PROBE = """
import ctypes, errno, json, mmap, os, socket
found = {}
def attempt(name, call):
    try:
        call()
        found[name] = "ok"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, function)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), function)
for name in ("video0", "dri", "usb", "event0", "mem", "kmsg"):
    attempt("/dev/" + name, lambda: os.close(os.open("/dev/" + name, os.O_RDWR)))
attempt("write /var/lib/edge", lambda: open("/var/lib/edge/x", "w").close())
attempt("write /tmp", lambda: open("/tmp/x", "w").close())
attempt("write /etc", lambda: open("/etc/edge/x", "w").close())
attempt("write /usr", lambda: open("/usr/x", "w").close())
attempt("write /proc/sys", lambda: open("/proc/sys/kernel/hostname", "w").close())
attempt("cpuinfo", lambda: open("/proc/cpuinfo").close())
attempt("process 1", lambda: open("/proc/1/status").close())
attempt("internet", lambda: socket.socket(socket.AF_INET6).close())
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close())
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close())
attempt("namespace", lambda: call("unshare", 0x10000000))
attempt("affinity", lambda: os.sched_setaffinity(0, {0}))
attempt("code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
found["home"] = sorted(os.listdir("/home"))
print("FOUND", json.dumps(found))
"""


@pytest.mark.lab
def test_what_the_sandbox_allows(service: Booted) -> None:
    configure(service, fast=False)
    service.run("for n in 'video0 81 0' 'dri 226 128' 'usb 189 0'; do set -- $n; mknod /dev/$1 c $2 $3; done")
    service.run("chgrp video /dev/video0 /dev/dri /dev/usb; chmod 660 /dev/video0 /dev/dri /dev/usb")
    service.run("mknod -m 666 /dev/event0 c 13 64; mknod -m 666 /dev/mem c 1 1; mknod -m 666 /dev/kmsg c 1 11")
    service.write("/etc/edge/probe.py", PROBE)
    service.write(
        "/etc/systemd/system/edge.service.d/probe.conf",
        f"[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart={sys.executable} -P /etc/edge/probe.py\n",
    )
    service.run(f"{EDGE} service install", check=False)
    service.until(lambda: "FOUND" in service.journal("edge"))
    line = next(line for line in service.journal("edge").splitlines() if "FOUND" in line)
    found = json.loads(line.partition("FOUND ")[2])
    assert found.pop("code") in ("EPERM", "EACCES")
    # There is no such hardware here: what the kernel says when the door is open, and nobody behind it.
    nobody = {"ENXIO", "ENODEV"}
    assert {found.pop(f"/dev/{name}") for name in ("video0", "dri", "usb")} <= nobody
    assert found == {
        "/dev/event0": "EPERM",
        "/dev/mem": "EPERM",
        "/dev/kmsg": "EACCES",
        "write /var/lib/edge": "ok",
        "write /tmp": "ok",
        "write /etc": "EROFS",
        "write /usr": "EROFS",
        "write /proc/sys": "EROFS",
        "cpuinfo": "ok",
        "process 1": "ENOENT",
        "internet": "ok",
        "netlink": "ok",
        "packet": "EAFNOSUPPORT",
        "namespace": "EPERM",
        "affinity": "EPERM",
        "home": [],
    }


@pytest.mark.lab
def test_a_gpu_in_a_unit_that_was_not_made_for_one_is_refused_before_its_driver_crashes(service: Booted) -> None:
    configure(service)
    service.run(f"{EDGE} service install")
    first = pid(service)
    configure(service, 'delegate = "gpu"')
    service.until(lambda: "configuration reloaded" in service.journal("edge"))
    service.until(lambda: "model default fell back to the CPU" in service.show("edge", "StatusText"))
    assert "MemoryDenyWriteExecute" in service.journal("edge")
    assert pid(service) == first
    service.run(f"{EDGE} service install")
    assert service.show("edge", "MemoryDenyWriteExecute") == "no"


@pytest.mark.lab
def test_a_user_with_a_name_writes_where_it_may_and_reads_a_secret_of_root(service: Booted) -> None:
    service.run("install -d -o pi /srv/video /home/pi/video")
    service.write("/etc/edge/credentials/CAM", "hunter2\n", "600")
    text = (
        CONFIG.format(model="").replace("http://", "http://u:${CAM}@").replace("/var/lib/edge/detections", "{folder}")
    )
    for folder in ("/srv/video", "/home/pi/video"):
        service.write("/etc/edge/edge.toml", text.replace("{folder}", folder))
        refused = service.run(f"{EDGE} service install", check=False)
        assert refused.returncode == 2 and "may not write to" in refused.stderr
        service.run(f"{EDGE} service install --user pi")
        service.until(lambda folder=folder: service.run(f"test -s {folder}/front.jsonl", check=False).returncode == 0)
        assert service.run(f"stat -c %U {folder}/front.jsonl").stdout == "pi\n"
    assert "hunter2" not in service.journal("edge")


@pytest.mark.lab
def test_an_installation_in_a_closed_home_is_shown_to_a_user_without_a_name(service: Booted) -> None:
    configure(service)
    service.run(f"{sys.executable} -m venv --without-pip /home/pi/venv")
    packages = f"/home/pi/venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    mine = next(path for path in sys.path if path.endswith("site-packages"))
    service.write(f"{packages}/those.pth", f"{ROOT}\n{mine}\n")
    service.run("chmod 700 /home/pi; echo secret > /home/pi/secret")
    service.run("/home/pi/venv/bin/python -m edge service install")
    seen = service.run(f"nsenter --target {pid(service)} --mount ls -A /home/pi").stdout
    assert seen == "venv\n"


@pytest.mark.lab
def test_a_service_of_a_user(service: Booted) -> None:
    service.run("chmod 755 /root; systemctl start user@$(id -u pi)")
    own = "runuser -u pi -- env XDG_RUNTIME_DIR=/run/user/$(id -u pi) HOME=/home/pi"
    if service.run(f"{own} {sys.executable} -c 'import edge'", check=False).returncode:
        pytest.skip(f"another user cannot run {sys.executable}")
    service.write("/home/pi/.config/edge/edge.toml", CONFIG.format(model="").replace("/var/lib/edge/detections", "out"))
    service.run("chown -R pi /home/pi")
    before = service.files()
    assert "needs root: sudo" in service.run(f"{own} {EDGE} service install", check=False).stderr
    said = service.run(f"{own} {EDGE} service install --user-scope").stdout
    assert "at boot only after: sudo loginctl enable-linger pi" in said
    service.until(lambda: service.run("test -s /home/pi/.config/edge/out/front.jsonl", check=False).returncode == 0)
    status = service.run(f"{own} {EDGE} service status --user-scope").stdout
    assert "active (running)" in status
    service.run(f"{own} {EDGE} service uninstall --user-scope")
    assert service.run(f"{own} {EDGE} service status --user-scope", check=False).returncode == 4
    left = service.files() - before
    assert {path for path in left if not path.startswith(("/home/pi/.config/edge/out", "/run/user"))} <= {
        "/home/pi/.config/systemd",
        "/home/pi/.config/systemd/user",
    }


@pytest.mark.lab
def test_a_unit_of_somebody_else_is_left_alone(service: Booted) -> None:
    configure(service)
    theirs = "[Service]\nExecStart=/bin/true\n"
    service.write("/etc/systemd/system/edge.service", theirs)
    for command in ("install", "uninstall"):
        done = service.run(f"{EDGE} service {command}", check=False)
        assert done.returncode == 2 and "was not written by edge" in done.stderr
    assert service.run("cat /etc/systemd/system/edge.service").stdout == theirs
    service.run("rm /etc/systemd/system/edge.service")
