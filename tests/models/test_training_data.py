"""What training sees: the device's pixels, the right splits, and every epoch in its order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import InputError, OutputError
from edge.spec import InputSpec
from models.training.data import Split, batches, epoch_order, load_training_data

RGB = InputSpec(size_wh=(12, 12), mean=(127.5,), std=(127.5,))
GRAY = InputSpec(size_wh=(28, 28), color="GRAY", resize="stretch")


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A plain tree of 20 red, 10 blue and 1 green picture of 12 x 6 pixels, each of its own brightness."""
    for name, n, channel in (("red", 20, 2), ("blue", 10, 0), ("green", 1, 1)):
        for i in range(n):
            image = np.zeros((6, 12, 3), np.uint8)
            image[..., channel] = 100 + i
            write(tmp_path / "data" / name / f"{i:02d}.png", image)
    return tmp_path / "data"


class Counted:
    """Progress that counts what was decoded."""

    def __init__(self) -> None:
        self.decoded = 0

    def __call__(self, chunks: Sequence[range]) -> Iterable[range]:
        for chunk in chunks:
            yield chunk
            self.decoded += len(chunk)


def test_pixels_are_those_of_the_device(tree: Path, tmp_path: Path) -> None:
    train = load_training_data(tree, RGB, tmp_path / "cache").train
    assert train.images.shape == (28, 12, 12, 3) and train.images.dtype == np.uint8
    for image, name in zip(train.images, train.picture_ids, strict=True):
        value = 100 + int(Path(name).stem)
        expected = np.full((12, 12, 3), 114)  # the letterbox bars
        expected[3:9] = [value * (Path(name).parent.name == c) for c in ("red", "green", "blue")]
        assert (image == expected).all(), name
    assert train.boxes_xyxy is None and train.transforms is None


def test_gray_arrays_pass_unchanged(tmp_path: Path) -> None:
    x = np.arange(4 * 28 * 28, dtype=np.int64).reshape(4, 28, 28).astype(np.uint8)  # every value 0..255
    path = tmp_path / "a.npz"
    np.savez(path, x_train=x, y_train=np.array([0, 0, 1, 1]), x_test=x[:1], y_test=np.array([1]))
    data = load_training_data(path, GRAY, tmp_path / "cache")
    assert data.names == ("0", "1") and data.test is not None and (data.test.images[..., 0] == x[:1]).all()
    assert sorted([*data.train.class_id, *data.val.class_id]) == [0, 0, 1, 1]
    for split in (data.train, data.val):
        for image, name in zip(split.images, split.picture_ids, strict=True):
            assert (image[..., 0] == x[int(name[name.index("[") + 1 : -1])]).all()


def test_validation_is_carved_out_of_each_class(tree: Path, tmp_path: Path) -> None:
    def load(seed: int) -> tuple[list[str], list[str], list[int]]:
        data = load_training_data(tree, RGB, tmp_path / "cache", 0.2, seed)
        assert data.names == ("blue", "green", "red") and data.test is None
        return list(data.train.picture_ids), list(data.val.picture_ids), np.bincount(data.val.class_id).tolist()

    train, val, counts = load(0)
    assert counts == [2, 0, 4]  # a class of one picture stays in train
    assert len(set(train) | set(val)) == 31 and not set(train) & set(val)
    assert load(0) == (train, val, counts) and load(1)[1] != val
    with pytest.raises(InputError, match="between 0 and 1"):
        load_training_data(tree, RGB, tmp_path / "cache", 1.0)


