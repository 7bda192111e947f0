"""Fixtures of the training tests."""

from __future__ import annotations

import pytest
from rectangles import SIZE, write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Path of the synthetic data set."""
    return write_dataset(tmp_path_factory.mktemp("rectangles") / "data")


@pytest.fixture(scope="session")
def pool(dataset, tmp_path_factory):
    """The train split, loaded at 64 px."""
    from models.detection.data import Pool, load_part
    from models.detection.sets import DataSet

    labels = ("red", "blue")
    return Pool(
        [load_part(DataSet(data=dataset, aspect=(1, 1)), "train", labels, tmp_path_factory.mktemp("cache"), SIZE)],
        labels,
    )
