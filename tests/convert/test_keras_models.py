"""Keras files and SavedModels: what loads, what is refused, and what the written file then says."""

from __future__ import annotations

import json
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from networks import Runner

from convert.describe import Description
from convert.load import load
from convert.quantize import quantize
from edge.backends.partitions import partitions
from edge.errors import InputError, SpecError

# Keras itself warns that .h5 is an old format, in absl's log and as a warning.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def classifier(units=3, activation="softmax", rescale=True, shape=(16, 16, 3), **options):
    keras.utils.set_random_seed(1)
    scaling = [layers.RandomFlip(), layers.Rescaling(1 / 255)] if rescale else []
    return keras.Sequential(
        [
            keras.Input(shape),
            *scaling,
            layers.Conv2D(8, 3, strides=2, activation="relu", **options),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(units, activation=activation),
        ]
    )


def detector():
    keras.utils.set_random_seed(2)
    image = keras.Input((64, 64, 3))
    features = layers.Conv2D(8, 3, strides=8, padding="same")(image)
    deep = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(features)
    back = keras.Sequential([layers.Conv2D(8, 1), layers.UpSampling2D(2, interpolation="nearest")], name="neck")
    fused = layers.Concatenate()([features, back(deep)])
    return keras.Model(image, [layers.Conv2D(21, 1, name="small")(deep), layers.Conv2D(21, 1, name="large")(fused)])


def saved(model, path):
    model.save(path)
    return path


def values_of(path, model, **given):
    """Convert to float32 and compare every output, by name, with the Keras model; return the spec."""
    loaded = load(path, given=Description(**given))
    runner = Runner(quantize(loaded, "float32"))
    image = np.random.default_rng(0).random(loaded.input_shape, np.float32)
    expected = model(image, training=False)
    if not isinstance(expected, dict):
        expected = dict(zip(loaded.output_names, tf.nest.flatten(expected), strict=True))
    found = runner(image)
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values.numpy(), atol=1e-4)
    return loaded.spec


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_classifier(suffix, tmp_path):
    model = classifier()
    spec = values_of(saved(model, tmp_path / f"net{suffix}"), model)
    assert (spec.name, spec.task, spec.decoder.name) == ("net", "classify", "classifier")
    assert spec.decoder.params == {"activation": "none"}
    assert (spec.input.mean, spec.input.std) == ((0,), (1,))  # it holds a Rescaling
    assert (spec.input.size_wh, spec.input.color, spec.input.resize) == ((16, 16), "RGB", "stretch")


def test_input_range_is_never_guessed(tmp_path):
    model = classifier(rescale=False, activation=None)
    path = saved(model, tmp_path / "net.keras")
    with pytest.raises(SpecError, match="pass --input-range"):
        load(path)
    spec = values_of(path, model, input_range="-1..1", color="bgr", resize="center-crop")
    assert (spec.input.mean, spec.input.std) == ((127.5,), (127.5,))
    assert (spec.input.color, spec.input.resize) == ("BGR", "center-crop")
    assert spec.decoder.params == {"activation": "softmax"}
    with pytest.raises(SpecError, match="expected one of 0..1"):
        load(path, given=Description(input_range="-2..2"))
    with pytest.raises(SpecError, match="resize"):
        load(path, given=Description(input_range="0..1", resize="squash"))


def test_arithmetic_on_pixels_counts_as_scaling(tmp_path):
    image = keras.Input((8, 8, 3))
    scores = layers.Dense(3, activation="softmax")(layers.Flatten()(image / 127.5 - 1.0))
    model = keras.Model(image, scores)
    spec = values_of(saved(model, tmp_path / "net.keras"), model)
    assert (spec.input.mean, spec.input.std) == ((0,), (1,))


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_unit_becomes_two_classes(activation, tmp_path):
    model = classifier(1, activation)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    loaded = load(saved(model, tmp_path / "net.keras"), given=Description(labels=tmp_path / "labels.txt"))
    image = np.random.default_rng(0).random(loaded.input_shape, np.float32) * 255
    (found,) = Runner(quantize(loaded, "float32"))(image).values()
    second = model(image, training=False).numpy()
    second = second if activation else 1 / (1 + np.exp(-second))
    np.testing.assert_allclose(found, np.concatenate([1 - second, second], axis=1), atol=1e-5)
    assert loaded.spec.labels == ("cat", "dog")
    assert loaded.spec.decoder.params == {"activation": "none"}


