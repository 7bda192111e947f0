from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from edge.errors import InputError
from models.detection.data import unknown
from models.detection.deployed import Deployed, deployed_spec
from models.detection.heads.anchors import Anchors, assign, cluster_anchors

HEAD = Anchors((((8.0, 8.0), (10.0, 16.0), (16.0, 10.0)), ((30.0, 30.0),) * 3, ((60.0, 60.0),) * 3))
CLASSES = 2
LABELS = ("a", "b")


def blank(size=64, objectness=-9.0):
    outputs = {}
    for i, stride in enumerate((8, 16, 32)):
        side = size // stride
        for part, values in (("xy", 2), ("wh", 2), ("obj", 1), ("cls", CLASSES)):
            fill = objectness if part == "obj" else 0.0
            outputs[f"head_{i}_{part}"] = np.full((1, side, side, 3 * values), fill, np.float32)
    return outputs


def losses(outputs, rows):
    tensors = {name: tf.constant(value) for name, value in outputs.items()}
    return [float(loss) for loss in HEAD.loss(tensors, np.array([rows], np.float32))]


def test_places_are_the_centre_and_its_nearest_neighbours_for_anchors_of_a_like_shape():
    # Centre (21, 22) in pixels: cell (2, 2), 0.625 and 0.75 into it, so the right and the lower neighbour answer too.
    rows = tf.constant([[[1, 16, 18, 26, 26], [-1] * 5]], tf.float32)
    anchors = tf.constant([[8.0, 8.0], [50.0, 8.0], [10.0, 30.0]])
    place, row = assign(rows, anchors, (8, 8), 8)
    found = {tuple(p) for p in place.numpy().tolist()}
    # The second is five times too wide; the third 30 / 8 = 3.75 times too high, which is still alike.
    assert found == {(0, y, x, a) for y, x in ((2, 2), (2, 3), (3, 2)) for a in (0, 2)}
    np.testing.assert_array_equal(row, np.repeat(rows[0, :1], 6, axis=0))


def test_neighbours_beyond_the_border_do_not_answer():
    place, _ = assign(tf.constant([[[0, 0, 0, 6, 6]]], tf.float32), tf.constant([[8.0, 8.0]]), (8, 8), 8)
    assert place.numpy().tolist() == [[0, 0, 0, 0]]


def test_a_right_answer_costs_little_and_is_decoded_to_the_object():
    box = [16.0, 18.0, 26.0, 26.0]
    outputs = blank()
    wanted = np.log(np.array([10, 8]) / np.array(HEAD.sizes[0], np.float32))
    for y, x in ((2, 2), (2, 3), (3, 2)):
        t = (np.array([21.0, 22.0]) / 8 - (x, y) + 0.5) / 2
        outputs["head_0_xy"][0, y, x] = np.tile(np.log(t / (1 - t)), 3)
        outputs["head_0_wh"][0, y, x] = wanted.ravel()
        outputs["head_0_obj"][0, y, x] = 9.0
        outputs["head_0_cls"][0, y, x] = [-9, 9] * 3
    # The second level's anchors are alike as well (30 / 8 = 3.75).
    class_loss, box_loss = losses(outputs, [[1, *box]])
    other = losses(outputs, [[0, *box]])[0]
    deployed = Deployed(lambda images: outputs, deployed_spec("net", 64, LABELS, HEAD))
    (found,) = deployed(np.zeros((1, 64, 64, 3), np.uint8), 0.5)
    np.testing.assert_allclose(found.xyxy, [box] * len(found.xyxy), atol=0.01)
    assert len(found.xyxy) == 9
    assert set(found.class_id.tolist()) == {1}
    assert other > class_loss + 3
    wrong = losses(blank(), [[1, *box]])
    assert box_loss < wrong[1]
    assert class_loss < wrong[0]


def test_objectness_is_not_punished_where_a_class_is_open():
    outputs = blank()
    outputs["head_1_obj"][0, 1, 1] = 8.0
    padding = [-1.0] * 5
    assert losses(outputs, [padding])[0] > 20
    assert losses(outputs, [[unknown(0), 0, 0, 40, 40]])[0] < 0.2
    assert losses(outputs, [[unknown(0), 40, 40, 64, 64]])[0] > 20


def test_gradients_are_finite_for_extreme_outputs_and_without_objects():
    for rows in ([[0, 1, 1, 60, 50]], [[-1.0] * 5]):
        outputs = {name: tf.Variable(value + 60.0) for name, value in blank().items()}
        with tf.GradientTape() as tape:
            loss = sum(HEAD.loss(outputs, np.array([rows], np.float32)))
        for gradient in tape.gradient(loss, list(outputs.values()), unconnected_gradients="zero"):
            assert np.isfinite(gradient).all()


def test_clusters_are_found_again():
    rng = np.random.default_rng(0)
    centres = np.array([[6, 10], [12, 12], [20, 14], [24, 40], [50, 30], [60, 70], [90, 140], [160, 120], [250, 260]])
    sizes = np.concatenate([c * rng.uniform(0.93, 1.07, (60, 2)) for c in centres]).astype(np.float32)
    found = cluster_anchors(sizes, seed=3)
    np.testing.assert_allclose(np.array(found).reshape(9, 2), centres, rtol=0.08)
    assert found == cluster_anchors(sizes, seed=3)


def test_too_few_sizes_are_refused():
    with pytest.raises(InputError, match="at least 9 different sizes, found 2.*--head anchor-free"):
        cluster_anchors(np.array([[3, 4], [5, 6], [3, 4]], np.float32), 0)
