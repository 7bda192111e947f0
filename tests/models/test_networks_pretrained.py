"""ImageNet weights: found offline, downloaded whole or not at all, and errors that say what to do."""

from __future__ import annotations

import hashlib
import io
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import models
from edge.errors import InputError
from models.networks import pretrained
from models.networks.pretrained import Base, weights_file

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

V1 = "mobilenet_2_5_224_tf_no_top.h5"
V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
CONTENT = b"weights"
BASE = Base(keras.applications.VGG16, "vgg16/base.h5", hashlib.md5(CONTENT).hexdigest())


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty Keras home; whoever wants to download is refused."""

    def refuse(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(pretrained.urllib.request, "urlopen", refuse)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file", "first"), [("mobilenet-v1-0.25", V1, "conv1"), ("mobilenet-v2-0.35", V2, "Conv1")]
)
def test_files_in_the_keras_home_serve_every_input_size(shared_data, home, name, file, first):
    import h5py

    (home / "models").mkdir()
    (home / "models" / file).symlink_to(shared_data(f"keras/{file}"))
    model = models.build(name, input_shape=(64, 96, 3), num_classes=4, weights="imagenet")
    with h5py.File(home / "models" / file) as stored:
        kernels: list[np.ndarray] = []
        stored[first].visititems(lambda _, item: kernels.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    np.testing.assert_array_equal(model.get_layer(first).get_weights()[0], kernels[0])
    assert [layer.name for layer in model.layers[-3:]] == ["pool", "dropout", "scores"]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet-v2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
        ("resnet-50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("vgg-16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("xception", "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(home, name, file):
    with pytest.raises(InputError) as caught:
        models.build(name, input_shape=(96, 96, 3), num_classes=3, weights="imagenet")
    message = str(caught.value)
    assert "\n" not in message and f"{file} are not in {home}/models" in message
    assert "no route to host" in message and "fetch https://" in message and f"/{file} on a machine" in message


def test_every_row_with_weights_asks_for_a_file_of_keras_applications(monkeypatch):
    """A cache that Keras filled is found: site, digest and name are Keras' own."""
    asked = []
    for module in ("vgg", "resnet", "xception", "mobilenet"):
        monkeypatch.setattr(
            f"models.networks.{module}.transfer", lambda base, *rest: asked.append((base.make, base.file, base.md5))
        )
    rows = [name for name, row in models.MODELS.items() if row.pretrained]
    for name in rows:
        models.build(name, weights="imagenet")
    keras_asked = []
    monkeypatch.setattr(
        "keras.src.utils.file_utils.get_file",
        lambda name, url, cache_subdir, file_hash=None: keras_asked.append((name, url, file_hash)) or "/nowhere",
    )
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, path: None)

    def ask() -> None:
        with keras.StatelessScope(initialize_variables=False):
            for make, _, _ in asked:
                make(include_top=False, weights="imagenet", input_shape=(224, 224, 3))

    # In a thread of its own Keras forgets the variables that never get values; see `models.macs.measure`.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(ask).result()
    site = "https://storage.googleapis.com/tensorflow/keras-applications/"
    assert keras_asked == [(file.split("/")[-1], site + file, md5) for _, file, md5 in asked]
    assert len(rows) == len(asked) == 9


def test_a_download_is_checked_and_kept(home, monkeypatch):
    asked = []

    def serve(content):
        def open_url(url, timeout):
            asked.append(url)
            return io.BytesIO(content)

        monkeypatch.setattr(pretrained.urllib.request, "urlopen", open_url)

    serve(b"half of it")
    with pytest.raises(InputError, match="the download has the MD5 .*, expected .*; try again"):
        weights_file(BASE)
    assert list((home / "models").iterdir()) == []
    serve(CONTENT)
    path = weights_file(BASE)
    assert path == home / "models" / "base.h5" and path.read_bytes() == CONTENT
    assert weights_file(BASE) == path and len(asked) == 2
    assert asked[0] == "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/base.h5"


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all"])
def test_a_file_that_holds_no_weights_is_named(home, content):
    (home / "models").mkdir()
    (home / "models" / V2).write_bytes(content)
    with pytest.raises(InputError, match=rf"{V2}: these are not the weights of mobilenet-v2-0.35 \("):
        models.build("mobilenet-v2-0.35", input_shape=(32, 32, 3), num_classes=3, weights="imagenet")


def test_weights_of_another_network_are_refused(shared_data, home):
    (home / "models").mkdir()
    (home / "models" / V2).symlink_to(shared_data(f"keras/{V1}"))
    with pytest.raises(InputError, match=rf"{V2}: these are not the weights of mobilenet-v2-0.35 \("):
        models.build("mobilenet-v2-0.35", input_shape=(32, 32, 3), num_classes=3, weights="imagenet")


@pytest.mark.parametrize(
    ("name", "shape", "side"),
    [("mobilenet-v2", (96, 96, 1), 32), ("mobilenet-v2", (31, 96, 3), 32), ("xception", (96, 70, 3), 71)],
)
def test_an_input_that_the_base_cannot_take_is_refused(home, name, shape, side):
    with pytest.raises(InputError, match=rf"{name}: input .*, expected 3 channels and at least {side} x {side} pixels"):
        models.build(name, input_shape=shape, num_classes=3, weights="imagenet")
