"""Fixtures of the conversion tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    # Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
    mark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(mark)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folder of a dozen small pictures, some in a subfolder, with a text file among them."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    (folder / "notes.txt").write_text("not a picture")
    for index in range(12):
        values = np.random.default_rng(index).integers(0, 256, (6, 8, 3), np.uint8)
        picture = cv2.resize(values, (48, 36), interpolation=cv2.INTER_LINEAR)
        picture[:4], picture[-4:] = 0, 255
        cv2.imwrite(str((folder / "more" if index % 3 else folder) / f"{index:02}.png"), picture)
    return folder
