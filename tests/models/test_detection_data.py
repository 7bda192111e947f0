from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rectangles import COLOURS, SIZE

from edge.errors import InputError
from models.detection.augment import (
    Augmentation,
    batches,
    clip_boxes,
    flip,
    jitter_colour,
    make_batch,
    make_sample,
    mosaic,
    single,
)
from models.detection.data import PAD_VALUE, Pool, class_names, epoch_order, load_data, load_part, unknown
from models.detection.sets import DataSet, read_sets
from models.detection.teacher import read_finds

STILL = Augmentation(mosaic=0, flip=0, scale=(1, 1), degrees=0, shear=0, translate=0, hsv=(0, 0, 0))


def painted_boxes(image, label):
    """Return the bounding boxes (n, 4) of the connected regions in the colour of a class."""
    distance = np.abs(image.astype(int) - COLOURS[label]).sum(axis=-1)
    _, _, stats, _ = cv2.connectedComponentsWithStats((distance < 140).astype(np.uint8))
    x, y, w, h = stats[1:, :4].T
    return np.stack([x, y, x + w, y + h], axis=1)


def assert_boxes_match_paint(image, boxes, tolerance):
    """Every box must be where its colour is; the colours are not blended by more than the tolerance in pixels."""
    for label, *box in boxes:
        found = painted_boxes(image, int(label))
        assert len(found), f"nothing painted in the colour of class {label}"
        assert np.abs(found - np.array(box)).max(axis=1).min() <= tolerance, (box, found)


def test_part_is_read_with_classes_in_the_order_of_the_labels(dataset, pool, tmp_path):
    (part,) = pool.parts
    assert part.images.shape == (16, SIZE, SIZE, 3)
    np.testing.assert_array_equal(part.content_xyxy[0], [0, 8, 64, 56])
    assert (part.images[:, :8] == PAD_VALUE).all()
    for image, rows in zip(part.images, part.rows, strict=True):
        assert_boxes_match_paint(image, rows, 0)
    swapped = load_part(DataSet(data=dataset), "train", ("blue", "red"), tmp_path, SIZE)
    np.testing.assert_array_equal(swapped.rows[0][:, 0], 1 - part.rows[0][:, 0])


def test_class_names_come_from_the_data(dataset):
    assert class_names(DataSet(data=dataset)) == ("red", "blue")
    assert class_names(DataSet(data=dataset, rename={"blue": "sky"})) == ("red", "sky")


def test_zip_reads_like_the_folder_and_the_cache_is_used(dataset, pool, tmp_path):
    data = DataSet(data=Path(shutil.make_archive(str(tmp_path / "data"), "zip", dataset)))
    decoded = []

    def track(chunks):
        decoded.extend(chunks)
        return chunks

    zipped = load_part(data, "train", pool.labels, tmp_path / "cache", SIZE, track)
    np.testing.assert_array_equal(zipped.images, pool.parts[0].images)
    assert sum(map(len, decoded)) == 16
    again = load_part(data, "train", pool.labels, tmp_path / "cache", SIZE, track)
    np.testing.assert_array_equal(again.images, pool.parts[0].images)
    assert sum(map(len, decoded)) == 16


def test_a_larger_size_scales_images_and_boxes(dataset, pool, tmp_path):
    larger = load_part(DataSet(data=dataset), "train", pool.labels, tmp_path, 128)
    np.testing.assert_array_equal(larger.content_xyxy[0], [0, 16, 128, 112])
    for image, rows in zip(larger.images, larger.rows, strict=True):
        assert_boxes_match_paint(image, rows, 2)


def test_missing_data_is_named(tmp_path):
    with pytest.raises(InputError, match="missing.zip"):
        load_data(read_sets(tmp_path / "missing.zip"), tmp_path, SIZE, 0.1, 0)


