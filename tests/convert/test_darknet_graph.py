"""Every section against a second implementation of Darknet's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from darknet_reference import Weights, run, write
from networks import HEAD, NETWORKS, START, YOLO, conv, net, route

from convert.load import load
from edge.errors import InputError


def image_for(network):
    options = network[0][1]
    shape = (options["channels"], options["height"], options["width"])
    return np.random.default_rng(1).random(shape)


def outputs_of(model, image):
    """Run the frozen graph on (C, H, W); heads come back as (C, h, w), scores as (C, 1, 1)."""
    outputs = model.graph(tf.constant(image.transpose(1, 2, 0)[None], tf.float32))
    four = [output.numpy().reshape(1, 1, 1, -1) if output.shape.rank == 2 else output.numpy() for output in outputs]
    return [output[0].transpose(2, 0, 1) for output in four]


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_equal_the_reference(name, tmp_path):
    network = NETWORKS[name]
    image, weights = image_for(network), Weights()
    expected = run(network, image, weights)
    cfg, _ = write(tmp_path, network, weights.array())
    found = outputs_of(load(cfg), image)
    assert [values.shape for values in found] == [values.shape for values in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert np.ptp(theirs) > 0.01  # a constant output would compare equal to anything that forgets its input
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_narrow_header_and_transposed_matrix(tmp_path):
    network = NETWORKS["flattened"]
    image, weights = image_for(network), Weights()
    (expected,) = run(network, image, weights)
    cfg, file = write(tmp_path, network, weights.array(), wide=False)
    np.testing.assert_allclose(outputs_of(load(cfg), image)[0], expected, atol=2e-5)

    *rest, bias, matrix = weights.chunks
    turned = np.concatenate([*rest, bias, matrix.reshape(5, -1).T.ravel()])
    header = np.array([1001, 0, 0], "<i4").tobytes() + bytes(8)
    file.write_bytes(header + turned.tobytes())
    np.testing.assert_allclose(outputs_of(load(cfg), image)[0], expected, atol=2e-5)


def test_detector_spec(tmp_path):
    network = NETWORKS["two_heads"]
    weights = Weights()
    run(network, image_for(network), weights)
    cfg, _ = write(tmp_path, network, weights.array())
    (tmp_path / "net.names").write_text("cat\ndog\n")
    spec = load(cfg).spec
    assert spec.task == "detect"
    assert spec.decoder.name == "yolo_anchors"
    assert spec.decoder.outputs == {"head_0": "head_0", "head_1": "head_1"}
    assert spec.decoder.params == {
        "anchors": [[[4, 5], [16, 17]]] * 2,
        "strides": [8, 2],
        "scale_x_y": [1.0, 1.0],
        "classes": 2,
        "new_coords": False,
    }
    assert (spec.input.size_wh, spec.input.resize) == ((32, 32), "letterbox-center")
    assert (spec.input.color, spec.input.mean, spec.input.std) == ("RGB", (0,), (255,))
    assert spec.provenance.source == "net.cfg + net.weights"


def test_new_coords_and_scale_reach_the_spec(tmp_path):
    head = ("yolo", {**YOLO[1], "scale_x_y": 1.2, "new_coords": 1})
    network = [net(), START, conv(14, activation="logistic"), head]
    weights = Weights()
    run(network, image_for(network), weights)
    params = load(write(tmp_path, network, weights.array())[0]).spec.decoder.params
    assert params["scale_x_y"] == [1.2]
    assert params["new_coords"] is True


def test_region_spec(tmp_path):
    network = NETWORKS["region"]
    weights = Weights()
    run(network, image_for(network), weights)
    decoder = load(write(tmp_path, network, weights.array())[0]).spec.decoder
    assert decoder.name == "region"
    assert decoder.params == {"anchors": [[1.5, 2], [3, 4.5]], "classes": 2, "softmax": True}


@pytest.mark.parametrize(("name", "activation"), [("classifier", "none"), ("flattened", "softmax")])
def test_classifier_spec(name, activation, tmp_path):
    network = NETWORKS[name]
    weights = Weights()
    run(network, image_for(network), weights)
    spec = load(write(tmp_path, network, weights.array())[0]).spec
    assert (spec.task, spec.decoder.name, spec.input.resize) == ("classify", "classifier", "stretch")
    assert spec.decoder.params == {"activation": activation}
    assert spec.input.color == ("RGB" if name == "classifier" else "GRAY")


def build_error(network, tmp_path):
    """Return the message for a network that the builder refuses; its weights do not matter."""
    cfg, _ = write(tmp_path, network, np.zeros(10, np.float32))
    with pytest.raises(InputError) as caught:
        load(cfg)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("layers", "line", "telling"),
    [
        ([START, route(5), *HEAD], 14, "layer 5 is not one of the layers 0..0"),
        ([START, route(-3), *HEAD], 14, "reaches before the first layer"),
        ([START, conv(8, 3, 2), route(-1, -2), *HEAD], 21, "different sizes: 8 x 8, 16 x 16"),
        ([START, route(-1, groups=3), *HEAD], 15, "groups=3 does not divide 8 channels"),
        ([START, route(-1, groups=2, group_id=2), *HEAD], 16, "group_id=2, expected 0..1"),
        ([conv(8, 3, groups=2), *HEAD], 12, "groups=2 divides neither 3 input nor 8"),
        ([conv(8, 3, activation="stair"), *HEAD], 11, "activation=stair is not supported"),
        ([conv(8, 3, 2, dilation=2), *HEAD], 12, "dilation=2 with a stride of 2"),
        ([START, ("maxpool", {"size": 2, "stride": 2, "padding": 2}), *HEAD], 16, "padding=2"),
        ([START, ("reorg", {"stride": 3}), *HEAD], 14, "stride=3 does not divide"),
        ([START, conv(13, activation="linear"), YOLO], 20, "need 14 channels, found 13; set filters=14"),
        ([START, HEAD[0], ("yolo", {**YOLO[1], "mask": "0,3"})], 21, "expected numbers in 0..2"),
        ([START, HEAD[0], ("yolo", {**YOLO[1], "anchors": "1,2"})], 22, "num=3 needs 6 numbers in anchors, found 2"),
        ([START, *HEAD, conv(4)], 27, "reads layer 2, a detection head"),
        ([START, ("softmax", {})], 13, "expected a 1 x 1 input"),
        ([START], 6, "without a head"),
    ],
)
def test_contradictions_name_section_and_line(layers, line, telling, tmp_path):
    message = build_error([net(), *layers], tmp_path)
    assert telling in message
    assert f"net.cfg:{line}: [" in message


@pytest.mark.parametrize("size", [(33, 64), (100, 100)])
def test_size_must_fit_the_network(size, tmp_path):
    from convert.describe import Description

    cfg, _ = write(tmp_path, NETWORKS["dropout"], np.zeros(10, np.float32))
    with pytest.raises(InputError, match="multiples of 32"):
        load(cfg, given=Description(size_wh=size))


def test_another_size_keeps_the_weights(tmp_path):
    from convert.describe import Description

    network = NETWORKS["two_heads"]
    weights = Weights()
    wide = [net(64, 32), *network[1:]]
    image = image_for(wide)
    expected = run(wide, image, weights)
    cfg, _ = write(tmp_path, network, weights.array())
    model = load(cfg, given=Description(size_wh=(64, 32)))
    assert model.input_shape == (1, 32, 64, 3)
    for ours, theirs in zip(outputs_of(model, image), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
