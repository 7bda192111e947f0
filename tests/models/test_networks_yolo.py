"""YOLOv3 and YOLOv3-tiny: Darknet's weights fit, and the runtime reads the heads."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from convert.api import convert_model
from convert.darknet import load_darknet
from convert.load import load
from edge.backends.partitions import partitions
from edge.detector import Detector
from edge.spec import ModelSpec
from models.macs import measure
from models.networks.yolov3 import _Darknet, model_spec

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = """[net]
width=64
height=96
{stem}
{conv_512}
[maxpool]
size=2
stride=1
{conv_1024}{conv_256}{conv_512}{head}
[yolo]
mask=3,4,5
{yolo}
[route]
layers=-4
{conv_128_1}
[upsample]
stride=2
[route]
layers=-1,8
{conv_256_3}{head}
[yolo]
mask=1,2,3
{yolo}
"""
"""The network as Darknet publishes it, with two classes."""


def conv(filters: int, size: int, normalized: bool = True) -> str:
    kind = "batch_normalize=1\nactivation=leaky" if normalized else "activation=linear"
    return f"[convolutional]\nfilters={filters}\nsize={size}\nstride=1\npad=1\n{kind}\n"


def write_tiny(folder, floats):
    pool = "[maxpool]\nsize=2\nstride=2\n"
    cfg, weights = folder / "tiny.cfg", folder / "tiny.weights"
    cfg.write_text(
        TINY.format(
            stem="".join(conv(filters, 3) + pool for filters in (16, 32, 64, 128, 256)),
            conv_512=conv(512, 3),
            conv_1024=conv(1024, 3),
            conv_256=conv(256, 1),
            conv_128_1=conv(128, 1),
            conv_256_3=conv(256, 3),
            head=conv(21, 1, normalized=False),
            yolo="anchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319\nclasses=2\nnum=6",
        )
    )
    write_weights(weights, floats)
    return cfg, weights


def write_weights(path, floats):
    path.write_bytes(np.array([0, 2, 0, 0, 0], "<i4").tobytes() + floats.astype("<f4").tobytes())


def fill(model, seed=0):
    """Give every convolution random weights; return all of them in Darknet's order."""
    rng, floats = np.random.default_rng(seed), []
    layers = {layer.name: layer for layer in model.layers}
    for index in range(1, 1 + sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)):
        layer, norm = layers[f"conv_{index}"], layers.get(f"conv_{index}_bn")
        height, width, depth, filters = layer.kernel.shape
        kernel = rng.normal(0, (2 / (height * width * depth)) ** 0.5, layer.kernel.shape).astype(np.float32)
        bias = rng.uniform(-0.5, 0.5, filters).astype(np.float32)
        floats.append(bias)
        if norm is None:
            layer.set_weights([kernel, bias])
        else:
            scale, mean, variance = (rng.uniform(*span, filters) for span in ((0.5, 1.5), (-0.5, 0.5), (0.2, 2)))
            norm.set_weights([scale, bias, mean, variance])
            layer.set_weights([kernel])
            floats += [scale, mean, variance]
        floats.append(kernel.transpose(3, 2, 0, 1).ravel())
    return np.concatenate(floats)


@pytest.fixture(scope="module")
def tiny():
    return models.build("yolov3-tiny", input_shape=(96, 64, 3), num_classes=2)


def test_darknet_weights_give_what_the_darknet_reader_gives(tiny, tmp_path):
    cfg, weights = write_tiny(tmp_path, fill(tiny))
    read = load_darknet(cfg, weights)
    image = np.random.default_rng(1).random((1, 96, 64, 3), np.float32)
    outputs = tiny(image, training=False)
    expected = dict(zip(read.output_names, read.graph(tf.constant(image)), strict=True))
    assert list(outputs) == ["head_0", "head_1"]
    for name, values in outputs.items():
        assert np.abs(values).max() > 1
        np.testing.assert_allclose(values, expected[name], atol=2e-4)
    described = ModelSpec.model_validate(model_spec(tiny))
    assert described.decoder.outputs == read.spec.decoder.outputs
    params = {**read.spec.decoder.params}
    assert params.pop("scale_x_y") == [1.0, 1.0] and params.pop("new_coords") is False
    assert json.loads(json.dumps(described.decoder.params)) == params
    assert described.input == read.spec.input


