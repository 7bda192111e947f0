from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import models
from edge.errors import InputError
from models.detection.blocks import fold_input_scaling
from models.detection.heads.anchors import Anchors
from models.detection.network import convolutions, edge_yolo
from models.detection.weights import folded_weights, set_folded, tflite_weights
from models.layers import FusedBatchNormalization, NearestUpsample2x

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDES = {8: (8, 12), 16: (4, 6), 32: (2, 3)}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    built = models.build("edge-yolo-n", num_classes=5, input_size=(64, 96))
    # Moving statistics as training leaves them: nothing may rely on the fresh mean 0 and variance 1.
    rng = np.random.default_rng(0)
    for layer in built.layers:
        if isinstance(layer, FusedBatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(*span, shape) for span in ((0.5, 1.5), (-1, 1), (-0.3, 0.3), (0.5, 1.5))])
    return built


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).random((1, 64, 96, 3), np.float32)


def test_outputs_have_the_promised_names_and_shapes(model, image):
    outputs = model(image, training=False)
    assert list(outputs) == ["box_8", "cls_8", "box_16", "cls_16", "box_32", "cls_32"]
    for stride, (height, width) in SIDES.items():
        assert outputs[f"box_{stride}"].shape == (1, height, width, 4)
        assert outputs[f"cls_{stride}"].shape == (1, height, width, 5)


def test_models_are_small(model):
    assert model.count_params() < 420_000
    assert models.build("edge-yolo-s").count_params() < 1_400_000


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="n, s"):
        edge_yolo("xl", 2)


ANCHORS = Anchors(tuple(tuple((8.0 * 2**i + k, 10.0 * 2**i) for k in range(3)) for i in range(3)))


def test_anchor_head_has_the_promised_names_and_shapes(image):
    outputs = edge_yolo("n", 5, (64, 96), head=ANCHORS)(image, training=False)
    channels = {"xy": 6, "wh": 6, "obj": 3, "cls": 15}
    assert list(outputs) == [f"head_{i}_{part}" for i in range(3) for part in channels]
    for i, (height, width) in enumerate(SIDES.values()):
        for part, count in channels.items():
            assert outputs[f"head_{i}_{part}"].shape == (1, height, width, count)


