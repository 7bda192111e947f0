"""GStreamer pipelines through Debian's own OpenCV, in a root folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PACKAGES = "python3-opencv,python3-numpy,gstreamer1.0-plugins-base,gstreamer1.0-plugins-good"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        pytest.skip("needs root, and Debian's mmdebstrap")
    root = tmp_path_factory.mktemp("debian") / "root"
    command = ["mmdebstrap", "--variant=extract", f"--include={PACKAGES}", "bookworm", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no Debian: {done.stderr.strip().splitlines()[-1:]}")
    here = Path(__file__).resolve()
    shutil.copytree(here.parents[2] / "edge", root / "opt" / "edge" / "edge")
    shutil.copy(here.with_name("gstreamer_inside.py"), root / "opt")
    libraries = "/usr/lib/x86_64-linux-gnu"
    environment = {"LD_LIBRARY_PATH": f"{libraries}/lapack:{libraries}/blas", "HOME": "/tmp", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["/usr/sbin/chroot", str(root), "/usr/bin/python3", "/opt/gstreamer_inside.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            _, name, value = line.split(" ", 2)
            found[name] = json.loads(value)
    # One that hangs in a pipeline ends with its process.
    assert "DONE" in done.stdout, done.stderr[-4000:]
    return found


def test_a_pipeline_gives_frames(results: dict[str, Any]) -> None:
    assert results["ball"] == {"size_wh": [240, 320], "fps": 15.0, "indices": [0, 2, 4, 6, 8, 10]}
    assert results["moved"] > 100


def test_a_pipeline_that_ends_is_lost_and_begun_again(results: dict[str, Any]) -> None:
    assert results["end"]["frames"] >= 1
    assert "stopped delivering" in results["end"]["error"]
    assert results["again"]["reconnects"] >= 2


def test_pipelines_that_do_not_run_are_one_line(results: dict[str, Any]) -> None:
    assert results["nonsense"].startswith("SourceError: gst")
    # There is no libcamera in it. This OpenCV waits for ever for an element that is missing.
    assert "is each of its elements installed?" in results["csi"]