def test_residual_blocks_of_darknet_weights_too(tmp_path):
    """YOLOv3-tiny halves by pooling; Darknet-53 by convolutions that pad above and to the left."""
    image, net = keras.Input((64, 32, 3), name="image"), _Darknet()
    x = net.residuals(net.residuals(net.conv(image, 8, 3), 16, 1), 32, 2)
    model = keras.Model(image, {"head_0": net.head(x, 2)})
    half, shortcut = conv(16, 3).replace("stride=1", "stride=2"), "[shortcut]\nfrom=-3\nactivation=linear\n"
    pair = conv(8, 1) + conv(16, 3) + shortcut
    blocks = half + pair + (half + pair + pair).replace("=16", "=32").replace("filters=8", "filters=16")
    head = conv(21, 1, normalized=False) + "[yolo]\nanchors=4,5, 8,9, 16,17\nclasses=2\nnum=3\nmask=0,1,2\n"
    cfg = tmp_path / "small.cfg"
    cfg.write_text("[net]\nwidth=32\nheight=64\n" + conv(8, 3) + blocks + head)
    write_weights(tmp_path / "small.weights", fill(model))
    pixels = np.random.default_rng(1).random((1, 64, 32, 3), np.float32)
    (expected,) = load_darknet(cfg, tmp_path / "small.weights").graph(tf.constant(pixels))
    assert expected.shape == (1, 16, 8, 21)
    np.testing.assert_allclose(model(pixels, training=False)["head_0"], expected, atol=2e-4)


def test_deployed_with_its_description_it_detects(tiny, tmp_path):
    """One bias makes anchor 1 of one head certain of class 1 everywhere: a box of that anchor's size in every cell."""
    for layer in tiny.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([np.zeros(weight.shape, np.float32) for weight in layer.weights])
    for name in ("conv_10", "conv_13"):
        bias = np.full((3, 7), -10, np.float32)
        bias[:, :4] = 0
        if name == "conv_13":
            bias[1, [4, 6]] = 10
        head = tiny.get_layer(name)
        head.set_weights([head.get_weights()[0], bias.ravel()])
    tiny.save(tmp_path / "net.keras")
    (tmp_path / "net.spec.json").write_text(json.dumps(model_spec(tiny, ("cat", "dog"))))
    out = tmp_path / "net.tflite"
    convert_model(lambda: load(tmp_path / "net.keras"), out)
    graph = partitions(out)
    assert (graph.partitions, graph.delegated) == (1, graph.operators)

    found, _ = Detector.load(out, iou=1.0, threads=1).detect(np.zeros((96, 64, 3), np.uint8))
    assert len(found) == 6 * 4 and set(found.class_id) == {1} and (found.score > 0.99).all()
    centres = {(x, y) for x in (8, 24, 40, 56) for y in (8, 24, 40, 56, 72, 88)}
    # TINY's second head: anchors 23,27; 37,58; 81,82 at stride 16. Boxes are clipped to the picture.
    expected = {(max(x - 18.5, 0), max(y - 29.0, 0), min(x + 18.5, 64), min(y + 29.0, 96)) for x, y in centres}
    assert {tuple(np.round(box, 2).tolist()) for box in found.xyxy} == expected


def test_heads_of_yolov3():
    layers = {row.name: row for row in measure("yolov3", input_shape=(320, 416, 3), num_classes=4)}
    assert [layers[f"conv_{i}"].output_shape for i in (59, 67, 75)] == [(10, 13, 27), (20, 26, 27), (40, 52, 27)]
    assert sum(row.kind == "Conv2D" for row in layers.values()) == 75
    # The backbone is the first 52; Darknet distributes it as darknet53.conv.74, 20 + 4 * 40,620,640 bytes.
    backbone = [row for name, row in layers.items() if name.startswith("conv_") and int(name.split("_")[1]) <= 52]
    assert sum(row.parameters for row in backbone) == 40_620_640


@pytest.mark.parametrize("name", ["yolov3", "yolov3-tiny"])
def test_a_size_that_does_not_fit_is_refused(name):
    with pytest.raises(ValueError, match="positive multiples of 32, got"):
        models.build(name, input_shape=(416, 400, 3))
