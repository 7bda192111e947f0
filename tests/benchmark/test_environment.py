from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_fakes import QUIET, Clock, write_proc

from edge.benchmark.environment import (
    Environment,
    Load,
    describe_machine,
    governors,
    idle_load,
    load_between,
    read_times,
    usable_cores,
    warnings,
)
from edge.device import DeviceReadings


def around(
    before: Load | None = None,
    during: Load | None = None,
    interrupted: float | None = None,
    policies: tuple[str, ...] = (),
    after: DeviceReadings = QUIET,
) -> Environment:
    return Environment(4, before, during, interrupted, policies, QUIET, after)


def test_a_quiet_machine_is_not_warned_of() -> None:
    assert warnings(around(Load(0.02, 0.0, 1.0), Load(0.05, 0.001, 60.0), 3.0, ("schedutil (cpufreq-dt)",))) == []
    assert warnings(around()) == []


def test_others_are_what_neither_we_nor_nobody_did(tmp_path: Path) -> None:
    clock = Clock()
    write_proc(tmp_path, busy=1000, own=400)
    start = read_times(tmp_path, clock)
    clock.now = 2.0
    # 5 s of CPU time more, 1.5 s of it ours, in 2 s.
    write_proc(tmp_path, busy=1500, own=550, steal=20)
    load = load_between(start, read_times(tmp_path, clock), cores=2)
    assert load is not None
    assert load.others_cores == pytest.approx(1.75)
    assert load.stolen_share == pytest.approx(0.05)
    assert load.seconds == 2


def test_a_busy_machine_is_seen_in_a_second_of_doing_nothing(tmp_path: Path) -> None:
    clock = Clock()
    write_proc(tmp_path, busy=1000, own=400)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        write_proc(tmp_path, busy=1130, own=400)

    load = idle_load(1.0, tmp_path, sleep, clock)
    assert load is not None and load.others_cores == pytest.approx(1.3)
    (said,) = warnings(around(before=load))
    assert "other programs used 1.3 of 4 cores while nothing was measured" in said


def test_work_of_ours_alone_is_no_load(tmp_path: Path) -> None:
    clock = Clock()
    write_proc(tmp_path, busy=1000, own=400)
    start = read_times(tmp_path, clock)
    clock.now = 1.0
    write_proc(tmp_path, busy=1198, own=600)  # ticks are counted at different moments
    load = load_between(start, read_times(tmp_path, clock), 2)
    assert load is not None and load.others_cores == 0


@pytest.mark.parametrize("content", ["", "cpu", "cpu a b c d", "cpu 1 2 3"])
def test_a_kernel_that_shows_nothing_is_left_out(tmp_path: Path, content: str) -> None:
    assert read_times(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/stat").write_text(content)
    (tmp_path / "proc/self/stat").write_text("broken")
    assert read_times(tmp_path) is None
    assert load_between(None, None, 4) is None


def test_load_that_came_meanwhile_is_told_as_such() -> None:
    (said,) = warnings(around(before=Load(0.0, 0.0, 1.0), during=Load(0.8, 0.0, 30.0)))
    assert "0.8 of 4 cores meanwhile" in said


def test_a_hypervisor_that_takes_time_is_told() -> None:
    (said,) = warnings(around(during=Load(0.0, 0.2, 30.0)))
    assert "kept 20%" in said


def test_threads_that_wait_for_cores_are_told() -> None:
    (said,) = warnings(around(interrupted=900.0))
    assert "900 times a second" in said


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("powersave (cpufreq-dt)", True),
        ("powersave", True),
        ("powersave (intel_pstate)", False),
        ("powersave (amd-pstate-epp)", False),
        ("ondemand (cpufreq-dt)", False),
    ],
)
def test_a_clock_held_low_is_told(policy: str, told: bool) -> None:
    assert bool(warnings(around(policies=(policy,)))) == told


def test_governors_are_read_once_each(tmp_path: Path) -> None:
    for number, name in enumerate(("ondemand", "ondemand", "powersave")):
        folder = tmp_path / f"sys/devices/system/cpu/cpufreq/policy{number}"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n")
        (folder / "scaling_driver").write_text("cpufreq-dt\n")
    assert governors(tmp_path) == ("ondemand (cpufreq-dt)", "powersave (cpufreq-dt)")
    assert governors(tmp_path / "nothing") == ()


def test_heat_that_slowed_the_device_is_told() -> None:
    hot = DeviceReadings({"cpu-thermal": 85.0}, {"thermal-cpufreq-0": True, "undervoltage": False}, {}, {})
    (said,) = warnings(around(after=hot))
    assert said == "the device was slowed down after the measurement: thermal-cpufreq-0"


def test_a_board_is_called_what_its_device_tree_says(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    (tmp_path / "proc/meminfo").write_text("MemTotal:        3884632 kB\nMemFree: 1 kB\n")
    found = describe_machine(tmp_path)
    assert found["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["memory_mb"] == 3793
    assert found["cores"] == usable_cores()
