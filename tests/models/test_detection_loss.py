from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.detection.data import unknown
from models.detection.deployed import Deployed, deployed_spec
from models.detection.heads.anchor_free import (
    AnchorFree,
    assign,
    decode_boxes,
    detection_loss,
    distillation_loss,
    encode_boxes,
    flatten_outputs,
)
from models.detection.loss import ciou, iou

CLASSES = 3


def blank_outputs(batch=1, size=64, logit=-5.0):
    outputs = {}
    for stride in (8, 16, 32):
        side = size // stride
        outputs[f"box_{stride}"] = np.zeros((batch, side, side, 4), np.float32)
        outputs[f"cls_{stride}"] = np.full((batch, side, side, CLASSES), logit, np.float32)
    return outputs


def flat(outputs):
    return flatten_outputs({name: tf.constant(value) for name, value in outputs.items()})


def losses_of(outputs, truth):
    return [float(loss) for loss in detection_loss({name: tf.constant(a) for name, a in outputs.items()}, truth)]


def test_cells_are_listed_stride_by_stride_and_row_by_row():
    raw, logits, centres, strides = flat(blank_outputs(batch=2))
    assert raw.shape == (2, 84, 4)
    assert logits.shape == (2, 84, CLASSES)
    np.testing.assert_array_equal(centres[:2], [[4, 4], [12, 4]])
    np.testing.assert_array_equal(centres[8], [4, 12])
    np.testing.assert_array_equal(centres[64], [8, 8])
    np.testing.assert_array_equal(centres[83], [48, 48])
    np.testing.assert_array_equal(np.unique(strides), [8, 16, 32])


def test_encode_then_decode_gives_the_box_back():
    _, _, centres, strides = flat(blank_outputs())
    rng = np.random.default_rng(0)
    sides = rng.uniform(2.0, 60.0, (84, 4)).astype(np.float32)
    boxes = np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], axis=1)
    np.testing.assert_allclose(decode_boxes(encode_boxes(boxes, centres, strides), centres, strides), boxes, atol=1e-3)


def test_the_deployed_decoding_is_the_one_of_the_loss():
    outputs = blank_outputs()
    rng = np.random.default_rng(0)
    for stride in (8, 16, 32):
        outputs[f"box_{stride}"][:] = rng.normal(0, 1, outputs[f"box_{stride}"].shape)
    outputs["cls_8"][0, 2, 5, 1] = 3.0
    outputs["cls_32"][0, 1, 0, 2] = 1.0
    raw, _, centres, strides = flat(outputs)
    expected = decode_boxes(raw, centres, strides)[0].numpy()[[2 * 8 + 5, 64 + 16 + 2]]
    deployed = Deployed(lambda images: outputs, deployed_spec("net", 64, ("a", "b", "c"), AnchorFree()))
    ((boxes, scores, labels),) = deployed(np.zeros((1, 64, 64, 3), np.uint8), 0.5)
    np.testing.assert_allclose(boxes, expected, rtol=1e-5)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-3.0, -1.0])), rtol=1e-6)
    assert labels.tolist() == [1, 2]


def test_iou_and_ciou_by_hand():
    a, b = tf.constant([[0.0, 0, 10, 10]]), tf.constant([[5.0, 0, 15, 10]])
    np.testing.assert_allclose(iou(a, b), [1 / 3], rtol=1e-6)
    # Same aspect: CIoU = IoU - (centre distance / diagonal of the enclosing box) squared.
    np.testing.assert_allclose(ciou(a, b), [1 / 3 - 25 / (15**2 + 10**2)], rtol=1e-5)
    np.testing.assert_allclose(ciou(a, a), [1.0], atol=1e-6)
    assert iou(tf.zeros((1, 4)), tf.zeros((1, 4))).numpy() == 0


def test_assignment_takes_cells_inside_the_object_and_prefers_the_aligned_one():
    outputs = blank_outputs()
    outputs["box_8"][0, 3, 3] = np.log(1.5)  # exactly the object below
    outputs["cls_8"][0, 3, 3, 2] = 4.0
    truth = np.array([[[2, 16, 16, 40, 40], [-1] * 5]], np.float32)
    raw, logits, centres, strides = flat(outputs)
    scores, boxes, weight = assign(logits, decode_boxes(raw, centres, strides), centres, truth)
    chosen = np.flatnonzero(weight[0].numpy())
    inside = ((centres.numpy() > 16) & (centres.numpy() < 40)).all(axis=1)
    assert inside[chosen].all()
    assert 1 <= len(chosen) <= 10
    best = int(np.argmax(weight[0]))
    assert best == 3 * 8 + 3
    # The best cell's target is its IoU, here 1; nothing else is asked of other classes.
    np.testing.assert_allclose(weight[0, best], 1.0, atol=1e-5)
    np.testing.assert_allclose(scores[0, best], [0, 0, 1], atol=1e-5)
    np.testing.assert_array_equal(boxes[0, best], truth[0, 0, 1:])
    assert not scores[0, :, :2].numpy().any()


def test_no_more_than_top_k_cells_answer():
    truth = np.array([[[0, 0, 0, 64, 64]]], np.float32)
    outputs = blank_outputs()
    for name in outputs:
        outputs[name] += np.random.default_rng(0).normal(0, 0.1, outputs[name].shape).astype(np.float32)
    raw, logits, centres, strides = flat(outputs)
    _, _, weight = assign(logits, decode_boxes(raw, centres, strides), centres, truth, top_k=4)
    assert np.count_nonzero(weight) == 4


