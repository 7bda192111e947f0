"""Labelled pictures of every form, whole and broken."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.errors import InputError
from edge.labelled import LabelledPictures, default_split, open_labelled, splits

RNG = np.random.default_rng(0)
FASHION = Path("/usr/share/datasets/fashion-mnist")


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((4, 6, 3), (value, 0, 255), np.uint8))


def as_lists(data: LabelledPictures) -> list[tuple[str, str]]:
    return [(data.names[c], Path(name).name) for c, name in zip(data.class_id.tolist(), data.picture_ids, strict=True)]


# Folder trees


def test_a_plain_tree(tmp_path: Path) -> None:
    for name in ("dog/b.png", "dog/a.png", "cat/deep/er/c.png", "cat/.hidden.png", ".git/x.png", "10/y.png", "9/x.png"):
        picture(tmp_path / name, 77)
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    data = open_labelled(tmp_path)
    assert data.names == ("9", "10", "cat", "dog")
    assert as_lists(data) == [("9", "x.png"), ("10", "y.png"), ("cat", "c.png"), ("dog", "a.png"), ("dog", "b.png")]
    assert len(data) == 5 and data.read(2).tolist()[0][0] == [77, 0, 255]
    assert data.arrays is None and data.boxes_xyxy is None
    assert splits(tmp_path) == () and default_split(tmp_path) is None


@pytest.mark.parametrize("folder", ["val", "valid", "validation", "Validation"])
@pytest.mark.parametrize("asked", ["val", "valid", "validation"])
def test_a_split_has_several_names(tmp_path: Path, folder: str, asked: str) -> None:
    picture(tmp_path / "train" / "cat" / "0.png")
    picture(tmp_path / folder / "cat" / "1.png")
    assert splits(tmp_path) == ("train", "val") and default_split(tmp_path) == "val"
    assert as_lists(open_labelled(tmp_path, asked)) == [("cat", "1.png")]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus/0.png", "car/0.png", "train/0.png", "train/steam/1.png"):
        picture(tmp_path / name)
    assert splits(tmp_path) == ()
    assert open_labelled(tmp_path).names == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("split", "says"),
    [(None, "has the splits train, test; name one"), ("val", "found train, test"), ("all", "one of train, val, test")],
)
def test_a_split_that_is_not_there(tmp_path: Path, split: str | None, says: str) -> None:
    picture(tmp_path / "train" / "cat" / "0.png")
    picture(tmp_path / "test" / "cat" / "1.png")
    assert default_split(tmp_path) == "test"
    with pytest.raises(InputError, match=says):
        open_labelled(tmp_path, split)
    with pytest.raises(InputError, match="one plain set"):
        open_labelled(tmp_path / "train", "train")


def test_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is not there"):
        open_labelled(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="another kind of file"):
        open_labelled(tmp_path / "a.txt")
    with pytest.raises(InputError, match="found none"):
        open_labelled(tmp_path)


# npz


def save_npz(path: Path, **arrays: Any) -> Path:
    full = {
        "x_train": RNG.integers(0, 256, (5, 4, 3), np.uint8),
        "y_train": np.array([0, 1, 2, 9, 1], np.uint8),
        "x_test": RNG.integers(0, 256, (2, 4, 3), np.uint8),
        "y_test": np.array([1, 0], np.uint8),
    } | arrays
    np.savez_compressed(path, **{key: value for key, value in full.items() if value is not None})
    return path


def test_npz(tmp_path: Path) -> None:
    x = np.asfortranarray(RNG.integers(0, 256, (2, 4, 3), np.uint8))
    data = open_labelled(save_npz(tmp_path / "digits.npz", x_test=x), "test")
    assert data.names == tuple("0123456789")  # the classes of the whole file, also of its other split
    assert data.class_id.tolist() == [1, 0] and data.class_id.dtype == np.int64
    assert data.picture_ids[1] == "digits.npz x_test[1]"
    assert data.arrays is not None and (data.arrays == x).all()
    assert (data.read(1) == x[1][..., None]).all() and data.read(1).shape == (4, 3, 3)


def test_npz_with_names(tmp_path: Path) -> None:
    names = [*"abcdefghi", "größer"]
    assert open_labelled(save_npz(tmp_path / "a.npz", names=np.array(names)), "train").names == tuple(names)


def test_npz_in_colour_with_columns_of_labels_and_all_splits(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (2, 4, 3, 3), np.uint8)
    y = np.array([[1], [3]])
    path = save_npz(tmp_path / "a.npz", x_test=x, y_test=y, x_val=x[..., :1], y_val=y)
    assert splits(path) == ("train", "val", "test")
    data = open_labelled(path, "test")
    assert data.class_id.tolist() == [1, 3]
    assert (data.read(0) == x[0][..., ::-1]).all()  # RGB became BGR
    gray = open_labelled(path, "validation")
    assert gray.arrays is not None and gray.arrays.shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x_test": np.zeros((2, 4, 3), np.float32)}, r"x_test: expected uint8 .* found float32 \(2, 4, 3\)"),
        ({"x_test": np.zeros((2, 12), np.uint8)}, r"found uint8 \(2, 12\)"),
        ({"x_test": np.zeros((2, 0, 3), np.uint8)}, "expected pictures, found shape"),
        ({"x_test": np.zeros((3, 4, 3), np.uint8)}, "one label per picture, found 3 and 2"),
        ({"y_test": np.array([0.0, 1.0])}, "y_test: expected integers"),
        ({"y_test": np.eye(2, dtype=np.int64)}, r"expected integers of shape \(n,\)"),
        ({"y_test": np.array([-1, 0])}, r"class numbers 0\.\.99999, found -1"),
        ({"y_test": np.array([0, 2**62])}, "class numbers"),
        ({"y_test": np.array(["a", "b"])}, "expected an array of numbers"),
        ({"y_test": np.array([{}, 1], object)}, "expected an array of numbers"),
        ({"names": np.array(["a", "b"])}, "names: expected a name for each of 10 classes, found a, b"),
        ({"names": np.array([*"abcdefghia"])}, "expected a name for each"),
        ({"names": np.array([*"abcdefghi", " "])}, "expected a name for each"),
        ({"names": np.array([[*"abcdefghij"]])}, "expected a name for each"),
        ({"names": np.arange(10)}, "names: expected an array of text, found int64"),
        ({"names": np.array([*"abcdefghij"], object)}, "expected an array of text"),
        ({"y_test": None}, "expected an array y_test, found none"),
        ({"x_train": None, "x_test": None}, "expected the arrays x_train"),
    ],
)
def test_npz_with_wrong_arrays(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    path = save_npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=says) as caught:
        open_labelled(path, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "kept", "says"), [((10**6, 10**6, 28), 64, "its header claims"), ((4, 4, 3), 20, "cut short")]
)
def test_npz_with_a_lying_header(tmp_path: Path, shape: tuple[int, ...], kept: int, says: str) -> None:
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
    path = save_npz(tmp_path / "a.npz", x_test=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test.npy", member.getvalue() + bytes(kept))
    with pytest.raises(InputError, match=says):
        open_labelled(path, "test")


def test_damaged_npz_is_one_line(tmp_path: Path) -> None:
    whole = save_npz(tmp_path / "a.npz").read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "b.npz"
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.2 else whole)
        for at in rng.integers(0, max(1, len(damaged)), 3):
            damaged[at : at + 1] = rng.bytes(1)
        path.write_bytes(damaged)
        try:
            open_labelled(path, "test")
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100


# idx


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """train (plain, labels 0..2) and t10k (gzipped, label 0 only)."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.arange(36, dtype=np.uint8).reshape(3, 4, 3)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([2, 0, 1], np.uint8)))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.full((1, 4, 3), 9, np.uint8))))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([0], np.uint8))))
    return tmp_path