def test_broken_picture_is_named(dataset, pool, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    (copy / "train" / "3.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"train/3\.png"):
        load_part(DataSet(data=copy), "train", pool.labels, tmp_path / "cache", SIZE)
    assert not (tmp_path / "cache").exists()


def test_picture_of_another_size_than_annotated_is_named(dataset, pool, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    cv2.imwrite(str(copy / "train" / "5.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(InputError, match=r"train/5\.png.*\(64, 48\).*\(20, 10\)"):
        load_part(DataSet(data=copy), "train", pool.labels, tmp_path / "cache", SIZE)


def test_a_class_that_a_set_does_not_label_is_open_in_all_of_its_pictures(dataset, tmp_path):
    labels = ("red", "blue", "green")
    part = load_part(DataSet(data=dataset, unlabelled=("green",)), "train", labels, tmp_path, SIZE)
    assert part.labelled == (0, 1)
    for rows in part.rows:
        left = rows[rows[:, 0] == unknown(2)]
        np.testing.assert_array_equal(left[:, 1:], [[0, 8, 64, 56]])
    crowds = [row for row in part.truth["annotations"] if row["iscrowd"]]
    assert {row["category_id"] for row in crowds} == {3}
    assert len(crowds) == len(part)


def test_a_teacher_adds_what_it_is_sure_of_and_leaves_the_rest_open(dataset, tmp_path):
    def find(name, score, box):
        return {
            "name": name,
            "class": 0,
            "confidence": score,
            "box": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
        }

    finds = [
        find("green", 0.9, (1, 2, 11, 12)),
        find("green", 0.2, (20, 20, 30, 40)),
        find("green", 0.8, (1, 2, 11, 13)),
        find("red", 0.9, (0, 0, 9, 9)),
    ]
    lines = [{"source": "/elsewhere/0.png", "detections": finds}, {"source": "/elsewhere/1.png", "detections": []}]
    teacher = tmp_path / "finds.jsonl"
    teacher.write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = ("red", "blue", "green")
    data = DataSet(data=dataset, teacher=(teacher,), teacher_classes=("green",))
    part = load_part(data, "train", labels, tmp_path / "cache", SIZE)
    first, second = part.rows[0], part.rows[1]
    # The two sure ones are one object found twice.
    np.testing.assert_allclose(first[first[:, 0] == 2][:, 1:], [[1, 10, 11, 20]])
    np.testing.assert_allclose(first[first[:, 0] == unknown(2)][:, 1:], [[20, 28, 30, 48]])
    assert (first[:, 0] == 0).sum() == (
        load_part(DataSet(data=dataset), "train", labels, tmp_path, SIZE).rows[0][:, 0] == 0
    ).sum()
    assert (second[:, 0] <= 1).all()
    assert part.labelled == (0, 1)
    # Its doubts add nothing where all of the picture is open anyway; a validation split has no teacher.
    masked = load_part(data.model_copy(update={"unlabelled": ("green",)}), "train", labels, tmp_path, SIZE)
    assert (masked.rows[0][:, 0] == unknown(2)).sum() == 1
    assert (load_part(data, "val", labels, tmp_path, SIZE).rows[0][:, 0] < 2).all()


@pytest.mark.parametrize(
    "line", ["no json", "{}", '{"source": 3, "detections": []}', '{"source": "a", "detections": [{"name": "green"}]}']
)
def test_a_broken_file_of_finds_is_named(line, tmp_path):
    file = tmp_path / "finds.jsonl"
    file.write_text('{"source": "a.png", "detections": []}\n' + line)
    with pytest.raises(InputError, match=r"finds\.jsonl, line 2: expected a line of edge detect --json"):
        read_finds([file], ["green"], ["red", "green"])


def test_without_a_validation_split_some_of_the_training_pictures_are_held_out(dataset, tmp_path):
    only = tmp_path / "only"
    shutil.copytree(dataset, only)
    (only / "annotations" / "instances_valid.json").unlink()
    train, val = load_data(read_sets(only), tmp_path / "cache", SIZE, 0.25, seed=1)
    assert (len(train), len(val)) == (12, 4)
    assert {row["id"] for row in val.parts[0].truth["images"]}.isdisjoint(
        row["id"] for row in train.parts[0].truth["images"]
    )
    again = load_data(read_sets(only), tmp_path / "cache", SIZE, 0.25, seed=1)[1]
    np.testing.assert_array_equal(again.parts[0].images, val.parts[0].images)


def test_sets_are_joined_with_their_own_classes(dataset, tmp_path):
    file = tmp_path / "sets.toml"
    file.write_text(
        f'classes = ["warm", "blue", "tree"]\n[[set]]\ndata = "{dataset}"\nrename = {{ red = "warm" }}\n'
        f'unlabelled = ["tree"]\n'
        f'[[set]]\ndata = "{dataset}"\nsplits = ["train"]\nrepeat = 2\n'
    )
    train, val = load_data(read_sets(file), tmp_path / "cache", SIZE, 0.1, 0)
    assert train.labels == ("warm", "blue", "tree")
    assert (len(train), len(val)) == (32, 16)
    part, index = train.place(20)
    assert part is train.parts[1]
    assert index == 4
    # "red" is none of our classes in the second set, so it is left out there.
    assert {int(rows[0]) for array in train.parts[1].rows for rows in array} == {1}
    counts = np.bincount(epoch_order(train, np.random.default_rng(0), threshold=0.0), minlength=32)
    np.testing.assert_array_equal(counts, [1] * 16 + [2] * 16)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[set]]\n", "set.0.data"),
        ('classes = ["a"]\nset = []\n', "set"),
        ('[[set]]\ndata = "x"\n[[set]]\ndata = "y"\n', "several sets need"),
        ('classes = ["a", "a"]\n[[set]]\ndata = "x"\n', "named twice"),
        ('classes = ["a"]\n[[set]]\ndata = "x"\nunlabelled = ["b"]\n', "x: b is none of the classes"),
        ('classes = ["a"]\n[[set]]\ndata = "x"\nteacher = ["t"]\n', "belong together"),
        ('classes = ["a"]\n[[set]]\ndata = "x"\nrepeats = 2\n', "set.0.repeats"),
        ('classes = ["a"]\n[[set]]\ndata = "x"\naspect = [0, 1]\n', "set.0.aspect.0"),
        ("classes = [", "is no TOML"),
    ],
)
def test_a_wrong_file_of_sets_is_one_line(text, said, tmp_path):
    file = tmp_path / "sets.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        read_sets(file)


def test_paths_of_sets_start_from_their_file(tmp_path):
    (tmp_path / "sets.toml").write_text(
        'classes = ["a"]\n[[set]]\ndata = "x.zip"\nteacher = ["t.jsonl"]\nteacher_classes = ["a"]\n'
    )
    (data,) = read_sets(tmp_path / "sets.toml").sets
    assert data.data == tmp_path / "x.zip"
    assert data.teacher == (tmp_path / "t.jsonl",)


def test_images_of_rare_classes_are_repeated(pool):
    rng = np.random.default_rng(0)
    assert sorted(epoch_order(pool, rng, threshold=0.0)) == list(range(len(pool)))
    shown = np.array([(boxes[:, 0] == 0).any() for boxes in pool.rows()])
    order = epoch_order(pool, rng, threshold=4.0)
    assert len(order) >= 2 * len(pool)
    assert set(order) == set(range(len(pool)))
    assert shown.any()


def test_an_unmoved_sample_is_the_original(pool):
    image, boxes = single(pool, 0, SIZE, np.random.default_rng(0), STILL)
    np.testing.assert_array_equal(image, pool.parts[0].images[0])
    np.testing.assert_allclose(boxes, pool.parts[0].rows[0])


@pytest.mark.parametrize("seed", range(6))
def test_affine_moves_boxes_with_the_picture(pool, seed):
    straight = Augmentation(scale=(0.7, 1.6), degrees=0, shear=0)
    image, boxes = single(pool, seed, 96, np.random.default_rng(seed), straight)
    assert image.shape == (96, 96, 3)
    assert_boxes_match_paint(image, boxes, 2)


def test_turned_boxes_enclose_the_picture_of_the_object(pool):
    turned = Augmentation(scale=(0.6, 0.6), degrees=15, translate=0)
    image, boxes = single(pool, 1, 192, np.random.default_rng(2), turned)
    assert len(boxes) == 2
    assert_boxes_match_paint(image, boxes, 3)


@pytest.mark.parametrize("seed", range(6))
def test_mosaic_moves_boxes_with_the_pictures(pool, seed):
    rng = np.random.default_rng(seed)
    augmentation = Augmentation(mosaic_scale=(0.6, 1.2))
    image, boxes = mosaic(pool, [0, 1, 2, 3], 192, rng, augmentation)
    assert image.shape == (192, 192, 3)
    boxes = boxes[boxes[:, 0] >= 0]
    assert len(boxes)
    # A rectangle cut by its quarter is still where its box is; neighbours of one colour may touch across a seam.
    colours = image[((boxes[:, 2] + boxes[:, 4]) / 2).astype(int), ((boxes[:, 1] + boxes[:, 3]) / 2).astype(int)]
    np.testing.assert_allclose(colours, np.array(COLOURS)[boxes[:, 0].astype(int)], atol=3)
    assert (boxes[:, 1:] >= 0).all()
    assert (boxes[:, 1:] <= 192).all()


def test_flip_moves_boxes_and_flips_back(pool):
    sample = (np.asarray(pool.parts[0].images[0]), pool.parts[0].rows[0])
    mirrored = flip(sample)
    assert_boxes_match_paint(*mirrored, 0)
    for back, original in zip(flip(mirrored), sample, strict=True):
        np.testing.assert_array_equal(back, original)


def test_what_is_left_of_boxes_mostly_outside_or_tiny_is_open():
    boxes = np.array([[0, -8, 0, 2, 10], [1, -5, 0, 5, 10], [0, 1, 1, 3, 30], [1, 70, 70, 90, 90]], np.float32)
    kept = clip_boxes(boxes, (0, 0, 64, 64), Augmentation(min_visible=0.3, min_side=3))
    np.testing.assert_array_equal(kept, [[unknown(0), 0, 0, 2, 10], [1, 0, 0, 5, 10], [unknown(0), 1, 1, 3, 30]])
    left = np.array([[unknown(1), -50, 0, 4, 10]], np.float32)
    np.testing.assert_array_equal(clip_boxes(left, (0, 0, 64, 64), Augmentation()), [[unknown(1), 0, 0, 4, 10]])
    assert clip_boxes(boxes[:0], (0, 0, 64, 64), Augmentation()).shape == (0, 5)


def test_colour_jitter_changes_colours_only(pool):
    image = np.asarray(pool.parts[0].images[0])
    assert np.abs(jitter_colour(image, np.random.default_rng(0), (0, 0, 0)).astype(int) - image).max() <= 4
    changed = jitter_colour(image, np.random.default_rng(0), (0.015, 0.7, 0.4))
    assert changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - image).max() > 10


def test_batches_are_padded_full_and_independent_of_the_threads(pool):
    order = np.arange(15)
    runs = [list(batches(pool, order, 4, [SIZE], [7, 1], Augmentation(), workers)) for workers in (1, 3)]
    assert len(runs[0]) == 3
    for (images, boxes), (again_images, again_boxes) in zip(*runs, strict=True):
        assert images.shape == (4, SIZE, SIZE, 3)
        assert boxes.shape[0] == 4
        np.testing.assert_array_equal(images, again_images)
        np.testing.assert_array_equal(boxes, again_boxes)


def test_batch_of_images_without_objects_has_one_padding_row(pool):
    image, _ = make_sample(pool, 0, SIZE, np.random.default_rng(0), Augmentation())
    images, boxes = make_batch([(image, np.zeros((0, 5), np.float32))] * 2)
    assert images.shape == (2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(boxes, np.full((2, 1, 5), -1))


def test_batches_have_one_of_the_sizes_each(pool):
    sides = {images.shape[1] for images, _ in batches(pool, np.arange(16), 1, (32, 64), [0], Augmentation())}
    assert sides == {32, 64}


def test_stretching_moves_boxes_with_the_picture(dataset, tmp_path):
    part = load_part(DataSet(data=dataset, aspect=(1.6, 1.6)), "train", ("red", "blue"), tmp_path, SIZE)
    stretched = Pool([part], ("red", "blue"))
    image, rows = single(stretched, 0, 192, np.random.default_rng(0), Augmentation(scale=(0.6, 0.6), translate=0))
    assert_boxes_match_paint(image, rows, 2)
    before, after = (np.diff(array[:, [1, 3]]) / np.diff(array[:, [2, 4]]) for array in (part.rows[0], rows))
    np.testing.assert_allclose(after, before * 1.6, rtol=1e-4)
