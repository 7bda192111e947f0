"""The interpreter as a backend: what it says of tensors, how it runs, and how it fails."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fixtures import broken, constant_model, tiny_detector
from tflite_builder import Builder

from edge.backends.litert import LiteRTBackend, quiet_stderr
from edge.backends.partitions import partitions
from edge.errors import BackendError, EdgeError, InputError, ModelFileError


def test_describes_tensors(tmp_path: Path) -> None:
    backend = LiteRTBackend(tiny_detector("yolov8", "int8").save(tmp_path / "m.tflite"), threads=1)
    assert backend.input.shape == (1, 96, 128, 3) and backend.input.dtype == np.int8
    assert backend.input.scale == pytest.approx(1 / 255) and backend.input.zero_point == -128
    assert all(info.quantized for info in backend.outputs)
    assert "CPU, 1 thread" in backend.description


def test_input_is_written_in_place_and_outputs_are_views(tmp_path: Path) -> None:
    backend = LiteRTBackend(tiny_detector("anchor_free").save(tmp_path / "m.tflite"))
    addresses = set()

    def fill(tensor: np.ndarray) -> None:
        assert tensor.shape == backend.input.shape and tensor.dtype == np.float32
        addresses.add(tensor.ctypes.data)
        tensor[:] = 0.5

    first = {name: value.copy() for name, value in backend.infer(fill).items()}
    kept = backend.infer(fill)
    assert len(addresses) == 1
    for name, value in first.items():
        assert np.array_equal(value, kept[name])
    with pytest.raises(BackendError, match="inference failed"):  # a view is alive
        backend.infer(fill)
    del kept
    backend.infer(fill)
    backend.close()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "is empty"),
        ("garbage", "not a TFLite model"),
        ("truncated", "not a TFLite model"),
        ("edgetpu", "--delegate edgetpu"),
    ],
)
def test_broken_files(tmp_path: Path, kind: str, says: str) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(broken(kind))
    with pytest.raises(EdgeError, match=says) as caught:
        LiteRTBackend(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == (4 if kind == "edgetpu" else 2)


def test_missing_file_folder_and_threads(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        LiteRTBackend(tmp_path / "none.tflite")
    with pytest.raises(ModelFileError, match="directory"):
        LiteRTBackend(tmp_path)
    with pytest.raises(InputError, match="--threads 0"):
        LiteRTBackend(tiny_detector().save(tmp_path / "m.tflite"), threads=0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    path.chmod(0)
    with pytest.raises(ModelFileError, match="cannot be read"):
        LiteRTBackend(path)


@pytest.mark.parametrize(
    ("shape", "says"), [((1, 64), "no image model"), ((8, 64, 64, 3), "expected a batch of 1, found 8")]
)
def test_inputs_that_are_no_picture(tmp_path: Path, shape: tuple[int, ...], says: str) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(constant_model({"out": np.zeros((1, 4), np.float32)}, shape))
    with pytest.raises(ModelFileError, match=says):
        LiteRTBackend(path)


def test_free_size_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(constant_model({"out": np.ones((1, 4), np.float32)}, (1, -1, -1, 3)))
    backend = LiteRTBackend(path)
    assert backend.input.shape == (1, -1, -1, 3)
    backend.resize((1, 32, 48, 3))
    seen = []
    backend.infer(lambda tensor: seen.append(tensor.shape))
    assert seen == [(1, 32, 48, 3)]
    assert backend.input.shape == (1, 32, 48, 3)


def test_a_free_batch_is_one_picture(tmp_path: Path) -> None:
    graph = Builder()
    picture = graph.tensor("picture", (1, 8, 8, 3), signature=(-1, 8, 8, 3))
    values, shape = graph.constant(np.ones((1, 4))), graph.constant((1, 4), "int32")
    scores = graph.op("RESHAPE", [values, shape], (1, 4), "scores", signature=(-1, 4))
    path = tmp_path / "keras.tflite"
    path.write_bytes(graph.build([picture], [scores]))
    backend = LiteRTBackend(path)
    assert backend.input.shape == (1, 8, 8, 3) and backend.outputs[0].shape == (1, 4)


def test_an_operator_of_tensorflow_is_named(tmp_path: Path) -> None:
    graph = Builder()
    picture = graph.tensor("picture", (1, 8, 8, 3))
    scores = graph.tensor("scores", (1, 4))
    graph.custom("FlexMatrixInverse", [picture], [scores])
    path = tmp_path / "flex.tflite"
    path.write_bytes(graph.build([picture], [scores]))
    with pytest.raises(BackendError, match=r"needs the TensorFlow operator FlexMatrixInverse.*SELECT_TF_OPS"):
        LiteRTBackend(path)


def test_partitions(tmp_path: Path) -> None:
    found = partitions(tiny_detector("anchor_free").save(tmp_path / "m.tflite"))
    assert 0 < found.delegated <= found.operators and found.partitions >= 1
    assert "XNNPACK partition" in str(found)


def test_the_arena_holds_what_is_alive_at_once(tmp_path: Path) -> None:
    graph = Builder()
    picture = graph.tensor("picture", (1, 8, 8, 1))
    weights = graph.op("DEQUANTIZE", [graph.constant(np.ones((1, 8, 8, 1)), "float16")], (1, 8, 8, 1))
    wide = graph.op("CONCATENATION", [picture, weights], (1, 8, 8, 2), axis=3)
    twice = graph.op("CONCATENATION", [wide, wide], (1, 8, 8, 4), axis=3)
    path = tmp_path / "m.tflite"
    path.write_bytes(graph.build([picture], [twice]))
    # At the last operator: what is two and what is four times the picture's 256 bytes. No weights.
    assert partitions(path).arena_bytes == 6 * 256


def test_partitions_of_no_model(tmp_path: Path) -> None:
    with pytest.raises(BackendError):
        path = tmp_path / "broken.tflite"
        path.write_bytes(broken("garbage"))
        partitions(path)


def test_native_chatter_is_kept_from_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(2, b"INFO: hello\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