def test_idx(idx_folder: Path) -> None:
    assert splits(idx_folder) == ("train", "test")
    train, test = open_labelled(idx_folder, "train"), open_labelled(idx_folder, "test")
    assert train.names == test.names == ("0", "1", "2")
    assert train.class_id.tolist() == [2, 0, 1] and test.class_id.tolist() == [0]
    assert train.read(1)[0, 2].tolist() == [14, 14, 14] and (test.read(0) == 9).all()
    assert test.picture_ids == ["t10k-images-idx3-ubyte.gz[0]"]
    alone = open_labelled(idx_folder / "t10k-images-idx3-ubyte.gz")
    assert len(alone) == 1 and alone.names == ("0",)


@pytest.mark.parametrize("packed", ["pictures", "labels"])
def test_idx_pictures_and_labels_may_be_packed_differently(idx_folder: Path, packed: str) -> None:
    plain = idx_folder / f"train-{'images-idx3' if packed == 'pictures' else 'labels-idx1'}-ubyte"
    plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert open_labelled(idx_folder, "train").class_id.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "starts with 00000803, found $"),
        (b"\x03\x08\0\0" + bytes(100), "starts with 00000803, found 03080000"),  # little-endian
        (idx(np.zeros((3, 4), np.uint8)), "starts with 00000803, found 00000802"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(9), "its header claims"),
        (idx(np.zeros((3, 4, 3), np.uint8))[:-5], "its header claims|found 31"),
        (idx(np.zeros((3, 4, 3), np.uint8)) + b"x", "found more"),
        (idx(np.zeros((2, 4, 3), np.uint8)), "one label per picture, found 2 and 3"),
        (idx(np.zeros((3, 0, 3), np.uint8)), "expected pictures"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_broken_idx(idx_folder: Path, content: bytes, says: str, zipped: bool) -> None:
    (idx_folder / "train-images-idx3-ubyte").unlink()
    name = "train-images-idx3-ubyte"
    (idx_folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(InputError, match=says):
        open_labelled(idx_folder, "train")


def test_idx_gz_that_is_cut_or_no_gz(idx_folder: Path) -> None:
    file = idx_folder / "t10k-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for content in (whole[:-9], b"not a gzip", whole[:12] + b"\xff\xff\xff" + whole[15:]):
        file.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            open_labelled(idx_folder, "test")


def test_idx_without_labels(idx_folder: Path) -> None:
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"expected its labels beside it, t10k-labels-idx1-ubyte or "):
        open_labelled(idx_folder, "test")
    stray = idx_folder / "idx3"
    stray.write_bytes(b"")
    with pytest.raises(InputError, match="labels beside it"):
        open_labelled(stray)


# COCO


def coco(root: Path, split: str = "train", **changes: Any) -> Path:
    for i in range(4):
        picture(root / split / f"{i}.png", i)
    dataset = {
        "images": [{"id": i, "file_name": f"{split}/{i}.png"} for i in range(4)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 3]},
            {"image_id": 1, "category_id": 3, "bbox": [0, 0, 2, 2]},
            {"image_id": 1, "category_id": 3, "bbox": [1, 0, 2, 2]},  # two boxes: out
            {"image_id": 2, "category_id": 3, "bbox": [2.5, 0, 3, 4]},
            {"image_id": 2, "category_id": 3, "bbox": [0, 0, 0, 4]},  # no area: does not count
            {"image_id": 2, "category_id": 7, "bbox": [0, 0, 6, 4], "iscrowd": 1},
        ],
    } | changes
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(dataset))
    return root


