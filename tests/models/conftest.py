"""Fixtures of the training tests."""

from __future__ import annotations

import pytest
from rectangles import SIZE, write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Path of the synthetic data set."""
    return write_dataset(tmp_path_factory.mktemp("rectangles") / "data")


@pytest.fixture(scope="session")
def split(dataset, tmp_path_factory):
    """The train split, loaded at 64 px."""
    from models.detection_data import load_split

    return load_split(dataset, "train", tmp_path_factory.mktemp("cache"), SIZE)