def test_labels_must_fit(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    path = saved(classifier(), tmp_path / "net.keras")
    with pytest.raises(InputError, match="2 labels, but the model has 3 classes"):
        load(path, given=Description(labels=tmp_path / "labels.txt"))


def test_open_size_is_asked_for(tmp_path):
    path = saved(classifier(shape=(None, None, 3)), tmp_path / "net.keras")
    with pytest.raises(InputError, match="pass --size WxH"):
        load(path)
    assert load(path, given=Description(size_wh=(48, 32))).input_shape == (1, 32, 48, 3)
    fixed = saved(classifier(), tmp_path / "fixed.keras")
    with pytest.raises(InputError, match="has a fixed size"):
        load(fixed, given=Description(size_wh=(48, 32)))


def test_picture_without_channel_axis(tmp_path):
    model = keras.Sequential([keras.Input((8, 6)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(4)])
    loaded = load(saved(model, tmp_path / "net.keras"))
    assert loaded.input_shape == (1, 8, 6, 1)
    assert loaded.spec.input.color == "GRAY"
    image = np.random.default_rng(0).random((1, 8, 6, 1), np.float32)
    (found,) = Runner(quantize(loaded, "float32"))(image).values()
    np.testing.assert_allclose(found, model(image[..., 0]).numpy(), atol=1e-5)


def test_mixed_precision_becomes_float32(tmp_path):
    model = classifier(dtype="mixed_float16")
    loaded = load(saved(model, tmp_path / "net.keras"))
    image = np.random.default_rng(0).random(loaded.input_shape, np.float32)
    (found,) = Runner(quantize(loaded, "float32"))(image).values()
    np.testing.assert_allclose(found, model(image, training=False).numpy(), atol=2e-3)


def test_upsampling_is_mended(tmp_path):
    model = detector()
    path = saved(model, tmp_path / "net.keras")
    anchors = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 60)))
    spec = values_of(path, model, decoder="yolo_anchors", anchors=anchors)
    assert spec.decoder.outputs == {"head_0": "large", "head_1": "small"}
    assert spec.decoder.params["strides"] == [8, 16]
    assert spec.decoder.params["classes"] == 2
    assert (spec.input.std, spec.input.resize) == ((255,), "letterbox-center")
    loaded = load(path, given=Description(decoder="yolo_anchors", anchors=anchors[::-1], strides=(16, 8)))
    assert loaded.spec.decoder.outputs == {"head_0": "small", "head_1": "large"}
    (tmp_path / "net.tflite").write_bytes(quantize(loaded, "float32"))
    found = partitions(tmp_path / "net.tflite")
    assert (found.partitions, found.delegated) == (1, found.operators)


@pytest.mark.parametrize(
    ("given", "telling"),
    [
        ({}, "do not say what they are; pass --decoder"),
        ({"decoder": "yolo"}, "expected one of yolo_anchors"),
        ({"decoder": "yolo_anchors"}, "needs its anchors: --anchors"),
        ({"decoder": "yolo_anchors", "anchors": (((1, 2),),)}, "--anchors describes 1 heads"),
        ({"decoder": "yolo_anchors", "anchors": (((1, 2),) * 2,) * 2}, "channels"),
        ({"decoder": "yolo_anchors", "anchors": (((1, 2),) * 3,) * 2, "strides": (8, 32)}, "--strides says"),
        ({"decoder": "yolov8"}, "expects one output"),
        ({"decoder": "anchor_free"}, "cannot tell which of"),
        ({"decoder": "ssd_anchors"}, "pass --spec FILE.json"),
    ],
)
def test_heads_that_are_not_described(given, telling, tmp_path):
    path = saved(detector(), tmp_path / "net.keras")
    with pytest.raises(SpecError, match=telling):
        load(path, given=Description(**given))


@pytest.mark.parametrize(("decoder", "axes"), [("yolov8", (2, 1)), ("yolov5", (1, 2))])
def test_heads_of_rows(decoder, axes, tmp_path):
    image = keras.Input((32, 32, 3))
    rows = layers.Reshape((16, 7))(layers.Conv2D(7, 8, strides=8)(image))
    model = keras.Model(image, layers.Permute(axes)(rows))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n" if decoder == "yolov8" else "a\nb\n")
    spec = values_of(saved(model, tmp_path / "net.keras"), model, decoder=decoder, labels=tmp_path / "labels.txt")
    assert (spec.task, spec.decoder.name, list(spec.decoder.outputs)) == ("detect", decoder, ["output"])


def test_anchors_split_off_the_channels(tmp_path):
    image = keras.Input((32, 32, 3))
    head = layers.Conv2D(21, 8, strides=8)(image)
    path = saved(keras.Model(image, layers.Reshape((4, 4, 3, 7))(head)), tmp_path / "net.keras")
    loaded = load(path, given=Description(decoder="yolo_anchors", anchors=(((1, 2), (3, 4), (5, 6)),)))
    assert [tuple(tensor.shape) for tensor in loaded.graph.outputs] == [(1, 4, 4, 21)]