def test_coco_gives_pictures_with_one_box(tmp_path: Path) -> None:
    data = open_labelled(coco(tmp_path), "train")
    assert data.names == ("cat", "dog")  # by category id
    assert as_lists(data) == [("dog", "0.png"), ("cat", "2.png")]
    assert data.boxes_xyxy is not None and data.boxes_xyxy.dtype == np.float32
    assert data.boxes_xyxy.tolist() == [[1, 1, 3, 4], [2.5, 0, 5.5, 4]]
    assert data.read(1)[0, 0].tolist() == [2, 0, 255]


@pytest.mark.parametrize("place", ["{name}", "images/{name}", "val2017/{name}", "images/val2017/{name}", "val/{name}"])
def test_coco_pictures_lie_in_one_of_the_usual_places(tmp_path: Path, place: str) -> None:
    picture(tmp_path / place.format(name="0.png"))
    coco(tmp_path, "val2017", images=[{"id": 0, "file_name": "0.png"}])
    if "val2017" not in place:
        (tmp_path / "val2017" / "0.png").unlink()
    assert splits(tmp_path) == ("val",)
    assert len(open_labelled(tmp_path, "valid")) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": [{"id": 0, "file_name": "train/none.png"}]}, "annotations name train/none.png, which is not there"),
        ({"images": [{"id": 0, "file_name": "../secret.png"}]}, "which is not there"),
        ({"images": [{"id": 0, "file_name": "x" * 5000}]}, "which is not there"),
        ({"images": [{"id": 0, "file_name": "\0.png"}]}, "which is not there"),
        ({"images": [{"id": 0, "file_name": 3}]}, r"images\[0\].file_name is 3"),
        ({"images": [{"id": [], "file_name": "a"}]}, r"images\[0\].id is \[\]"),
        ({"annotations": []}, "exactly one box, found none"),
        ({"annotations": [{"image_id": 0, "category_id": 9, "bbox": [0, 0, 1, 1]}]}, "category 9"),
        ({"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 0, float("nan"), 1]}]}, "four numbers"),
        ({"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 1e308, 1e308, 1]}]}, "four numbers"),
        ({"categories": [{"id": "x", "name": "cat"}]}, r"categories\[0\].id is 'x'"),
        ({"categories": {}}, "no list 'categories'"),
    ],
)
def test_broken_coco(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    picture(tmp_path / "secret.png")
    with pytest.raises(InputError, match=says):
        open_labelled(coco(root, **changes), "train")


# Real data


def test_mnist(shared_data: Any) -> None:
    data = open_labelled(shared_data("cls/mnist.npz"), "test")
    assert np.bincount(data.class_id).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.read(0).sum() == 3 * 18454  # the first 7


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist() -> None:
    data = open_labelled(FASHION, "test")
    assert np.bincount(data.class_id).tolist() == [1000] * 10 and data.read(9).shape == (28, 28, 3)
