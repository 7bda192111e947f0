"""The metadata inside of the flatbuffer, and the graph's own facts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures import constant_model, tiny_classifier, tiny_detector
from hypothesis import given, settings
from hypothesis import strategies as st
from metadata_buffers import Writer, tflite_metadata

from edge.errors import EdgeError, ModelFileError
from edge.spec.flatbuffer import Table
from edge.spec.graph import read_graph
from edge.spec.tflite_metadata import labels, parse

FULL = tflite_metadata(
    (127.0,), (128.0,), ("location", "category", "score", "number of detections"), ("labelmap.txt",), True, 0.5
)


def test_everything_is_read() -> None:
    found = parse(FULL)
    assert (found.name, found.author, found.licence) == ("Tiny", "us", "Apache-2.0")
    assert (found.mean, found.std) == ((127.0,), (128.0,))
    assert found.outputs == ("location", "category", "score", "number of detections")
    assert found.label_files == ("labelmap.txt", "other.txt")
    assert found.pixels and found.conf == 0.5


def test_what_is_not_there_is_empty() -> None:
    found = parse(tflite_metadata())
    assert (found.mean, found.std, found.outputs, found.label_files) == ((), (), (), ())
    assert found.conf is None and not found.pixels


def test_labels_come_from_the_archive() -> None:
    found = parse(FULL)
    assert labels(found, {"other.txt": b"Haus", "labelmap.txt": b"house\ncar"}) == ("house", "car")
    assert labels(found, {"other.txt": b"Haus"}) == ("Haus",)
    assert labels(found, {"unrelated.txt": b"x"}) == ()


def test_another_kind_of_buffer_is_refused() -> None:
    writer = Writer()
    other = writer.finish(writer.table({0: "x"}), b"XXXX")
    with pytest.raises(ModelFileError, match="expected the identifier M001, found b'XXXX'"):
        parse(other)
    for short in (b"", b"M001", b"\0" * 7):
        with pytest.raises(ModelFileError):
            parse(short)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(data=st.data())
def test_damage_anywhere_gives_facts_or_a_clear_error(data: st.DataObject) -> None:
    buffer = bytearray(FULL)
    for _ in range(data.draw(st.integers(1, 8))):
        buffer[data.draw(st.integers(8, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(buffer[: data.draw(st.integers(8, len(buffer)))]))
    except ModelFileError as error:
        assert "\n" not in str(error)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_model_gives_facts_or_a_clear_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tflite"
    buffer = bytearray(tiny_detector("ssd_postprocess").model)
    for _ in range(data.draw(st.integers(1, 8))):
        buffer[data.draw(st.integers(8, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(buffer[: data.draw(st.integers(8, len(buffer)))]))
    try:
        read_graph(path)
    except EdgeError as error:
        assert "\n" not in str(error)


def test_a_list_longer_than_the_file_is_refused() -> None:
    writer = Writer()
    buffer = bytearray(writer.finish(writer.table({3: [{0: "graph"}]})))
    at = buffer.index((1).to_bytes(4, "little"), 8)  # the length of the list
    buffer[at : at + 4] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(ModelFileError, match="a list reaches beyond its end"):
        Table.root(bytes(buffer)).tables(3)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_graph_names_what_makes_an_output(tmp_path: Path) -> None:
    soft = read_graph(write(tmp_path / "a.tflite", tiny_classifier().model))
    assert soft.makers == {"scores": "SOFTMAX"}
    quantised = read_graph(write(tmp_path / "b.tflite", tiny_classifier("int8").model))
    assert quantised.makers == {"scores": "SOFTMAX"}
    logits = read_graph(write(tmp_path / "c.tflite", tiny_classifier(softmax=False).model))
    assert logits.makers == {"scores": "CONV_2D"}
    assert logits.postprocess == () and logits.signature == {} and logits.metadata == b""


def test_the_graph_tells_the_roles_of_post_processing(tmp_path: Path) -> None:
    graph = read_graph(write(tmp_path / "m.tflite", tiny_detector("ssd_postprocess").model))
    assert graph.postprocess == ("detections", "detections:1", "detections:2", "detections:3")


def test_signature_and_metadata_are_found(tmp_path: Path) -> None:
    model = constant_model(
        {"a": np.zeros((1, 2), np.float32), "b": np.zeros((1, 3), np.float32)},
        signature={"first": "a", "second": "b"},
        metadata={"other": b"x", "TFLITE_METADATA": FULL},
    )
    graph = read_graph(write(tmp_path / "m.tflite", model))
    assert graph.signature == {"first": "a", "second": "b"} and graph.metadata == FULL


@pytest.mark.parametrize("data", [b"", b"short", b"\0" * 100, b"\x1c\0\0\0TFL3"])
def test_what_is_no_model_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="m.tflite"):
        read_graph(write(tmp_path / "m.tflite", data))
    with pytest.raises(ModelFileError, match="gone.tflite: cannot be read"):
        read_graph(tmp_path / "gone.tflite")


def test_real_files(shared_data: Callable[[str], Path]) -> None:
    graph = read_graph(shared_data("tflite/ssd_mobilenet_v1_1_metadata_1.tflite"))
    assert graph.postprocess == (
        "TFLite_Detection_PostProcess",
        *(f"TFLite_Detection_PostProcess:{i}" for i in (1, 2, 3)),
    )
    found = parse(graph.metadata)
    assert (found.mean, found.std, found.label_files) == ((127.5,), (127.5,), ("labelmap.txt",))
    assert found.outputs == ("locations", "classes", "scores", "number of detections")
    graph = read_graph(shared_data("tflite/mobilenet_v1_0.25_128_quant.tflite"))
    assert graph.makers == {"MobilenetV1/Predictions/Reshape_1": "SOFTMAX"}
