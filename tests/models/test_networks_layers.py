"""The classic worked example, and the layers that the networks bring."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from convert.api import convert_model
from convert.describe import Description
from convert.load import load
from models.layers import DepthPool, LocalResponseNormalization

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def pictures():
    """China and flower of scikit-learn, centre-cropped to 70 x 120, values 0..1."""
    images = keras.layers.CenterCrop(height=70, width=120)(np.stack(load_sample_images().images))
    return keras.layers.Rescaling(scale=1 / 255)(images)


@pytest.mark.parametrize(("padding", "shape"), [("valid", (2, 64, 114, 32)), ("same", (2, 70, 120, 32))])
def test_a_convolution_of_two_pictures(pictures, padding, shape):
    assert keras.layers.Conv2D(filters=32, kernel_size=7, padding=padding)(pictures).shape == shape


def test_global_averages_of_two_pictures(pictures):
    expected = [[0.64338624, 0.5971759, 0.5824972], [0.76306933, 0.2601113, 0.10849128]]
    np.testing.assert_allclose(keras.layers.GlobalAvgPool2D()(pictures), expected, rtol=2e-6)


def test_depth_pool_takes_the_largest_of_neighbouring_channels(pictures):
    features = np.random.default_rng(0).normal(size=(2, 5, 4, 12)).astype(np.float32)
    expected = features.reshape(2, 5, 4, 4, 3).max(axis=-1)
    np.testing.assert_array_equal(DepthPool(3)(features), expected)
    assert DepthPool(pool_size=3)(pictures).shape == (2, 70, 120, 1)


def test_depth_pool_passes_gradients_to_the_largest_only():
    features = tf.constant([[[[1.0, 3.0, 2.0, -1.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = DepthPool(2)(features)
    np.testing.assert_array_equal(tape.gradient(pooled, features), [[[[0, 1, 1, 0]]]])


@pytest.mark.parametrize("size", [5, 24])
def test_depth_pool_refuses_groups_that_do_not_come_out_even(size):
    with pytest.raises(ValueError, match=f"12 channels do not fall into groups of {size}"):
        DepthPool(size)(keras.Input((4, 4, 12)))
    with pytest.raises(ValueError, match="at least 1"):
        DepthPool(0)


def test_local_response_normalization_is_the_papers():
    features = np.random.default_rng(0).normal(scale=40, size=(2, 3, 4, 9)).astype(np.float32)
    expected = tf.nn.local_response_normalization(features, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75)
    np.testing.assert_allclose(LocalResponseNormalization()(features), expected, rtol=1e-5)


def test_local_response_normalization_of_half_floats_does_not_overflow():
    features = np.full((1, 1, 1, 5), 1000, np.float16)
    normalised = np.asarray(LocalResponseNormalization(dtype="float16")(features))
    assert normalised.dtype == np.float16
    np.testing.assert_allclose(normalised[0, 0, 0, 2], 1000 / (2 + 500) ** 0.75, rtol=2e-3)


@pytest.mark.parametrize("layer", [DepthPool(4), LocalResponseNormalization()], ids=["depth-pool", "lrn"])
def test_saved_converted_and_in_one_partition(layer, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    keras.utils.set_random_seed(0)
    image = keras.Input((16, 12, 3), name="image")
    x = layer(keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer="random_normal")(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu")(x))
    model = keras.Model(image, keras.layers.Dense(5, activation="softmax", name="scores")(x))
    model.save(tmp_path / "net.keras")

    out = tmp_path / "net.tflite"
    done = convert_model(lambda: load(tmp_path / "net.keras", None, Description(input_range="0..255")), out)
    assert (done.partitions.partitions, done.partitions.delegated) == (1, done.partitions.operators)
    interpreter = Interpreter(str(out))
    interpreter.allocate_tensors()
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 16, 12, 3)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(scores, model(pixels, training=False), atol=1e-5)
