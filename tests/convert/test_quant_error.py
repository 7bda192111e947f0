"""Where quantisation costs what."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from convert.loaded import LoadedModel, freeze
from convert.quant_error import tensor_errors
from convert.quantize import quantize
from edge.spec import DecoderSpec, InputSpec, ModelSpec

L = keras.layers


def samples():
    random = np.random.default_rng(0)
    return [random.random((1, 16, 16, 3)).astype(np.float32) for _ in range(6)]


@pytest.fixture(scope="module")
def model():
    """Three convolutions; the second has one channel a thousand times the others, which the third takes off again."""
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3), batch_size=1)
    x = L.ReLU()(L.Conv2D(6, 3, 2, "same", name="first")(image))
    x = L.Conv2D(6, 1, name="ruined")(x)
    x = L.Conv2D(4, 1, name="last")(x)
    model = keras.Model(image, x)
    factors = np.float32([1, 1, 1, 1, 1, 1000])
    middle, last = model.get_layer("ruined"), model.get_layer("last")
    middle.set_weights([middle.get_weights()[0] * factors, middle.get_weights()[1]])
    last.set_weights([last.get_weights()[0] / factors[:, None], last.get_weights()[1]])
    frozen = freeze(lambda x: tf.nest.flatten(model(x, training=False)), (1, 16, 16, 3))
    decoder = DecoderSpec(name="yolov8", outputs={"output": "output"})
    spec = ModelSpec(name="three", task="detect", input=InputSpec(), decoder=decoder)
    return LoadedModel(frozen, ("output",), spec)


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_the_tensor_that_ruins_the_rest_is_first(model, io):
    errors = tensor_errors(quantize(model, "float32"), quantize(model, "int8", samples, io), samples())
    assert {error.op for error in errors} == {"CONV_2D"}
    assert errors[0].name == "output" and errors[0].lost_db > 20
    assert [error.lost_db for error in errors] == sorted((error.lost_db for error in errors), reverse=True)
    first = next(error for error in errors if "first" in error.name)
    assert 30 < first.sqnr_db < 60


def test_a_model_equals_itself(model):
    content = quantize(model, "float32")
    errors = tensor_errors(content, content, samples())
    assert len(errors) == 3
    assert all(error.sqnr_db == np.inf and error.lost_db == 0 for error in errors)


def test_weight_only_quantisation_is_compared_too(model):
    errors = tensor_errors(quantize(model, "float32"), quantize(model, "float16"), samples())
    assert len(errors) == 3 and min(error.sqnr_db for error in errors) > 40


def test_no_samples_is_a_bug(model):
    content = quantize(model, "float32")
    with pytest.raises(ValueError, match="samples"):
        tensor_errors(content, content, [])
