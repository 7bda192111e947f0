"""The small networks on their way to the device: one XNNPACK partition, the same scores."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import models
from convert.api import convert_model
from convert.describe import Description
from convert.load import load

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def settle(model, shape):
    """Set the moving statistics to those of one batch: with fresh ones the signal dies on its way through."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.random.default_rng(1).uniform(0, 255, (8, *shape)).astype(np.float32), training=True)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet-5", (32, 32, 1)),
        ("mnist-convnet-a", (28, 28, 1)),
        ("fashion-convnet-small", (28, 28, 1)),
        ("mobilenet-v2-0.35", (32, 32, 3)),
    ],
)
def test_converted_it_is_one_partition_and_answers_the_same(name, shape, tmp_path):
    keras.utils.set_random_seed(0)
    model = models.build(name, input_shape=shape, num_classes=5)
    settle(model, shape)
    source, out = tmp_path / "net.keras", tmp_path / "net.tflite"
    model.save(source)
    done = convert_model(lambda: load(source, None, Description(input_range="0..255")), out)
    assert (done.partitions.partitions, done.partitions.delegated) == (1, done.partitions.operators)
    assert done.spec.decoder.outputs == {"scores": "scores"} and done.spec.decoder.params == {"activation": "none"}

    pixels = np.random.default_rng(0).uniform(0, 255, (1, *shape)).astype(np.float32)
    interpreter = Interpreter(str(out))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = np.asarray(model(pixels, training=False))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(scores, expected, atol=1e-4)
