"""Checks on machines made of files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from doctor.machines import OPENCV, RUNTIME, done, failed, fake, jetson_orin, link, only, pc, raspberry_pi_5, write

from edge.doctor import accelerators, cameras, machine, opencv, power, running, service, storage
from edge.doctor.finding import State
from edge.doctor.isolate import Ending, Outcome

OK, WARNING, MISSING = State.OK, State.WARNING, State.MISSING


def test_raspberry_pi(tmp_path: Path) -> None:
    host = fake(raspberry_pi_5(tmp_path), commands={"vcgencmd get_throttled": "throttled=0x0\n"})
    assert only(machine.system(host)).found == (
        "Raspberry Pi 5 Model B Rev 1.0, Debian GNU/Linux 12 (bookworm), kernel 6.6.31+rpt-rpi-2712"
    )
    cpu = only(machine.cpu(host))
    assert (cpu.state, cpu.found) == (OK, "4 x Cortex-A76; NEON for everything, fp16 for float16, dotprod for int8")
    assert cpu.facts["lacks"] == ["i8mm", "bf16", "SVE"]
    assert only(machine.memory(host)).found == "7.0 GB of 7.9 GB free; 100 MB swap"
    assert only(power.temperature(host)).found == "52 °C (cpu-thermal)"
    assert only(power.supply(host)).state is OK
    assert only(power.clock_speed(host)).found == "1500 of 2400 MHz, governor ondemand"
    disk = only(storage.disks(host))
    assert disk.facts["sd_card"] and "an SD card" in disk.found


def test_jetson(tmp_path: Path) -> None:
    host = fake(jetson_orin(tmp_path), affinity=6)
    assert only(machine.system(host)).found.startswith(
        "NVIDIA Jetson Orin Nano Developer Kit, L4T 36.3.0, Ubuntu 22.04.4 LTS, kernel "
    )
    assert only(machine.cpu(host)).found.startswith("6 x Cortex-A78AE; NEON")
    assert only(machine.memory(host)).found.endswith("zram")
    heat = only(power.temperature(host))
    assert heat.facts["zones_c"] == {"cpu-thermal": 47.5}  # the other sensor sleeps
    mode = only(power.supply(host))
    assert (mode.state, mode.name) == (WARNING, "power mode") and mode.mend.startswith("sudo nvpmodel -m 0 ")
    csi = only(cameras.connectors(host))
    assert csi.state is WARNING and "imx219 9-0010; OpenCV lacks GStreamer" in csi.found


def test_pc(tmp_path: Path) -> None:
    host = fake(pc(tmp_path), "x86_64", affinity=8)
    assert only(machine.system(host)).found.startswith("LENOVO 20LS, ")
    cpu = only(machine.cpu(host))
    assert cpu.found == "8 x Intel Core i5-8250U CPU; AVX2 FMA for float32, F16C for float16 weights"
    assert cpu.facts["lacks"] == ["AVX-512", "VNNI", "AMX"]
    # intel_pstate's powersave follows the load.
    assert only(power.clock_speed(host)).state is OK
    assert list(cameras.connectors(host)) == []


def test_a_pc_without_avx2(tmp_path: Path) -> None:
    write(tmp_path, {"/proc/cpuinfo": "processor\t: 0\nmodel name\t: QEMU Virtual CPU\nflags\t\t: sse2 hypervisor\n"})
    found = only(machine.cpu(fake(tmp_path, "x86_64")))
    assert found.state is WARNING and "no AVX2" in found.found and "-cpu host" in found.mend


def test_a_cpu_that_cannot_be_seen(tmp_path: Path) -> None:
    """qemu shows the processor of its host, of another architecture."""
    found = only(machine.cpu(fake(pc(tmp_path), "aarch64")))
    assert (found.state, found.facts["features"], found.facts["lacks"]) == (OK, [], [])


def test_an_arm_without_neon(tmp_path: Path) -> None:
    write(tmp_path, {"/proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv6\nFeatures\t: half thumb vfp\n"})
    found = only(machine.cpu(fake(tmp_path, "armv7l")))
    assert found.state is WARNING and "no NEON" in found.found


@pytest.mark.parametrize(("machine_name", "state"), [("aarch64", WARNING), ("armv7l", OK)])
def test_a_narrow_python(tmp_path: Path, machine_name: str, state: State) -> None:
    found = only(machine.python(fake(tmp_path, machine_name, bits=32)))
    assert found.state is state and "32-bit" in found.found


@pytest.mark.parametrize(
    ("limit", "usable", "state"), [("200000 100000", 2, OK), ("50000 100000", 0.5, WARNING), ("max 100000", 4, OK)]
)
def test_cores_of_a_control_group(tmp_path: Path, limit: str, usable: float, state: State) -> None:
    root = raspberry_pi_5(tmp_path)
    # Set on a group above the process's own.
    write(root, {"/sys/fs/cgroup/user.slice/cpu.max": limit})
    found = only(machine.cpu(fake(root)))
    assert math.isclose(found.facts["usable_cores"], usable) and found.state is state
    assert ("control group" in found.found) == (usable < 4)


def test_cores_of_an_old_control_group(tmp_path: Path) -> None:
    folder = "/sys/fs/cgroup/cpu"
    files = {f"{folder}/cpu.cfs_quota_us": "150000", f"{folder}/cpu.cfs_period_us": "100000"}
    assert machine.cgroup_cores(fake(write(tmp_path, files))) == 1.5
    write(tmp_path, {f"{folder}/cpu.cfs_quota_us": "-1"})
    assert machine.cgroup_cores(fake(tmp_path)) is None


def test_cores_that_the_process_is_bound_to(tmp_path: Path) -> None:
    found = only(machine.cpu(fake(raspberry_pi_5(tmp_path), affinity=1)))
    assert "; 1 usable (this process is bound to them)" in found.found


def test_little_memory(tmp_path: Path) -> None:
    files = {"/proc/meminfo": "MemTotal: 440000 kB\nMemAvailable: 90000 kB\nSwapTotal: 0 kB\n"}
    found = only(machine.memory(fake(write(tmp_path, files))))
    assert found.state is WARNING and "88 MB of 430 MB free; no swap" in found.found and "zram" in found.mend


def test_memory_of_a_control_group(tmp_path: Path) -> None:
    root = write(raspberry_pi_5(tmp_path), {"/sys/fs/cgroup/user.slice/memory.max": str(128 * 2**20)})
    found = only(machine.memory(fake(root)))
    assert found.state is WARNING and "a control group allows 128 MB" in found.found


@pytest.mark.parametrize(
    ("bits", "said", "mend"),
    [
        ("0x50005", "now the supply voltage is too low, it is throttled", "power supply"),
        ("0x50000", "since it started the supply voltage was too low, it was throttled", "power supply"),
        ("0x80008", "now it is near the temperature limit", "fan"),
        ("0x20002", "now the clock is capped", "fan"),
    ],
)
def test_throttling(tmp_path: Path, bits: str, said: str, mend: str) -> None:
    host = fake(raspberry_pi_5(tmp_path), commands={"vcgencmd get_throttled": f"throttled={bits}\n"})
    found = only(power.supply(host))
    assert (found.state, found.found) == (WARNING, said) and mend in found.mend


def test_undervoltage_where_the_firmware_is_not_asked(tmp_path: Path) -> None:
    root = write(raspberry_pi_5(tmp_path), {"/sys/class/hwmon/hwmon2/in0_lcrit_alarm": "1\n"})
    found = only(power.supply(fake(root)))  # vcgencmd fails: no permission for /dev/vcio
    assert found.state is WARNING and "voltage is too low" in found.found


def test_heat(tmp_path: Path) -> None:
    root = write(raspberry_pi_5(tmp_path), {"/sys/class/thermal/thermal_zone0/temp": "83500\n"})
    assert only(power.temperature(fake(root))).state is WARNING
    assert only(power.temperature(fake(tmp_path / "nothing"))).state is MISSING


@pytest.mark.parametrize(
    ("file", "value", "said"),
    [("scaling_governor", "powersave", "its lowest"), ("scaling_max_freq", "1000000", "capped at 1000 MHz")],
)
def test_slow_clock(tmp_path: Path, file: str, value: str, said: str) -> None:
    root = write(raspberry_pi_5(tmp_path), {f"/sys/devices/system/cpu/cpufreq/policy0/{file}": value})
    found = only(power.clock_speed(fake(root)))
    assert found.state is WARNING and said in found.found and "sudo tee" in found.mend


# Disks and the clock.


def test_read_only_root(tmp_path: Path) -> None:
    root = write(raspberry_pi_5(tmp_path), {"/proc/self/mounts": "/dev/mmcblk0p2 / ext4 ro,noatime 0 0\n"})
    found = only(storage.disks(fake(root)))
    assert found.state is WARNING and "read-only" in found.found and found.mend == "sudo mount -o remount,rw /"


def test_overlay_root(tmp_path: Path) -> None:
    files = {"/proc/self/mounts": "overlayroot / overlay rw 0 0\n", "/media/root-ro/x": ""}
    *_, last = storage.disks(fake(write(raspberry_pi_5(tmp_path), files)))
    assert last.state is WARNING and "lost" in last.found


def test_mount_that_holds_a_folder(tmp_path: Path) -> None:
    mounts = (
        "/dev/a / ext4 rw 0 0\n/dev/b /data ext4 rw 0 0\n/dev/c /data ext4 ro 0 0\n/dev/d /my\\040disk xfs rw 0 0\n"
    )
    host = fake(write(tmp_path, {"/proc/self/mounts": mounts}))

    def device(folder: str) -> str:
        mount = storage.mount_of(host, folder)
        assert mount is not None
        return mount.device

    assert [device(f) for f in ("/data/x", "/data", "/database", "/my disk/y")] == [
        "/dev/c",
        "/dev/c",
        "/dev/a",
        "/dev/d",
    ]


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize, f_blocks, f_flag = 1000, 4096, 10**6, 0
        f_files, f_favail = 1000, 900

    monkeypatch.setattr(storage.os, "statvfs", lambda path: Full)
    found = only(storage.disks(fake(pc(tmp_path))))
    assert found.state is WARNING and "4 MB of 3.8 GB free" in found.found
    Full.f_bavail, Full.f_favail = 10**6, 3
    found = only(storage.disks(fake(tmp_path)))
    assert found.state is WARNING and "3 inodes" in found.found


def test_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    found = only(storage.temporary(fake(tmp_path)))
    assert found.fatal and "No space left on device" in found.found


@pytest.mark.parametrize(
    ("seconds", "synchronised", "state", "said"),
    [
        (1_790_000_000, True, OK, "synchronised; no clock chip"),
        (1_790_000_000, None, OK, "is not known"),
        (1_790_000_000, False, WARNING, "without a clock chip it is wrong"),
        (10_000, False, WARNING, "cannot be"),
    ],
)
def test_clock(tmp_path: Path, seconds: float, synchronised: bool | None, state: State, said: str) -> None:
    host = fake(tmp_path, time=lambda: seconds, synchronised=lambda: synchronised)
    found = only(storage.clock(host))
    assert found.state is state and said in found.found


# The model.


def test_a_runtime_without_xnnpack(tmp_path: Path) -> None:
    outcome = done(**{**RUNTIME, "delegated": 0, "partitions": 0})
    *_, model = running.runtime(fake(tmp_path, outcomes={"runtime": outcome}))
    assert model.state is WARNING and "0 of 281 operators in 0 XNNPACK partitions" in model.found


@pytest.mark.parametrize(
    ("machine_name", "mend"), [("armv7l", "pip install 'numpy<2'"), ("x86_64", "pip install ai-edge-litert")]
)
def test_tflite_runtime_beside_numpy_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_name: str, mend: str
) -> None:
    monkeypatch.setattr(running, "_version", {"numpy": "2.4.6", "tflite-runtime": "2.14.0"}.get)
    outcome = failed("no TFLite runtime works here (...)", "loading the runtime", "MissingDependencyError")
    found = only(running.runtime(fake(tmp_path, machine_name, outcomes={"runtime": outcome})))
    assert found.fatal and found.mend == mend and "needs NumPy 1, found 2.4.6" in found.found


def test_a_model_that_computes_something_else_is_fatal(tmp_path: Path) -> None:
    outcome = done(passed=False, summary="self-test FAILED on LiteRT", pictures=3, boxes="0 of 2")
    found = only(running.selftest(fake(tmp_path, outcomes={"selftest": outcome})))
    assert found.fatal and "do not trust results here" in found.found


def test_opencv_without_videos(tmp_path: Path) -> None:
    host = fake(tmp_path, outcomes={"opencv": done(**{**OPENCV, "ffmpeg": False})})
    found = only(opencv.opencv(host))
    assert (found.state, found.fatal) == (WARNING, False) and "no videos and network streams" in found.found
    host = fake(tmp_path, outcomes={"video": done(mp4=True, h264=False)})
    assert "H.264 is not decoded" in only(opencv.video(host)).found


# Cameras.

WEBCAM = {
    "path": "",
    "driver": "uvcvideo",
    "card": "HD Pro Webcam C920",
    "bus": "usb-0000:01:00.0-1",
    "kind": "capture",
    "busy": False,
    "users": [],
    "formats": [
        {"fourcc": "YUYV", "width": 2304, "height": 1536, "fps": 2.0},
        {"fourcc": "MJPG", "width": 1920, "height": 1080, "fps": 30.0},
    ],
}


def video(kind: str = "capture", driver: str = "uvcvideo", **more: Any) -> dict[str, Any]:
    return {**WEBCAM, "kind": kind, "driver": driver, **more}


def with_videos(root: Path, *devices: dict[str, Any], **given: Any) -> Any:
    write(root, {f"/dev/video{n}": "" for n in range(len(devices))})
    return fake(root, outcomes={"cameras": done(devices=list(devices)), **given.pop("outcomes", {})}, **given)


def test_cameras_among_other_nodes(tmp_path: Path) -> None:
    root = raspberry_pi_5(tmp_path)
    link(root, "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0", "../../video0")
    host = with_videos(
        root,
        video(),
        video("metadata"),
        video(driver="rp1-cfe"),
        video("codec", "rpi-hevc-dec"),
        video(driver="pispbe"),
    )
    camera, others = cameras.cameras(host)
    assert camera.found == (
        "/dev/video0: HD Pro Webcam C920; MJPG 1920x1080 at 30, YUYV 2304x1536 at 2; survives a restart as "
        "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0"
    )
    assert camera.facts["stable_name"].endswith("C920-video-index0")
    assert others.facts == {"metadata": 1, "receiver": 1, "picture processing": 2}


def test_no_permission_for_cameras(tmp_path: Path) -> None:
    host = with_videos(tmp_path, video(), closed=frozenset({"/dev/video0"}), owners={"/dev/video0": "video"})
    found = only(cameras.cameras(host))
    assert (found.state, found.needed) == (MISSING, False)
    assert found.mend.startswith("sudo usermod -aG video $USER")


def test_a_camera_that_another_program_uses(tmp_path: Path) -> None:
    found = only(cameras.cameras(with_videos(tmp_path, video(busy=True, users=["motion (process 812)"]))))
    assert found.state is WARNING and found.found.endswith("in use by motion (process 812)")


@pytest.mark.parametrize(
    ("errno", "said"), [("EBUSY", "another program"), ("EACCES", "container"), ("EIO", "does not answer")]
)
def test_a_camera_that_cannot_be_asked(tmp_path: Path, errno: str, said: str) -> None:
    device = {"path": "/dev/video0", "error": "some error", "errno": errno}
    found = only(cameras.cameras(with_videos(tmp_path, device)))
    assert found.state is WARNING and said in found.found


def test_a_camera_whose_driver_hangs(tmp_path: Path) -> None:
    hung = Outcome(Ending.HUNG, {}, "asking /dev/video0 what it is", "hangs while asking /dev/video0 what it is")
    host = fake(write(tmp_path, {"/dev/video0": ""}), outcomes={"cameras": hung})
    assert "asking /dev/video0" in only(cameras.cameras(host)).found


@pytest.mark.parametrize(("dark", "state"), [(False, OK), (True, WARNING)])
def test_a_frame_is_read_when_asked_for(tmp_path: Path, dark: bool, state: State) -> None:
    frame = done(width=640, height=480, took_ms=400, dark=dark)
    host = with_videos(tmp_path, video(), outcomes={"frame": frame}, read_frames=True)
    _, found = cameras.cameras(host)
    assert found.name == "frame" and found.state is state and "640x480 after 400 ms" in found.found


def test_a_usb_camera_without_its_driver(tmp_path: Path) -> None:
    files = {"/sys/bus/usb/devices/1-1:1.0/bInterfaceClass": "0e\n"}
    assert only(cameras.cameras(fake(write(tmp_path, files)))).mend == "sudo modprobe uvcvideo"
    assert only(cameras.cameras(fake(tmp_path / "other"))).state is MISSING


LISTED = (
    "Available cameras\n-----------------\n0 : imx708 [4608x2592 10-bit RGGB] (/base/axi/pcie@120000/i2c/imx708@1a)\n"
)


@pytest.mark.parametrize(
    ("listed", "loads", "state", "said"),
    [
        (LISTED, {"loads": True, "problem": None, "absent": False}, OK, "imx708 4608x2592; picamera2 loads"),
        (LISTED, {"loads": False, "problem": "no", "absent": True}, WARNING, "is not installed"),
        (LISTED, {"loads": False, "problem": "bad libcamera", "absent": False}, WARNING, "fails: bad libcamera"),
        ("No cameras available!\n", {}, MISSING, "no camera on the connector"),
        (None, {}, WARNING, "fails or hangs"),
    ],
)
def test_a_raspberry_pis_connector(
    tmp_path: Path, listed: str | None, loads: dict[str, Any], state: State, said: str
) -> None:
    root = write(raspberry_pi_5(tmp_path), {"/usr/bin/rpicam-hello": ""})
    host = fake(root, outcomes={"picamera2": done(**loads)}, commands={"rpicam-hello --list-cameras": listed})
    found = only(cameras.connectors(host))
    assert found.state is state and said in found.found


def test_picamera2_outside_the_virtual_environment(tmp_path: Path) -> None:
    root = raspberry_pi_5(tmp_path)
    write(root, {"/usr/bin/rpicam-hello": "", "/usr/lib/python3/dist-packages/picamera2/__init__.py": ""})
    loads = done(loads=False, problem="No module named 'picamera2'", absent=True)
    host = fake(root, outcomes={"picamera2": loads}, commands={"rpicam-hello --list-cameras": LISTED})
    assert "--system-site-packages" in only(cameras.connectors(host)).mend


# Accelerators.

NO_ADAPTER = failed("delegate gpu: no GPU found that Vulkan offers; install its driver", "starting the GPU")


def test_gpu_without_a_driver(tmp_path: Path) -> None:
    found = only(accelerators.gpu(fake(pc(tmp_path), "x86_64", outcomes={"gpu": NO_ADAPTER})))
    assert (found.state, found.needed) == (MISSING, False)
    assert found.mend == "sudo apt install mesa-vulkan-drivers"


def test_gpu_without_permission(tmp_path: Path) -> None:
    node = "/dev/dri/renderD128"
    host = fake(pc(tmp_path), outcomes={"gpu": NO_ADAPTER}, closed=frozenset({node}), owners={node: "render"})
    found = only(accelerators.gpu(host))
    assert found.state is WARNING and found.mend.startswith("sudo usermod -aG render $USER")


def test_gpu_that_no_driver_offers(tmp_path: Path) -> None:
    files = {"/usr/share/vulkan/icd.d/intel.json": '{"ICD": {"library_path": "libvulkan_intel.so"}}'}
    found = only(accelerators.gpu(fake(write(pc(tmp_path), files), outcomes={"gpu": NO_ADAPTER})))
    assert found.facts["vulkan_drivers"] == {"/usr/share/vulkan/icd.d/intel.json": "libvulkan_intel.so"}
    assert found.mend == "vulkaninfo --summary"


@pytest.mark.parametrize(
    ("adapter_type", "milliseconds", "state", "said"),
    [
        ("Discrete GPU", 4.0, OK, "Some GPU runs the bundled model in 4.0 ms (CPU: 21.5 ms)"),
        ("Integrated GPU", 40.0, OK, "slower than the CPU"),
        ("CPU / Software", 40.0, WARNING, "in software"),
    ],
)
def test_gpu_that_runs(tmp_path: Path, adapter_type: str, milliseconds: float, state: State, said: str) -> None:
    value = done(adapter="Some GPU", adapter_type=adapter_type, inference_ms=milliseconds, runs=9, description="GPU")
    host = fake(pc(tmp_path), outcomes={"gpu": value})
    host.attempt("runtime")
    found = only(accelerators.gpu(host))
    assert found.state is state and said in found.found


def test_a_driver_that_crashes_is_a_line(tmp_path: Path) -> None:
    crash = Outcome(Ending.CRASHED, {}, "starting the GPU", "crashed with SIGSEGV while starting the GPU", "SIGSEGV")
    found = only(accelerators.gpu(fake(pc(tmp_path), outcomes={"gpu": crash})))
    assert (found.state, found.needed) == (MISSING, False) and "SIGSEGV" in found.found


def coral(root: Path, speed: str = "5000", ids: tuple[str, str] = ("18d1", "9302")) -> Path:
    folder = "/sys/bus/usb/devices/2-1"
    values = {"idVendor": ids[0], "idProduct": ids[1], "speed": speed, "busnum": "2", "devnum": "3"}
    return write(root, {f"{folder}/{name}": f"{value}\n" for name, value in values.items()})


TPU = {"library": True, "started": True, "reason": ""}


@pytest.mark.parametrize(
    ("speed", "outcome", "state", "said"),
    [
        ("5000", TPU, OK, "USB 2-1: starts"),
        ("480", TPU, WARNING, "on a USB 2 port (480 Mbit/s)"),
        ("5000", {**TPU, "started": False, "reason": "no device found"}, MISSING, "does not start (no device found)"),
        (
            "5000",
            {"library": False, "started": False, "reason": "no such file"},
            MISSING,
            "libedgetpu.so.1 does not load",
        ),
    ],
)
@pytest.mark.parametrize("ids", list(accelerators.USB_IDS))
def test_coral_on_usb(
    tmp_path: Path, speed: str, outcome: dict[str, Any], state: State, said: str, ids: tuple[str, str]
) -> None:
    host = fake(coral(tmp_path, speed, ids), outcomes={"edgetpu": done(**outcome)})
    found = only(accelerators.edgetpu(host))
    assert found.state is state and said in found.found and not found.needed


def test_coral_without_permission(tmp_path: Path) -> None:
    node = "/dev/bus/usb/002/003"
    outcomes = {"edgetpu": done(**{**TPU, "started": False})}
    host = fake(coral(tmp_path), outcomes=outcomes, closed=frozenset({node}), owners={node: "plugdev"})
    assert only(accelerators.edgetpu(host)).mend.startswith("sudo usermod -aG plugdev $USER")


def test_coral_on_pcie(tmp_path: Path) -> None:
    card = "/sys/bus/pci/devices/0000:01:00.0"
    root = write(tmp_path, {f"{card}/vendor": "0x1ac1\n", f"{card}/device": "0x089a\n"})
    found = only(accelerators.edgetpu(fake(root, outcomes={"edgetpu": done(**{**TPU, "started": False})})))
    assert found.state is MISSING and found.mend.startswith("sudo apt install gasket-dkms")
    write(root, {"/dev/apex_0": ""})
    found = only(accelerators.edgetpu(fake(root, outcomes={"edgetpu": done(**TPU)})))
    assert (found.state, found.found) == (OK, "PCIe /dev/apex_0: starts")


def test_no_coral(tmp_path: Path) -> None:
    other = coral(tmp_path, ids=("046d", "082d"))  # a webcam
    outcomes = {"edgetpu": done(library=False, started=False, reason="")}
    found = only(accelerators.edgetpu(fake(other, outcomes=outcomes)))
    assert (found.state, found.needed) == (MISSING, False) and "none connected" in found.found


def test_groups(tmp_path: Path) -> None:
    root = write(pc(tmp_path), {"/dev/video0": ""})
    found = only(accelerators.permissions(fake(root)))
    assert (found.facts["member"], found.facts["lacks"]) == (["video"], ["render"])
    assert found.mend.startswith("sudo usermod -aG render $USER")
    # /etc/group knows it already; this session does not.
    found = only(accelerators.permissions(fake(root, groups=frozenset({105}))))
    assert (found.state, found.mend) == (WARNING, "log in again")
    assert only(accelerators.permissions(fake(root, groups=frozenset({44, 105})))).state is OK
    assert only(accelerators.permissions(fake(root, superuser=True, groups=frozenset({0})))).state is OK


# The service.

UNIT = "/etc/systemd/system/edge.service"
SHOW = "systemctl show edge.service -p ActiveState,SubState,Result,NRestarts,UnitFileState"


@pytest.mark.parametrize(
    ("shown", "state", "said", "mend"),
    [
        ("ActiveState=active\nSubState=running\nUnitFileState=enabled\nNRestarts=0", OK, "active (running)", ""),
        ("ActiveState=active\nSubState=running\nUnitFileState=enabled\nNRestarts=7", OK, "restarted 7 times", ""),
        ("ActiveState=active\nSubState=running\nUnitFileState=disabled", WARNING, "not start with", "enable edge"),
        ("ActiveState=failed\nSubState=failed\nResult=watchdog", WARNING, "watchdog", "journalctl -u edge.service"),
        ("ActiveState=inactive\nSubState=dead", WARNING, "inactive (dead)", "enable --now"),
        (None, WARNING, "unknown", "enable --now"),
    ],
)
def test_service(tmp_path: Path, shown: str | None, state: State, said: str, mend: str) -> None:
    root = write(raspberry_pi_5(tmp_path), {UNIT: "[Service]\nExecStart=/x/python -P -m edge run /etc/edge.toml\n"})
    found = only(service.service(fake(root, commands={SHOW: shown})))
    assert found.state is state and said in found.found and mend in found.mend


def test_a_service_of_a_user(tmp_path: Path) -> None:
    root = raspberry_pi_5(tmp_path)
    write(root, {"/home/pi/.config/systemd/user/yard.service": "ExecStart=/x/python -P -m edge run a.toml\n"})
    show = SHOW.replace("systemctl show edge", "systemctl --user show yard")
    host = fake(root, commands={show: "ActiveState=failed\nResult=signal"}, environ={"HOME": "/home/pi"})
    found = only(service.service(host))
    assert (found.state, found.mend) == (WARNING, "journalctl --user -u yard.service -n 50")


def test_no_service(tmp_path: Path) -> None:
    assert "systemd does not run" in only(service.service(fake(tmp_path))).found
    root = write(raspberry_pi_5(tmp_path / "pi"), {"/etc/systemd/system/edge-lights.service": "ExecStart=/bin/x\n"})
    found = only(service.service(fake(root)))  # that one is another program's
    assert (found.state, found.needed) == (MISSING, False) and "none is installed" in found.found


def test_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "numpy<3,>=1.26",
        "prometheus-client>=0.20; extra == 'service'",
        "pyyaml>=6; extra == 'evaluate'",
        "edge-pipeline[evaluate]; extra == 'all'",
        "tensorflow>=2.20; extra == 'convert'",
    ]
    monkeypatch.setattr(service.importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(service, "_installed", lambda name: name == "pyyaml")
    assert service.extras() == {"service": ["prometheus-client"], "evaluate": ["pyyaml"]}
    found = only(service.optional(fake(tmp_path, outcomes={"imports": done(pyyaml=None)})))
    mend = "pip install 'edge-pipeline[service]'"
    assert (found.state, found.found) == (OK, f"evaluate installed; not installed: service ({mend})")
    found = only(service.optional(fake(tmp_path, outcomes={"imports": done(pyyaml="bad magic number")})))
    assert found.state is WARNING and "bad magic number" in found.found
    monkeypatch.setattr(service, "_installed", lambda name: False)
    found = only(service.optional(fake(tmp_path, outcomes={"imports": done()})))
    assert (found.state, found.mend) == (MISSING, "pip install 'edge-pipeline[service,evaluate]'")