def test_a_cell_wanted_twice_goes_to_the_object_that_it_covers_best():
    outputs = blank_outputs()
    outputs["box_32"][0, 0, 0] = np.log(0.5)  # the cell at (16, 16) says 0..32
    truth = np.array([[[0, 0, 0, 32, 32], [1, 0, 0, 60, 60]]], np.float32)
    raw, logits, centres, strides = flat(outputs)
    _, boxes, _ = assign(logits, decode_boxes(raw, centres, strides), centres, truth)
    np.testing.assert_array_equal(boxes[0, 80], [0, 0, 32, 32])


def test_padding_rows_ask_for_nothing():
    truth = np.full((2, 3, 5), -1, np.float32)
    raw, logits, centres, strides = flat(blank_outputs(batch=2))
    scores, _, weight = assign(logits, decode_boxes(raw, centres, strides), centres, truth)
    assert not scores.numpy().any()
    assert not weight.numpy().any()
    class_loss, box_loss = detection_loss({k: tf.constant(v) for k, v in blank_outputs(batch=2).items()}, truth)
    assert np.isfinite(class_loss)
    assert box_loss == 0


def test_loss_is_low_for_a_right_answer_and_high_for_a_wrong_one():
    truth = np.array([[[2, 16, 16, 40, 40]]], np.float32)
    right = blank_outputs(logit=-9.0)
    right["cls_8"][0, 2:5, 2:5, 2] = 9.0
    _, _, centres, strides = flat(right)
    encoded = encode_boxes(np.broadcast_to(truth[0, 0, 1:], (84, 4)), centres, strides).numpy()
    right["box_8"][0] = encoded[:64].reshape(8, 8, 4)
    wrong = blank_outputs(logit=-9.0)
    wrong["cls_8"][0, 2:5, 2:5, 0] = 9.0
    assert max(losses_of(right, truth)) < 0.01
    class_loss, box_loss = losses_of(wrong, truth)
    assert class_loss > 5
    assert box_loss > 0.5


def test_gradients_are_finite_for_extreme_outputs():
    outputs = {name: tf.Variable(value) for name, value in blank_outputs().items()}
    outputs["box_8"].assign_add(tf.fill(outputs["box_8"].shape, 80.0))
    outputs["cls_8"].assign_add(tf.fill(outputs["cls_8"].shape, -200.0))
    with tf.GradientTape() as tape:
        loss = sum(detection_loss(outputs, np.array([[[0, 1, 1, 60, 50]]], np.float32)))
    for gradient in tape.gradient(loss, list(outputs.values())):
        assert np.isfinite(gradient).all()


def test_nothing_is_said_about_a_class_where_it_is_open():
    outputs = blank_outputs(logit=-9.0)
    outputs["cls_8"][0, 2:5, 2:5, 1] = 6.0  # finds of class 1 that no object explains
    padding, left = [-1] * 5, [unknown(1), 0, 0, 40, 64]
    told = losses_of(outputs, np.array([[padding, padding]], np.float32))[0]
    open_ = losses_of(outputs, np.array([[padding, left]], np.float32))[0]
    assert told > 50
    assert open_ < 0.1
    # It is open for that class alone, and only there.
    assert losses_of(outputs, np.array([[padding, [unknown(0), 0, 0, 40, 64]]], np.float32))[0] > 50
    assert losses_of(outputs, np.array([[padding, [unknown(1), 40, 0, 64, 64]]], np.float32))[0] > 50


def test_a_known_object_counts_in_an_open_region():
    outputs = blank_outputs(logit=-9.0)
    truth = np.array([[[1, 16, 16, 40, 40], [unknown(1), 0, 0, 64, 64]]], np.float32)
    class_loss, box_loss = losses_of(outputs, truth)
    assert class_loss > 5
    assert box_loss > 0.5


def test_a_pupil_that_answers_like_its_teacher_has_nothing_to_learn():
    teacher = blank_outputs()
    teacher["cls_16"][0, 1, 2, 0] = 4.0
    taught = {name: tf.constant(value) for name, value in teacher.items()}
    np.testing.assert_allclose(distillation_loss(taught, taught), [0.0, 0.0], atol=1e-5)


def test_a_pupil_is_drawn_to_scores_and_boxes_of_its_teacher_where_that_sees_something():
    teacher, pupil = blank_outputs(logit=-9.0), blank_outputs(logit=-9.0)
    teacher["cls_16"][0, 1, 2, 0] = 4.0
    teacher["box_16"][0, 1, 2] = 0.7
    variables = {name: tf.Variable(value) for name, value in pupil.items()}
    with tf.GradientTape() as tape:
        class_loss, box_loss = distillation_loss(variables, {name: tf.constant(a) for name, a in teacher.items()})
        total = class_loss + box_loss
    # By hand: a score of p, unseen by the pupil, costs about 4 p * (p * 9 + log 1); all else is next to nothing.
    p = 1 / (1 + np.exp(-4.0))
    np.testing.assert_allclose(class_loss, 4.0 * p * 9.0 * p, rtol=2e-2)
    by_class, by_box = tape.gradient(total, [variables["cls_16"], variables["box_16"]])
    seen = np.zeros((1, 4, 4), bool)
    seen[0, 1, 2] = True
    assert by_class.numpy()[seen][0, 0] < -1.0
    assert (by_box.numpy()[seen] < -0.1).all(), "its box is too small"
    assert np.abs(by_box.numpy()[~seen]).max() < 1e-2 and np.abs(by_class.numpy()[~seen]).max() < 1e-2
