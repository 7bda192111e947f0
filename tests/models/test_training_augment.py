"""Augmentation moves boxes with the pixels, is the same for the same epoch, and changes no label."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from models.training.augment import POLICIES, Augmenter, Policy, without_rotation
from models.training.scores import iou

SIDE = 64


def squares(count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """White rectangles on grey, and their corners as fractions of the picture."""
    rng = np.random.default_rng(3)
    images = np.full((count, SIDE, SIDE, 3), 114, np.float32)
    corners = np.concatenate([rng.integers(16, 26, (count, 2)), rng.integers(36, 48, (count, 2))], axis=1)
    for image, (x1, y1, x2, y2) in zip(images, corners, strict=True):
        image[y1:y2, x1:x2] = 255
    return images, (corners / SIDE).astype(np.float32)


def found(images: np.ndarray) -> np.ndarray:
    boxes = []
    for image in images:
        rows, columns = np.nonzero(image[..., 0] > 184)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return np.array(boxes, np.float32) / SIDE


@pytest.mark.parametrize(
    "policy",
    [Policy(flip=True), Policy(translation=0.2, fill="constant"), Policy(zoom=0.3, fill="constant")]
    + [without_rotation(POLICIES["photos"])._replace(contrast=0, brightness=0)],
    ids=["flip", "translation", "zoom", "photos"],
)
def test_boxes_move_with_the_pixels(policy: Policy) -> None:
    images, boxes = squares()
    augmenter = Augmenter(policy)
    augmenter.reseed(0, 0)
    moved, changed = (np.asarray(value) for value in augmenter(images, boxes))
    assert np.abs(changed - boxes).max() > 0.05  # it did something
    assert iou(changed, found(moved)).min() > 0.85


def test_an_epoch_is_the_same_each_time_and_differs_from_the_next() -> None:
    images, _ = squares(4)
    augmenter = Augmenter(POLICIES["photos"])

    def epoch(number: int) -> np.ndarray:
        augmenter.reseed(7, number)
        return np.asarray(augmenter(images)[0])

    first = epoch(0)
    assert not np.array_equal(epoch(1), first)
    assert np.array_equal(epoch(0), first)


def test_digits_are_never_mirrored_nor_turned_far() -> None:
    policy = POLICIES["digits"]
    assert not policy.flip and policy.rotation * 360 < 15
    images = np.zeros((64, SIDE, SIDE, 1), np.float32)
    images[:, 20:44, 20:32] = 255  # heavy on the left: a mirror image would be heavy on the right
    augmenter = Augmenter(policy)
    augmenter.reseed(0, 0)
    pixels = np.asarray(augmenter(images)[0])[..., 0]
    assert (pixels[:, :, : SIDE // 2].sum((1, 2)) > pixels[:, :, SIDE // 2 :].sum((1, 2))).all()


def test_no_policy_leaves_pictures_alone() -> None:
    images, boxes = squares(2)
    same, kept = Augmenter(POLICIES["none"])(images, boxes)
    assert np.array_equal(same, images) and np.array_equal(kept, boxes)