def trained_here():
    """A model with layers of this project and a dictionary of outputs, as the trainers save it."""
    from models.layers import FusedBatchNormalization, NearestUpsample2x

    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3), name="image")
    x = FusedBatchNormalization()(layers.Conv2D(8, 3, strides=16, padding="same")(image))
    x = NearestUpsample2x()(x)
    # Four classes: box and cls differ by nothing but their names.
    return keras.Model(image, {"cls_8": layers.Conv2D(4, 1)(x), "box_8": layers.Conv2D(4, 1)(x)})


def test_own_detector_with_its_description(tmp_path):
    model = trained_here()
    path = saved(model, tmp_path / "best.keras")
    description = {
        "name": "mine",
        "task": "detect",
        "input": {"size_wh": [32, 32], "pad_value": 7},
        "decoder": {
            "name": "anchor_free",
            "outputs": {"box_8": "box_8", "cls_8": "cls_8"},
            "params": {"strides": [8]},
        },
        "labels": ["a", "b", "c", "d"],
        "provenance": {"licence": "CC-BY-4.0", "attribution": "someone"},
        "accuracy": [{"dataset": "theirs", "metrics": {"mAP50": 0.5}}],
    }
    (tmp_path / "best.spec.json").write_text(json.dumps(description))
    spec = values_of(path, model)
    assert (spec.name, spec.labels, spec.input.pad_value) == ("mine", ("a", "b", "c", "d"), 7)
    assert spec.provenance.attribution == "someone"
    assert spec.provenance.source == "best.keras"
    assert spec.accuracy[0].metrics == {"mAP50": 0.5}
    assert values_of(path, model, name="other", licence="MIT").provenance.licence == "MIT"

    for change, telling in [
        ({"decoder": {"name": "anchor_free", "outputs": {"box_8": "nope"}}}, "names the outputs nope"),
        ({"input": {"size_wh": [64, 64]}}, "says 64 x 64 pixels"),
        ({"surprise": 1}, "unknown key surprise"),
    ]:
        (tmp_path / "bad.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(SpecError, match=telling):
            load(path, given=Description(spec=tmp_path / "bad.json"))


def test_own_detector_by_its_output_names(tmp_path):
    model = trained_here()
    spec = values_of(saved(model, tmp_path / "best.keras"), model, decoder="anchor_free")
    assert spec.decoder.outputs == {"box_8": "box_8", "cls_8": "cls_8"}
    assert spec.decoder.params == {"strides": [8]}


def run_code(values):
    """Leave a trace when it runs: the payload of the models below."""
    import pathlib

    pathlib.Path("executed").write_text("by a model file")
    return values


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("nested", [False, True])
def test_lambda_is_refused_and_never_run(suffix, nested, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = layers.Lambda(run_code, name="payload")
    inner = [keras.Sequential([keras.Input((8, 8, 3)), code])] if nested else [code]
    model = keras.Sequential([keras.Input((8, 8, 3)), *inner, layers.Flatten(), layers.Dense(3)])
    path = saved(model, tmp_path / f"net{suffix}")
    (tmp_path / "executed").unlink()  # building the model ran it once
    with pytest.raises(InputError, match="'payload' is a Lambda: it carries Python code, which is never run"):
        load(path, given=Description(input_range="0..1"))
    assert not (tmp_path / "executed").exists()


def edit_config(path, change):
    """Rewrite the configuration inside a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = change(members["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("module", ["os", "keras.utils", "keras.src.utils.file_utils", "subprocess", "kerasx"])
def test_other_modules_are_not_imported(module, tmp_path):
    path = saved(classifier(), tmp_path / "net.keras")
    old = '"module": "keras.layers", "class_name": "Dense"'
    edit_config(path, lambda text: text.replace(old, f'"module": "{module}", "class_name": "Dense"'))
    with pytest.raises(InputError, match="is not Keras's own; code that a file names is not imported"):
        load(path)


def test_our_prefix_does_not_open_other_modules(tmp_path):
    path = saved(classifier(), tmp_path / "net.keras")
    old = '"module": "keras.layers", "class_name": "Dense"'
    new = '"module": "os", "registered_name": "edge>Dense", "class_name": "Dense"'
    edit_config(
        path, lambda text: re.sub(r'"registered_name": null', '"registered_name": "edge>Dense"', text.replace(old, new))
    )
    with pytest.raises(InputError, match="is not Keras's own; code that a file names is not imported"):
        load(path)


def teachable_machine():
    """Build a model as Teachable Machine exports it: a backbone and a head, each Sequential, in a third Sequential."""
    keras.utils.set_random_seed(4)
    image = keras.Input((16, 16, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, use_bias=False)(image)))
    backbone = keras.Model(image, layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
    features = keras.Sequential([backbone, layers.GlobalAveragePooling2D()])
    head = keras.Sequential([layers.Dense(10, activation="relu"), layers.Dense(2, activation="softmax")])
    model = keras.Sequential([features, head])
    model.build((None, 16, 16, 3))
    return model


def add_groups(config):
    """Write `groups` into every DepthwiseConv2D, as Keras 2 did; return how many there are."""
    if isinstance(config, list):
        return sum(map(add_groups, config))
    if not isinstance(config, dict):
        return 0
    found = config.get("class_name") == "DepthwiseConv2D"
    if found:
        config["config"]["groups"] = 1
    return found + sum(map(add_groups, config.values()))


@pytest.mark.parametrize("kind", ["TFSMLayer", "TorchModuleWrapper", "StringLookup"])
def test_layers_that_load_things_are_refused(kind, tmp_path):
    path = saved(classifier(), tmp_path / "net.keras")
    edit_config(path, lambda text: text.replace('"class_name": "Dense"', f'"class_name": "{kind}"'))
    with pytest.raises(InputError, match=f"is a {kind}: it .* never"):
        load(path)


@pytest.mark.parametrize("build", [classifier, teachable_machine])
def test_keras_2_depthwise_groups(build, tmp_path):
    model = build()
    path = saved(model, tmp_path / "net.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        assert add_groups(config) == 1
        file.attrs["model_config"] = json.dumps(config)
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError), match="groups"):
        keras.models.load_model(path, compile=False)
    spec = values_of(path, model, input_range="-1..1")
    assert spec.decoder.params == {"activation": "none"}
    assert path.read_bytes() == before


def test_files_that_are_no_models(tmp_path):
    def refusal(path):
        with pytest.raises(InputError) as caught:
            load(path)
        message = str(caught.value)
        assert "\n" not in message
        return message

    good = saved(classifier(), tmp_path / "net.keras")
    data = good.read_bytes()
    hdf5 = saved(classifier(), tmp_path / "net.h5")
    old = hdf5.read_bytes()
    cases = {
        "none.keras": (None, "cannot read"),
        "empty.keras": (b"", "expected a Keras model"),
        "garbage.keras": (b"garbage" * 100, "expected a Keras model"),
        "cut.keras": (data[: len(data) // 2], "expected a .keras archive"),
        "cut.h5": (old[: len(old) // 2], "broken HDF5"),
    }
    for name, (content, telling) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert telling in refusal(tmp_path / name)
    classifier().save_weights(tmp_path / "only.weights.h5")
    assert "holds weights without a model" in refusal(tmp_path / "only.weights.h5")
    edit_config(good, lambda text: text[:-20])
    assert "is not JSON" in refusal(good)
    assert "no saved_model.pb" in refusal(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 64)
    assert "expected a SavedModel" in refusal(tmp_path)


def test_layer_that_keras_does_not_know(tmp_path):
    path = saved(classifier(), tmp_path / "net.keras")
    edit_config(path, lambda text: text.replace('"class_name": "Dense"', '"class_name": "Densest"'))
    with pytest.raises(InputError, match=r"net\.keras: Keras .* cannot load it: "):
        load(path)


def test_saved_model(tmp_path):
    model = classifier(rescale=False)
    model.export(tmp_path / "exported", verbose=False)
    with pytest.raises(SpecError, match="pass --input-range"):
        load(tmp_path / "exported")
    loaded = load(tmp_path / "exported", given=Description(input_range="0..1"))
    assert loaded.spec.decoder.params == {"activation": "auto"}
    image = np.random.default_rng(0).random(loaded.input_shape, np.float32)
    (found,) = Runner(quantize(loaded, "float32"))(image).values()
    np.testing.assert_allclose(found, model(image, training=False).numpy(), atol=1e-5)


def test_saved_model_that_writes_files_is_refused(tmp_path):
    class Writes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32)])
        def __call__(self, image):
            tf.io.write_file(str(tmp_path / "executed"), "by a model file")
            return tf.reduce_mean(image, axis=(1, 2))

    tf.saved_model.save(Writes(), tmp_path / "exported")
    with pytest.raises(InputError, match="has the operation WriteFile"):
        load(tmp_path / "exported", given=Description(input_range="0..1"))
    assert not (tmp_path / "executed").exists()
