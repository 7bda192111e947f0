from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rectangles import COLOURS, SIZE

from models.augment import (
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
from models.detection_data import PAD_VALUE, epoch_order, load_split

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


def test_split_is_read_with_classes_in_the_order_of_their_ids(split):
    assert split.labels == ("red", "blue")
    assert split.category_ids == (3, 7)
    assert split.images.shape == (16, SIZE, SIZE, 3)
    np.testing.assert_array_equal(split.content_xyxy[0], [0, 8, 64, 56])
    assert (split.images[:, :8] == PAD_VALUE).all()
    for image, boxes in zip(split.images, split.boxes, strict=True):
        assert_boxes_match_paint(image, boxes, 0)


def test_zip_reads_like_the_folder_and_the_cache_is_used(dataset, split, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", dataset)
    zipped = load_split(Path(archive), "train", tmp_path / "cache", SIZE)
    np.testing.assert_array_equal(zipped.images, split.images)
    files = sorted((tmp_path / "cache").iterdir())
    again = load_split(Path(archive), "train", tmp_path / "cache", SIZE)
    np.testing.assert_array_equal(again.images, split.images)
    assert sorted((tmp_path / "cache").iterdir()) == files


def test_a_larger_size_scales_images_and_boxes(dataset, tmp_path):
    larger = load_split(dataset, "train", tmp_path, 128)
    np.testing.assert_array_equal(larger.content_xyxy[0], [0, 16, 128, 112])
    for image, boxes in zip(larger.images, larger.boxes, strict=True):
        assert_boxes_match_paint(image, boxes, 2)


@pytest.mark.parametrize(("data", "split_name"), [("missing.zip", "train"), (None, "holdout")])
def test_missing_data_is_named(dataset, tmp_path, data, split_name):
    path = tmp_path / data if data else dataset
    with pytest.raises(FileNotFoundError, match=data or "instances_holdout.json"):
        load_split(path, split_name, tmp_path, SIZE)


def test_broken_image_is_named(dataset, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    (copy / "train" / "3.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"train/3\.png"):
        load_split(copy, "train", tmp_path / "cache", SIZE)
    assert not (tmp_path / "cache").exists()


def test_image_of_another_size_than_annotated_is_named(dataset, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    cv2.imwrite(str(copy / "train" / "5.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r"train/5\.png.*\(64, 48\).*\(20, 10\)"):
        load_split(copy, "train", tmp_path / "cache", SIZE)


def test_images_of_rare_classes_are_repeated(split):
    rng = np.random.default_rng(0)
    assert sorted(epoch_order(split, rng, threshold=0.0)) == list(range(len(split)))
    shown = np.array([(boxes[:, 0] == 0).any() for boxes in split.boxes])
    order = epoch_order(split, rng, threshold=4.0)
    assert len(order) >= 2 * len(split)
    assert set(order) == set(range(len(split)))
    assert shown.any()


def test_an_unmoved_sample_is_the_original(split):
    image, boxes = single(split, 0, SIZE, np.random.default_rng(0), STILL)
    np.testing.assert_array_equal(image, split.images[0])
    np.testing.assert_allclose(boxes, split.boxes[0])


@pytest.mark.parametrize("seed", range(6))
def test_affine_moves_boxes_with_the_picture(split, seed):
    straight = Augmentation(scale=(0.7, 1.6), degrees=0, shear=0)
    image, boxes = single(split, seed, 96, np.random.default_rng(seed), straight)
    assert image.shape == (96, 96, 3)
    assert_boxes_match_paint(image, boxes, 2)


def test_turned_boxes_enclose_the_picture_of_the_object(split):
    turned = Augmentation(scale=(0.6, 0.6), degrees=15, translate=0)
    image, boxes = single(split, 1, 192, np.random.default_rng(2), turned)
    assert len(boxes) == 2
    assert_boxes_match_paint(image, boxes, 3)


@pytest.mark.parametrize("seed", range(6))
def test_mosaic_moves_boxes_with_the_pictures(split, seed):
    rng = np.random.default_rng(seed)
    augmentation = Augmentation(mosaic_scale=(0.6, 1.2))
    image, boxes = mosaic(split, [0, 1, 2, 3], 192, rng, augmentation)
    assert image.shape == (192, 192, 3)
    assert len(boxes)
    # A rectangle cut by its quarter is still where its box is; neighbours of one colour may touch across a seam.
    colours = image[((boxes[:, 2] + boxes[:, 4]) / 2).astype(int), ((boxes[:, 1] + boxes[:, 3]) / 2).astype(int)]
    np.testing.assert_allclose(colours, np.array(COLOURS)[boxes[:, 0].astype(int)], atol=3)
    assert (boxes[:, 1:] >= 0).all()
    assert (boxes[:, 1:] <= 192).all()


def test_flip_moves_boxes_and_flips_back(split):
    sample = (np.asarray(split.images[0]), split.boxes[0])
    mirrored = flip(sample)
    assert_boxes_match_paint(*mirrored, 0)
    for back, original in zip(flip(mirrored), sample, strict=True):
        np.testing.assert_array_equal(back, original)


def test_boxes_mostly_outside_or_tiny_are_dropped():
    boxes = np.array([[0, -8, 0, 2, 10], [1, -5, 0, 5, 10], [0, 1, 1, 3, 30], [1, 70, 70, 90, 90]], np.float32)
    kept = clip_boxes(boxes, (0, 0, 64, 64), Augmentation(min_visible=0.3, min_side=3))
    np.testing.assert_array_equal(kept, [[1, 0, 0, 5, 10]])
    assert clip_boxes(boxes[:0], (0, 0, 64, 64), Augmentation()).shape == (0, 5)


def test_colour_jitter_changes_colours_only(split):
    image = np.asarray(split.images[0])
    assert np.abs(jitter_colour(image, np.random.default_rng(0), (0, 0, 0)).astype(int) - image).max() <= 4
    changed = jitter_colour(image, np.random.default_rng(0), (0.015, 0.7, 0.4))
    assert changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - image).max() > 10


def test_batches_are_padded_full_and_independent_of_the_threads(split):
    order = np.arange(15)
    runs = [list(batches(split, order, 4, SIZE, [7, 1], Augmentation(), workers)) for workers in (1, 3)]
    assert len(runs[0]) == 3
    for (images, boxes), (again_images, again_boxes) in zip(*runs, strict=True):
        assert images.shape == (4, SIZE, SIZE, 3)
        assert boxes.shape[0] == 4
        np.testing.assert_array_equal(images, again_images)
        np.testing.assert_array_equal(boxes, again_boxes)


def test_batch_of_images_without_objects_has_one_padding_row(split):
    image, _ = make_sample(split, 0, SIZE, np.random.default_rng(0), Augmentation())
    images, boxes = make_batch([(image, np.zeros((0, 5), np.float32))] * 2)
    assert images.shape == (2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(boxes, np.full((2, 1, 5), -1))
