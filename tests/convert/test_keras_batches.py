"""Classifiers and localisers of Keras on the device: the batch stays free, and a localiser's box gets through."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from convert.api import convert_model
from convert.load import load
from edge.backends.litert import LiteRTBackend
from edge.classifier import Classifier
from edge.loader import load_model
from edge.sliding import SlidingWindowDetector

layers = keras.layers


def network(box=False, attention=False):
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu")(image)
    if attention:
        weight = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
        x = layers.Multiply()([x, layers.Reshape((1, 1, 8))(weight)])
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    scores = layers.Dense(4, activation="softmax", name="scores")(layers.Dense(6, activation="relu")(x))
    if not box:
        return keras.Model(image, scores)
    where = layers.Dense(4, activation="sigmoid", name="box")(x)
    return keras.Model(image, {"scores": scores, "box": where})


def written(tmp_path, mode="float32", pictures=None, box=False, attention=False):
    path = tmp_path / "best.keras"
    model = network(box, attention)
    model.save(path)
    outputs = {"scores": "scores"} | ({"box": "box"} if box else {})
    decoder = {"name": "localizer" if box else "classifier", "outputs": outputs, "params": {"activation": "none"}}
    spec = {"name": "digits", "task": "classify", "input": {"resize": "stretch"}, "decoder": decoder}
    (tmp_path / "best.spec.json").write_text(json.dumps(spec | {"labels": ["a", "b", "c", "d"]}))
    done = convert_model(lambda: load(path), tmp_path / "best.tflite", mode, pictures, force=True)
    return model, done


@pytest.mark.parametrize("mode", ["float32", "float16", "dynamic", "weight-only", "int8"])
def test_a_classifier_takes_a_batch(mode, tmp_path, pictures):
    _, done = written(tmp_path, mode, pictures if mode == "int8" else None)
    assert done.partitions.partitions == 1
    images = np.random.default_rng(0).uniform(0, 1, (5, 12, 12, 3)).astype(np.float32)
    if mode == "int8":
        images = np.round(images * 255 - 128).astype(np.int8)
    backend = LiteRTBackend(done.path, threads=1)

    def scores(batch):
        return backend.infer(lambda tensor: np.copyto(tensor, batch))["scores"].copy()

    alone = np.concatenate([scores(image[None]) for image in images])
    backend.resize((5, 12, 12, 3))
    assert backend.outputs[0].shape == (5, 4)
    np.testing.assert_allclose(scores(images), alone, atol=1 if mode == "int8" else 1e-5)
    backend.resize((1, 12, 12, 3))
    np.testing.assert_allclose(scores(images[3:4]), alone[3:4], atol=1e-5)
    assert SlidingWindowDetector(load_model(done.path)).batch > 1


@pytest.mark.parametrize("batch", [7, 10])
def test_a_graph_that_is_tied_to_one_picture_is_noticed(batch, tmp_path):
    """The converter folds the Reshape of a channel attention into (1, 8) * (1, 10, 10, 8).

    A batch of 7 fits that nowhere; one of 10 fits, and pairs the weights with the rows of the pictures.
    """
    _, done = written(tmp_path, attention=True)
    detector = SlidingWindowDetector(load_model(done.path), batch=batch)
    assert detector.batch == 1
    assert detector.backend.outputs[0].shape == (1, 4)
    detector.detect(np.zeros((20, 20, 3), np.uint8))


@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_a_localiser_with_its_sidecar(mode, tmp_path, pictures):
    model, done = written(tmp_path, mode, pictures if mode == "int8" else None, box=True)
    assert done.spec.decoder.name == "localizer"
    assert {info.name: info.shape for info in done.outputs} == {"scores": (1, 4), "box": (1, 4)}
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    found, _ = Classifier.load(done.path, top=1).classify(image)
    truth = model.predict(image[None, ..., ::-1].astype(np.float32) / 255, verbose=0)
    corner = truth["box"].reshape(2, 2)
    expected = np.concatenate([corner.min(axis=0), corner.max(axis=0)]) * 12
    assert found.box_xyxy == pytest.approx(expected, abs=1 if mode == "int8" else 1e-3)
    assert found.class_id[0] == truth["scores"].argmax()
