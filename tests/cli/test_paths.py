"""Paths that a system cannot even be asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import tiny_detector

ROOT = Path(__file__).resolve().parents[2]


def edge(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "M"),
        ("inspect", "M"),
        ("detect", "--model", "M", "--source", "P"),
        ("evaluate", "--model", "M", "--folder", "M"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_path_that_is_too_long_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    cv2.imwrite(str(picture), np.zeros((32, 32, 3), np.uint8))
    done = edge(*({"M": "x" * 5000, "P": picture}.get(word, word) for word in arguments))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.rstrip().endswith("File name too long")


def test_a_folder_that_may_not_be_entered_is_one_line(tmp_path: Path) -> None:
    # Root may enter every folder, unless it gives up what lets it.
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    if drop and shutil.which("setpriv") is None:
        pytest.skip("root may enter every folder, and there is no setpriv")
    closed = tmp_path / "closed"
    closed.mkdir()
    tiny_detector().save(closed / "m.tflite")
    closed.chmod(0)
    try:
        done = edge("verify", closed / "m.tflite", before=drop)
    finally:
        closed.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines() == [f"edge: {closed / 'm.tflite'}: Permission denied"]
