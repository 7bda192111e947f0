"""The self-test that a conversion writes: it holds on this machine in every mode, and it is small."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from darknet_reference import Weights, run, write
from networks import NETWORKS
from test_darknet_graph import image_for

from convert import selftest
from convert.calibration import CalibrationImages
from convert.describe import Description
from convert.load import load
from convert.quantize import MODES, quantize
from convert.selftest import embed_selftest
from convert.selftest_pictures import PICTURE_SIDE, choose_pictures, draw_picture
from edge.errors import SourceError
from edge.loader import load_model
from edge.selftest import verify
from edge.spec import InputSpec
from edge.spec.archive import model_part, read_tail
from edge.spec.resolve import METADATA_NAME
from edge.spec.seal import sealed
from edge.spec.vectors import FOLDER, read_selftest


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


def convert(model, mode, path, pictures=None, io=None):
    """Write a file with its self-test; the calibration pictures are in it when there are any."""
    samples = CalibrationImages(pictures, model.spec.input, model.input_shape) if pictures else None
    content = quantize(model, mode, samples, io)
    spec = model.spec.model_copy(update={"quantization": mode})
    path.write_bytes(embed_selftest(content, model, spec, samples.files if samples else ()))
    return content


def change_input(path, **changes):
    members = read_tail(path)
    del members[METADATA_NAME]
    spec = load_model(path).spec
    spec = spec.model_copy(update={"input": spec.input.model_copy(update=changes)})
    path.write_bytes(sealed(path.read_bytes(), spec, members))


@pytest.mark.parametrize("network", ["two_heads", "classifier"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_passes_with_any_number_of_threads(mode, network, models, tmp_path, pictures):
    path = tmp_path / "m.tflite"
    content = convert(models(network), mode, path, pictures)
    assert model_part(path.read_bytes()) == content
    for threads in (1, 2, 4):
        found = verify(load_model(path, threads=threads))
        assert found.passed, found.summary()
    assert [each.name for each in found.tensors] == ["image", *models(network).output_names]
    from_float = max(each.relative(each.float_error_made) for each in found.tensors[1:])
    assert (from_float < 1e-4) if mode == "float32" else (from_float < 0.03)
    assert mode not in ("int8", "int16x8") or from_float > 1e-5
    assert sum(len(c) for n, c in read_tail(path).items() if n.startswith(FOLDER)) < 200_000
    change_input(path, color="BGR")
    assert not verify(load_model(path)).passed


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_other_types_of_input(io, models, tmp_path, pictures):
    convert(models("two_heads"), "int8", tmp_path / "m.tflite", pictures, io)
    assert verify(load_model(tmp_path / "m.tflite")).passed


@pytest.mark.parametrize(
    "change", [{"resize": "stretch"}, {"resize": "center-crop"}, {"mean": (20,)}, {"std": (200,)}, {"pad_value": 0}]
)
def test_drawn_pictures_show_another_preprocessing(change, models, tmp_path):
    path = tmp_path / "m.tflite"
    convert(models("two_heads"), "weight-only", path)
    assert verify(load_model(path)).passed
    change_input(path, **change)
    found = verify(load_model(path))
    assert not found.tensors[0].passed


def test_the_same_conversion_gives_the_same_bytes(models, tmp_path, pictures):
    for name in ("a", "b"):
        convert(models("two_heads"), "dynamic", tmp_path / name, pictures)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_float_is_held_tighter_than_integers(models, tmp_path, pictures):
    limits = {}
    for mode in ("float32", "int8"):
        convert(models("two_heads"), mode, tmp_path / mode, pictures)
        limits[mode] = [head.test.mean_error for head in read_selftest(tmp_path / mode).heads]
    assert all(a * 5 < b for a, b in zip(limits["float32"], limits["int8"], strict=True))


def test_a_gray_input(models, tmp_path):
    model = models("flattened")
    assert model.spec.input.color == "GRAY"
    convert(model, "float32", tmp_path / "m.tflite")
    assert verify(load_model(tmp_path / "m.tflite")).passed


@pytest.mark.parametrize("values", ["large", "constant"])
def test_odd_outputs_still_give_a_test(values, models, tmp_path):
    """Weights of nought make every output the same everywhere; large ones saturate."""
    model = models("two_heads")
    spec = model.spec.model_copy(update={"quantization": "float32"})
    folder = tmp_path / values
    folder.mkdir()
    cfg = NETWORKS["two_heads"]
    weights = Weights()
    run(cfg, image_for(cfg), weights)
    array = weights.array() * (0 if values == "constant" else 30)
    model = load(write(folder, cfg, array)[0])
    content = quantize(model, "float32")
    (tmp_path / "m.tflite").write_bytes(embed_selftest(content, model, spec))
    assert verify(load_model(tmp_path / "m.tflite")).passed


def test_pictures_are_small_and_never_of_the_inputs_shape(models, pictures):
    model = selftest._original(models("two_heads"))
    files = sorted(pictures.rglob("*.png"))
    width, height = model.preprocessor.size_wh
    for chosen in (choose_pictures(model, files), choose_pictures(model, files[:1]), choose_pictures(model, [])):
        assert len(chosen) == 3
        for picture in chosen:
            assert max(picture.shape[:2]) == PICTURE_SIDE
            assert abs(picture.shape[1] / picture.shape[0] - width / height) > 0.15 * width / height
    spec = replace(model, spec=model.spec.model_copy(update={"input": InputSpec(resize="stretch")}))
    assert len(choose_pictures(spec, files)) == 3


def test_drawn_pictures_have_colors_and_structure():
    one, other = draw_picture(0), draw_picture(1)
    assert one.shape == (PICTURE_SIDE, PICTURE_SIDE, 3) and not np.array_equal(one, other)
    assert np.array_equal(one, draw_picture(0))
    assert np.abs(one.astype(int) - one[..., ::-1]).mean() > 20
    assert np.abs(np.diff(one.astype(int), axis=1)).mean() > 2


def test_a_picture_that_cannot_be_read_is_named(models, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"bad\.png"):
        choose_pictures(selftest._original(models("two_heads")), [tmp_path / "bad.png"])


def test_yolo_fastest(shared_data, tmp_path):
    """A real network: the test finds its boxes again, and int8 is given the room that its kernels need."""
    cfg = shared_data("darknet/yolo-fastest-1.1.cfg")
    model = load(cfg, None, Description(labels=shared_data("darknet/coco.names")))
    folder = tmp_path / "calibration"
    folder.mkdir()
    for name in ("cat", "bird", "grace_hopper"):
        picture = cv2.imread(str(shared_data(f"images/{name}.bmp")))
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    for mode in ("weight-only", "int8"):
        path = tmp_path / f"{mode}.tflite"
        convert(model, mode, path, folder)
        found = verify(load_model(path, threads=2))
        assert found.passed and found.boxes.agreed == found.boxes.total > 0, found.summary()
        assert path.stat().st_size - len(model_part(path.read_bytes())) < 100_000
        change_input(path, color="BGR")
        assert not verify(load_model(path)).passed
