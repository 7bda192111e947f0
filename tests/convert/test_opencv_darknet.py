"""Real networks against OpenCV 4.12's Darknet reader."""

from __future__ import annotations

import json
import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from darknet_reference import write_weights
from networks import Runner

from convert.darknet.build import Graph
from convert.darknet.cfg import read_cfg
from convert.describe import Description
from convert.load import load
from convert.quantize import quantize
from edge.backends.partitions import partitions

GOLDEN = Path(__file__).parent.parent / "golden" / "darknet" / "yolo_fastest_heads.json"
FLOATS = {"yolov3": 62_001_757, "yolov3-tiny": 8_858_734}
HEADS = {"yolov3": 3, "yolov3-tiny": 2, "yolov2-voc": 1, "densenet201": 1, "darknet19": 1}


@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_yolo_fastest_heads_equal_opencv(name, shared_data, tmp_path):
    """Every 401st number of both heads, for a picture of noise, as OpenCV 4.12.0 gave them."""
    golden = json.loads(GOLDEN.read_text())
    cfg = shared_data(f"darknet/{name}.cfg")
    model = load(cfg, given=Description(labels=shared_data("darknet/coco.names")))
    blob = np.random.default_rng(0).random((1, 3, 320, 320)).astype(np.float32)
    content = quantize(model, "float32")
    found = Runner(content)(blob.transpose(0, 2, 3, 1))
    expected = golden["heads"][name]
    assert sorted(found) == sorted(expected)
    for head, values in expected.items():
        assert np.ptp(values) > 10
        np.testing.assert_allclose(found[head].ravel()[:: golden["step"]], values, atol=1e-3)
    assert model.spec.labels[2] == "car"
    (tmp_path / "model.tflite").write_bytes(content)
    assert partitions(tmp_path / "model.tflite").partitions == 1


@pytest.fixture(scope="module")
def opencv_heads(tmp_path_factory):
    """Give a function that runs OpenCV 4.12, installed into an environment of its own, on a network and a blob."""
    folder = tmp_path_factory.mktemp("opencv")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "opencv-python-headless==4.12.*"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"opencv-python-headless 4.12 cannot be installed: {done.stderr.strip().splitlines()[-1:]}")

    def run(cfg, weights, blob):
        np.save(folder / "blob.npy", blob)
        script = Path(__file__).parent / "opencv_heads.py"
        subprocess.run([python, script, cfg, weights, folder / "blob.npy", folder / "heads.npz"], check=True)
        with np.load(folder / "heads.npz") as heads:
            return [heads[name] for name in sorted(heads.files)]

    return run


@pytest.fixture(scope="module")
def debian_cfgs(tmp_path_factory):
    """Folder of the cfgs in Debian's package `darknet`."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("no apt-get: the cfgs come from the Debian package darknet")
    folder = tmp_path_factory.mktemp("darknet")
    done = subprocess.run(["apt-get", "download", "darknet"], cwd=folder, capture_output=True, text=True)
    packages = list(folder.glob("darknet_*.deb"))
    if done.returncode or not packages:
        pytest.skip(f"apt-get download darknet failed: {done.stderr.strip().splitlines()[-1:]}")
    subprocess.run(["dpkg-deb", "-x", packages[0], folder / "package"], check=True)
    return folder / "package" / "usr" / "share" / "darknet" / "cfg"


def compare(cfg, weights, opencv_heads):
    model = load(cfg, weights)
    blob = np.random.default_rng(0).random(np.array(model.input_shape)[[0, 3, 1, 2]]).astype(np.float32)
    expected = opencv_heads(cfg, weights, blob)
    found = [head.numpy() for head in model.graph(tf.constant(blob.transpose(0, 2, 3, 1)))]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.ravel(), theirs.ravel(), atol=1e-3)
    return model


@pytest.mark.lab
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_all_heads_of_yolo_fastest(name, shared_data, opencv_heads):
    compare(shared_data(f"darknet/{name}.cfg"), shared_data(f"darknet/{name}.weights"), opencv_heads)


@pytest.mark.lab
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HEADS)
def test_networks_of_debian_with_random_weights(name, debian_cfgs, opencv_heads, tmp_path):
    cfg, weights = debian_cfgs / f"{name}.cfg", tmp_path / "random.weights"
    floats = random_weights(cfg, weights)
    if name in FLOATS:
        assert floats == FLOATS[name]
    model = compare(cfg, weights, opencv_heads)
    assert len(model.output_names) == HEADS[name]
    for mode in ("float32", "weight-only"):
        (tmp_path / "model.tflite").write_bytes(quantize(model, mode))
        assert partitions(tmp_path / "model.tflite").partitions == 1


class RandomWeights:
    """Stands in for the reader of a `.weights` file: makes numbers up, tame enough for a hundred layers."""

    def __init__(self):
        self._rng = np.random.default_rng(0)
        self.chunks = []

    def convolution(self, section, shape, normalized):
        bias = self._draw(self._rng.normal(0, 0.1, shape[0]))
        if normalized:
            self._draw(self._rng.uniform(0.8, 1.2, shape[0]))
            self._draw(self._rng.normal(0, 0.1, shape[0]))
            self._draw(self._rng.uniform(0.5, 1.5, shape[0]))
        return self._draw(self._rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)), bias

    def _draw(self, values):
        self.chunks.append(values.astype(np.float32).ravel())
        return self.chunks[-1].reshape(values.shape)


def random_weights(cfg, path):
    """Write parameters of a whole network; return how many numbers they are."""
    import keras

    net, sections = read_cfg(cfg)
    graph = Graph(keras.Input((net.integer("height", 0), net.integer("width", 0), 3)), RandomWeights())
    for section in sections:
        graph.add(section)
    floats = np.concatenate(graph.weights.chunks)
    write_weights(path, floats)
    return len(floats)
