"""A V4L2 camera of a real driver (vivid), in a virtual machine: what is asked of it, unplugging and replugging it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from virtual import VirtualMachine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if shutil.which("v4l2-ctl") is None:
        pytest.skip("no v4l2-ctl: install Debian's v4l-utils")
    if ROOT.is_relative_to("/tmp") or Path(sys.prefix).is_relative_to("/tmp"):
        pytest.skip("the machine inside has a /tmp of its own, and would not see this checkout")
    machine = VirtualMachine(tmp_path_factory.mktemp("machine"))
    # A capture node and one for metadata, as cameras have them.
    nodes = ("n_devs=1", "node_types=0x20001")
    plug = machine.insmod("vivid", *nodes, "vid_cap_nr=0", "meta_cap_nr=1")
    script = f"{plug}\ncd {ROOT}\n{sys.executable} {ROOT}/tests/lab/v4l2_inside.py"
    out = machine.run(script, {"replug": machine.insmod("vivid", *nodes, "vid_cap_nr=5", "meta_cap_nr=6")})
    found = {}
    for line in out.splitlines():
        if line.startswith("RESULT "):
            _, name, value = line.split(" ", 2)
            found[name] = json.loads(value)
    assert "exit code: 0" in out, out[-4000:]
    return found


def test_a_camera_gives_what_is_asked_for(results: dict[str, Any]) -> None:
    found = results["open"]
    assert (found["size_wh"], found["shape"], found["fps"]) == ([640, 360], [360, 640, 3], 15)
    assert found["indices"] == [0, 2, 4, 6, 8]
    assert found["said"] == []
    assert found["spread"] > 100
    assert 0 <= found["ages_s"][0] < 5


def test_what_it_gives_instead_is_said(results: dict[str, Any]) -> None:
    found = results["other"]
    (line,) = found["said"]
    assert line.startswith("0: the camera gives ")
    assert "instead of MJPG" in line
    assert f"{found['size_wh'][0]}x{found['size_wh'][1]} instead of 1234x567" in line


def test_a_camera_in_use_and_a_side_channel_are_one_line(results: dict[str, Any]) -> None:
    assert "/dev/video0 is no capture device, or another program uses it" in results["busy"]
    assert results["side"] == (
        "/dev/video1: /dev/video1 is a side channel of the camera at /dev/video0 and gives no pictures; use /dev/video0"
    )


def test_a_camera_that_is_unplugged_comes_back_under_another_number(results: dict[str, Any]) -> None:
    found = results["replug"]
    assert (found["outages"], found["reconnects"], found["first"]) == (1, 1, 0)
    assert found["in_order"] and found["ended"] and not found["hanging"]
    assert "stopped delivering" in found["reason"]


def test_the_command_reads_it_and_stops(results: dict[str, Any]) -> None:
    found = results["command"]
    assert (found["code"], found["err"]) == (130, "edge: interrupted\n")
    assert found["rows"] >= 10 and found["video"] > 1000