def test_test_is_kept_apart_and_splits_are_taken_as_they_are(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    tree.rename(root / "train")
    write(root / "test" / "red" / "t.png", np.zeros((6, 12, 3), np.uint8))
    data = load_training_data(root, RGB, tmp_path / "cache")
    assert len(data.train) + len(data.val) == 31
    assert data.test is not None and [Path(p).name for p in data.test.picture_ids] == ["t.png"]
    assert data.test.class_id.tolist() == [2]  # numbered as in train, where red is the third
    write(root / "valid" / "green" / "v.png", np.zeros((6, 12, 3), np.uint8))
    data = load_training_data(root, RGB, tmp_path / "cache")
    assert len(data.train) == 31 and data.val.class_id.tolist() == [1]
    write(root / "valid" / "pink" / "v.png", np.zeros((6, 12, 3), np.uint8))
    with pytest.raises(InputError, match=r"val has classes that train does not have \(pink\)"):
        load_training_data(root, RGB, tmp_path / "cache")


@pytest.mark.parametrize(
    ("names", "says"),
    [(["test/red/a.png", "test/red/b.png"], "expected a split train"), (["red/a.png"], "two or more pictures")],
)
def test_too_little_data(tmp_path: Path, names: list[str], says: str) -> None:
    for name in names:
        write(tmp_path / "data" / name, np.zeros((6, 12, 3), np.uint8))
    with pytest.raises(InputError, match=says):
        load_training_data(tmp_path / "data", RGB, tmp_path / "cache")


def test_what_was_decoded_is_kept_until_something_changes(tree: Path, tmp_path: Path) -> None:
    def decoded(spec: InputSpec = RGB) -> int:
        count = Counted()
        load_training_data(tree, spec, tmp_path / "cache", progress=count)
        return count.decoded

    assert decoded() == 31
    assert decoded() == 0
    assert decoded(RGB.model_copy(update={"mean": (0.0,)})) == 0  # is applied later
    assert decoded(RGB.model_copy(update={"color": "BGR"})) == 31
    write(tree / "red" / "00.png", np.full((7, 12, 3), 200, np.uint8))
    assert 0 < decoded() < 31  # the split that has it
    assert not list((tmp_path / "cache").glob("*partial*"))


def test_a_broken_picture_is_named_and_leaves_nothing_behind(tree: Path, tmp_path: Path) -> None:
    (tree / "red" / "07.png").write_bytes(b"\x89PNG\r\n\x1a\nnot more")
    with pytest.raises(InputError, match=r"red/07\.png: cut short or damaged"):
        load_training_data(tree, RGB, tmp_path / "cache", val_fraction=0.01)
    assert not list((tmp_path / "cache").glob("*partial*"))


def test_a_cache_that_cannot_be_written(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file: resized pictures cannot be kept here"):
        load_training_data(tree, RGB, tmp_path / "file")


def test_boxes_become_fractions_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for split in ("train", "valid"):
        write(tmp_path / split / "0.png", np.zeros((100, 200, 3), np.uint8))
        rows = {
            "images": [{"id": 1, "file_name": f"{split}/0.png"}],
            "categories": [{"id": 1, "name": "car"}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [20, 10, 100, 50]}],
        }
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(rows))
    for resize, expected in (
        ("letterbox-center", [0.1, 0.3, 0.6, 0.55]),
        ("stretch", [0.1, 0.1, 0.6, 0.6]),
        ("center-crop", [0, 0.1, 0.7, 0.6]),  # the box begins left of the cut at 50 pixels
    ):
        spec = InputSpec(size_wh=(40, 40), resize=resize)
        for _ in range(2):  # decoded, then from the cache
            train = load_training_data(tmp_path, spec, tmp_path / "cache").train
            assert train.boxes_xyxy is not None and train.transforms is not None
            np.testing.assert_allclose(train.boxes_xyxy, [expected], atol=1e-6)
            back = train.transforms[0].to_source(train.boxes_xyxy * np.float32(40))
            np.testing.assert_allclose(back, [[max(20, 50 if resize == "center-crop" else 0), 10, 120, 60]], atol=1e-4)


def test_an_epoch_shows_every_picture_once() -> None:
    class_id = np.array([0] * 50 + [1] * 3)
    order = epoch_order(class_id, np.random.default_rng(3), balance=False)
    assert sorted(order) == list(range(53)) and order.tolist() != list(range(53))
    assert order.tolist() == epoch_order(class_id, np.random.default_rng(3), balance=False).tolist()


def test_a_balanced_epoch_shows_every_class_equally_often() -> None:
    class_id = np.array([0] * 50 + [4] * 3 + [2] * 9)
    order = epoch_order(class_id, np.random.default_rng(3), balance=True)
    assert len(order) == 62
    assert sorted(np.bincount(class_id[order], minlength=5).tolist()) == [0, 0, 20, 21, 21]
    times = np.bincount(order, minlength=62)
    assert times[:50].max() == 1 and set(times[50:53]) <= {6, 7} and set(times[53:]) <= {2, 3}
    assert len(set(np.flatnonzero(np.diff(class_id[order])))) > 20  # mixed, not class after class


def test_batches_come_in_the_given_order() -> None:
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    boxes = np.linspace(0, 1, 28, dtype=np.float32).reshape(7, 4)
    order = np.array([6, 0, 3, 3, 1])
    with_boxes = Split(images, np.arange(7) * 10, boxes, None, [str(i) for i in range(7)])
    dataset = batches(with_boxes, order, 2)
    assert [s.shape.as_list() for s in dataset.element_spec] == [[None, 2, 3, 1], [None], [None, 4]]
    for _ in range(2):
        got = list(dataset.as_numpy_iterator())
        assert [len(batch[0]) for batch in got] == [2, 2, 1]
        for column, expected in zip(zip(*got, strict=True), (images, with_boxes.class_id, boxes), strict=True):
            assert (np.concatenate(column) == expected[order]).all()
    plain = Split(images, with_boxes.class_id, None, None, with_boxes.picture_ids)
    assert len(next(iter(batches(plain, order, 2)))) == 2
