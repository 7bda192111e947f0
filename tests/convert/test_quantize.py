"""Each mode on small networks: it runs, stays close to float, and lies in one XNNPACK partition."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from darknet_reference import Weights, run, write
from networks import NETWORKS, Runner, conv, net
from test_darknet_graph import image_for

from convert.calibration import CalibrationImages
from convert.load import load
from convert.quantize import MODES, quantize
from edge.backends.partitions import partitions
from edge.errors import InputError
from edge.spec import InputSpec

TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "dynamic": 0.03, "weight-only": 0.03, "int8": 0.06, "int16x8": 0.03}
"""Largest error over the largest value."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Loaded networks by name, each once."""
    loaded = {}

    def get(name):
        if name not in loaded:
            folder = tmp_path_factory.mktemp(name)
            weights = Weights()
            run(NETWORKS[name], image_for(NETWORKS[name]), weights)
            loaded[name] = load(write(folder, NETWORKS[name], weights.array())[0])
        return loaded[name]

    return get


def samples_for(model):
    """Give inputs, the one of `check_close` among them: values outside the calibrated range would saturate."""
    return lambda: (np.random.default_rng(seed).random(model.input_shape, np.float32) for seed in range(4, 10))


def check_close(content, model, tolerance, xnnpack=True):
    image = np.random.default_rng(9).random(model.input_shape, np.float32)
    expected = [output.numpy() for output in model.graph(tf.constant(image))]
    found = Runner(content, xnnpack)(image)
    assert sorted(found) == sorted(model.output_names)
    for name, values in zip(model.output_names, expected, strict=True):
        assert found[name].shape == values.shape
        assert np.abs(found[name] - values).max() <= tolerance * np.abs(values).max()


@pytest.mark.parametrize("mode", MODES)
def test_modes_stay_close_to_float(mode, models, tmp_path):
    model = models("two_heads")
    content = quantize(model, mode, samples_for(model))
    check_close(content, model, TOLERANCE[mode])
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    found = partitions(path)
    if mode == "int16x8":
        assert found.delegated == 0  # XNNPACK has no 16-bit kernels: this mode is for other hardware
    else:
        assert (found.partitions, found.delegated) == (1, found.operators)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A network with a large kernel of each kind: convolution, depthwise, connected."""
    network = [
        net(),
        conv(8, 3, 2),
        conv(64, 3, 2),
        conv(64, 5, 2, groups=64),
        conv(64, 3, 2),
        ("connected", {"output": 40, "activation": "linear"}),
    ]
    weights = Weights()
    run(network, image_for(network), weights)
    return load(write(tmp_path_factory.mktemp("wide"), network, weights.array())[0])


@pytest.mark.parametrize(("mode", "eight_bit"), [("dynamic", 3), ("weight-only", 4), ("int16x8", 5)])
def test_large_kernels_become_8_bit(mode, eight_bit, wide, tmp_path):
    content = quantize(wide, mode, samples_for(wide))
    assert len(content) < 0.4 * len(quantize(wide, "float32"))
    tensors = Runner(content)._interpreter.get_tensor_details()
    assert (
        sum(len(tensor["quantization_parameters"]["scales"]) > 1 and tensor["dtype"] == np.int8 for tensor in tensors)
        == eight_bit
    )
    for xnnpack in (True, False):
        check_close(content, wide, TOLERANCE[mode], xnnpack)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    if mode != "int16x8":
        assert partitions(path).partitions == 1


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "two_heads"])
@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_every_section_in_one_partition(name, mode, models, tmp_path):
    model = models(name)
    content = quantize(model, mode, samples_for(model))
    check_close(content, model, TOLERANCE[mode])
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    found = partitions(path)
    if mode == "int8" and name in ("activations", "classifier"):
        # XNNPACK has no 8-bit SOFTMAX, nor the 8-bit reciprocal root that mish is made of.
        assert found.partitions <= 2
        assert found.delegated == found.operators - 1
    else:
        assert (found.partitions, found.delegated) == (1, found.operators)


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_int8_input_and_outputs(io, models):
    model = models("dropout")
    content = quantize(model, "int8", samples_for(model), io)
    runner = Runner(content)
    assert {runner.input["dtype"], *(detail["dtype"] for detail in runner.outputs.values())} == {np.dtype(io).type}
    check_close(content, model, TOLERANCE["int8"])


def test_int8_kernels_are_per_channel(models):
    model = models("dropout")
    runner = Runner(quantize(model, "int8", samples_for(model)))
    scales = [len(d["quantization_parameters"]["scales"]) for d in runner._interpreter.get_tensor_details()]
    assert 14 in scales  # the head's kernel has 14 outputs


@pytest.mark.parametrize("mode", MODES)
def test_same_input_gives_the_same_bytes(mode, models):
    model = models("dropout")
    assert quantize(model, mode, samples_for(model)) == quantize(model, mode, samples_for(model))


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        (("int4", None, None), "unknown quantisation 'int4'; expected one of float32, float16"),
        (("int8", None, None), "needs pictures to calibrate on"),
        (("float16", None, "int8"), "float16 has float32 input and outputs, not int8"),
    ],
)
def test_bad_arguments(arguments, telling, models):
    with pytest.raises(InputError, match=telling):
        quantize(models("dropout"), *arguments)


def test_operation_that_tflite_lacks(models):
    from dataclasses import replace

    from convert.loaded import freeze

    graph = freeze(lambda image: [tf.linalg.det(tf.transpose(image[..., :2], (0, 3, 1, 2)))], (1, 4, 4, 3))
    model = replace(models("dropout"), graph=graph, output_names=("out",))
    with pytest.raises(InputError, match="TFLite has no operation for MatrixDeterminant"):
        quantize(model, "float32")


def test_calibration_images(pictures):
    spec = InputSpec(color="BGR", mean=(0,), std=(255,), resize="stretch")
    images = CalibrationImages(pictures, spec, (1, 36, 48, 3))
    assert images.files == sorted(pictures.rglob("*.png"))
    arrays = list(images())
    assert all(array.shape == (1, 36, 48, 3) and array.dtype == np.float32 for array in arrays)
    assert arrays[0][0, 0, 0].tolist() == [0, 0, 0]
    assert arrays[0][0, -1, 0].tolist() == [1, 1, 1]
    for again, array in zip(images(), arrays, strict=True):
        np.testing.assert_array_equal(again, array)
    few = CalibrationImages(pictures, spec, (1, 36, 48, 3), limit=3)
    assert [few.files[0], few.files[-1]] == [images.files[0], images.files[-1]]
    assert len(few.files) == 3


def test_calibration_folder_errors(pictures, tmp_path):
    spec = InputSpec()
    with pytest.raises(InputError, match="expected a folder of pictures, found nothing"):
        CalibrationImages(tmp_path / "none", spec, (1, 8, 8, 3))
    with pytest.raises(InputError, match="expected a folder of pictures, found a file"):
        CalibrationImages(pictures / "notes.txt", spec, (1, 8, 8, 3))
    with pytest.raises(InputError, match="no picture in it"):
        CalibrationImages(tmp_path, spec, (1, 8, 8, 3))
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"broken\.jpg: expected a picture"):
        list(CalibrationImages(tmp_path, spec, (1, 8, 8, 3))())


def test_modes_are_those_of_the_spec():
    from typing import get_args

    from edge.spec.model import Quantization

    assert tuple(MODES) == get_args(Quantization)
