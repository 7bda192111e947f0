"""Fixtures that every test shares."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

SharedData = Callable[[str], Path]


def shared_folder() -> Path | None:
    """Return the folder of real models and pictures, if this machine has it."""
    given = os.environ.get("EDGE_TEST_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> SharedData:
    """Look a real file up; skips the test where there is none."""

    def find(relative: str) -> Path:
        folder = shared_folder()
        if folder is None:
            pytest.skip("no test data: set EDGE_TEST_DATA to the folder that holds it")
        path = folder / relative
        if not path.exists():
            pytest.skip(f"the test data has no {relative}")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_coco(shared_data: SharedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked folder of 50 + 50 labelled COCO pictures."""
    folder = tmp_path_factory.mktemp("coco")
    with zipfile.ZipFile(shared_data("det/tiny_coco_416.zip")) as archive:
        archive.extractall(folder)
    return folder / "tiny_coco"