def test_folded_network_answers_like_the_one_it_was_made_of(model, image):
    folded = edge_yolo("n", 5, (64, 96), folded=True)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    assert set_folded(folded, folded_weights(model), "abcde", "abcde") == []
    for name, value in model(image, training=False).items():
        np.testing.assert_allclose(folded(image, training=False)[name], value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("to_half", [False, True])
def test_weights_come_back_from_a_deployed_file(model, image, to_half):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if to_half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    weights = tflite_weights(converter.convert())
    assert set(weights) == {layer.name for layer in convolutions(model)}
    folded = edge_yolo("n", 5, (64, 96), folded=True)
    assert set_folded(folded, weights, "abcde", "abcde") == []
    for name, value in model(image, training=False).items():
        np.testing.assert_allclose(folded(image, training=False)[name], value, atol=0.05 if to_half else 1e-4)


def test_quantised_weights_are_refused(model):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with pytest.raises(InputError, match="expected the float32 or float16 form"):
        tflite_weights(converter.convert())


def test_classes_are_matched_by_label(model, image):
    folded = edge_yolo("n", 3, (64, 96), folded=True)
    fresh = folded.get_layer("cls_8").get_weights()[0][..., 1]
    anew = set_folded(folded, folded_weights(model), "abcde", ("d", "new", "a"))
    assert sorted(anew) == ["cls_16", "cls_32", "cls_8"]
    np.testing.assert_array_equal(folded.get_layer("cls_8").get_weights()[0][..., 1], fresh)
    ours, theirs = folded(image, training=False), model(image, training=False)
    np.testing.assert_allclose(ours["cls_8"][..., 0], theirs["cls_8"][..., 3], atol=1e-4)
    np.testing.assert_allclose(ours["cls_8"][..., 2], theirs["cls_8"][..., 0], atol=1e-4)
    np.testing.assert_allclose(ours["box_32"], theirs["box_32"], atol=1e-4)


def test_another_kind_of_head_keeps_the_rest(model):
    folded = edge_yolo("n", 5, (64, 96), folded=True, head=ANCHORS)
    anew = set_folded(folded, folded_weights(model), "abcde", "abcde")
    assert anew == [layer.name for layer in convolutions(folded) if layer.name.startswith("head_")]
    np.testing.assert_array_equal(folded.get_layer("pan_5_pw").get_weights()[0], folded_weights(model)["pan_5_pw"][0])


def test_weights_of_another_size_are_refused(model):
    with pytest.raises(InputError, match="a network of the same size"):
        set_folded(edge_yolo("s", 5, (64, 96), folded=True), folded_weights(model), "abcde", "abcde")


@pytest.mark.parametrize("size", [(64, 100), (0, 64)])
def test_bad_size_is_refused(size):
    with pytest.raises(ValueError, match="multiples of 32"):
        models.build("edge-yolo-n", num_classes=2, input_size=size)


def test_saved_model_loads_in_safe_mode_and_answers_the_same(model, image, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    for name, value in model(image, training=False).items():
        np.testing.assert_array_equal(value, again(image, training=False)[name])


def test_converted_model_is_one_xnnpack_partition_and_answers_the_same(model, image):
    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec(image.shape, tf.float32)
    )
    frozen = convert_variables_to_constants_v2(concrete)
    content = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    assert operators.count("DELEGATE") == 1
    # Padding, scaling and normalisation are all folded into the convolutions.
    assert set(operators) == {
        "ADD", "CONCATENATION", "CONV_2D", "DELEGATE", "DEPTHWISE_CONV_2D", "RESHAPE", "MAX_POOL_2D"
    }  # fmt: skip
    found = {detail["shape"].tobytes(): interpreter.get_tensor(detail["index"])
             for detail in interpreter.get_output_details()}  # fmt: skip
    for name, value in model(image, training=False).items():
        key = np.array(value.shape, np.int32).tobytes()
        np.testing.assert_allclose(found[key], value, atol=1e-4, err_msg=name)


def test_upsampling_repeats_rows_and_columns():
    x = np.random.default_rng(0).random((2, 3, 5, 7), np.float32)
    expected = x.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(NearestUpsample2x()(x), expected)
    assert NearestUpsample2x().compute_output_shape((None, 3, None, 7)) == (None, 6, None, 7)


def test_fused_normalisation_equals_the_one_of_keras():
    x = np.random.default_rng(0).normal(2.0, 3.0, (4, 8, 8, 6)).astype(np.float32)
    fused, plain = FusedBatchNormalization(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)
    for _ in range(3):
        np.testing.assert_allclose(fused(x, training=True), plain(x, training=True), atol=1e-4)
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, atol=1e-4)
    # The fused kernel's moving variance is the unbiased one: n / (n - 1) of Keras'.
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=5e-3)
    plain.set_weights(fused.get_weights())
    np.testing.assert_allclose(fused(x, training=False), plain(x, training=False), atol=1e-4)


def test_frozen_normalisation_keeps_its_statistics():
    layer = FusedBatchNormalization()
    x = np.ones((1, 2, 2, 3), np.float32) * 5
    layer.build(x.shape)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1 + layer.epsilon), rtol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean, 0.0)


def test_folded_scaling_turns_minus_one_to_one_into_zero_to_one():
    x = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    conv, norm = keras.layers.Conv2D(4, 3, use_bias=False), FusedBatchNormalization()
    expected = norm(conv(x * 2 - 1), training=False)
    fold_input_scaling(conv, norm)
    np.testing.assert_allclose(norm(conv(x), training=False), expected, atol=1e-5)


def test_backbone_takes_the_weights_of_a_file_and_answers_like_it(tmp_path):
    keras.utils.set_random_seed(3)
    base = keras.applications.MobileNetV2((224, 224, 3), alpha=0.35, include_top=False, weights=None)
    base.save_weights(tmp_path / "backbone.weights.h5")
    weights = str(tmp_path / "backbone.weights.h5")
    model = models.build("edge-yolo-n", num_classes=2, input_size=(96, 96), backbone_weights=weights)
    ours = keras.Model(model.input, model.get_layer("block_13_expand_relu").output)
    theirs = keras.Model(base.input, base.get_layer("block_13_expand_relu").output)
    x = np.random.default_rng(0).random((1, 96, 96, 3), np.float32)
    clone = keras.models.clone_model(theirs, input_tensors=keras.Input((96, 96, 3)))
    clone.set_weights(theirs.get_weights())
    expected = np.asarray(clone(x * 2 - 1, training=False))
    # Only the padding differs: our border is black (0), theirs is grey (0 of -1..1).
    np.testing.assert_allclose(np.asarray(ours(x, training=False))[:, :3, :3], expected[:, :3, :3], atol=1e-4)
