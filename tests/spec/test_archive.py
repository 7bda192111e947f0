"""The archive behind a model: written, read, and refused when it is not what it should be."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures import BROKEN_TAILS, broken, tiny_detector
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ModelFileError
from edge.spec.archive import MAX_MEMBERS, model_part, read_tail, with_tail

MODEL = tiny_detector().model
MEMBERS = {"metadata.json": b'{"a": 1}', "labels/coco.txt": "käse\n".encode()}


def relative_zip(members: dict[str, bytes], comment: bytes = b"") -> bytes:
    """Return an archive whose offsets count from its own start, as `cat model archive` leaves it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_what_is_written_is_read_and_the_model_stays_as_it_was() -> None:
    data = with_tail(MODEL, MEMBERS)
    assert data.startswith(MODEL)
    assert read_tail(data) == MEMBERS
    assert model_part(data) == MODEL
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None


def test_the_same_input_gives_the_same_bytes() -> None:
    assert with_tail(MODEL, MEMBERS) == with_tail(MODEL, MEMBERS)


def test_an_old_archive_is_replaced() -> None:
    again = with_tail(with_tail(MODEL, {"old.txt": b"old"}), MEMBERS)
    assert again == with_tail(MODEL, MEMBERS)


def test_no_members_leave_no_trouble() -> None:
    data = with_tail(with_tail(MODEL, MEMBERS), {})
    assert read_tail(data) == {} and model_part(data) == MODEL


@pytest.mark.parametrize("comment", [b"", b"written by hand"])
def test_offsets_from_the_start_of_the_archive_are_read_too(comment: bytes) -> None:
    data = MODEL + relative_zip(MEMBERS, comment)
    assert read_tail(data) == MEMBERS
    assert model_part(data) == MODEL
    assert read_tail(with_tail(data, {"a": b"b"})) == {"a": b"b"}


def test_folders_are_no_members() -> None:
    assert read_tail(MODEL + relative_zip({"folder/": b"", "folder/a.txt": b"a"})) == {"folder/a.txt": b"a"}


def test_a_model_without_archive_has_none(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(MODEL)
    assert read_tail(path) == {}
    assert model_part(MODEL) == MODEL


@pytest.mark.parametrize("size", [0, 1, 21, 22, 100])
def test_short_files_have_no_archive(size: int, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"P" * size)
    assert read_tail(path) == {}


def test_the_signature_among_the_weights_is_no_archive() -> None:
    data = MODEL + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 3, 3, 100, 0, 0) + b"more weights"
    assert read_tail(data) == {} and model_part(data) == data


@pytest.mark.parametrize("left_out", [1, 22, 60, 200])
def test_a_file_that_is_cut_short_behind_its_model_is_said_to_be(left_out: int) -> None:
    whole = with_tail(MODEL, {"edge.json": b"{}" * 100, "labels.txt": b"a"})
    with pytest.raises(ModelFileError, match="cut short"):
        read_tail(whole[:-left_out])
    noise = MODEL + b"PK\x03\x04" + bytes(40) + b"weights"
    assert read_tail(noise) == {}


@pytest.mark.parametrize("kind", BROKEN_TAILS)
def test_archives_that_could_do_harm_are_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(broken(kind))
    with pytest.raises(ModelFileError) as caught:
        read_tail(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.tflite"]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="gone.tflite: cannot be read: No such file"):
        read_tail(tmp_path / "gone.tflite")


def test_an_archive_that_lost_its_beginning_is_refused() -> None:
    with pytest.raises(ModelFileError, match="archive behind the model"):
        read_tail(relative_zip({"a.txt": b"hello" * 100, "b.txt": b"world"})[60:])


def test_damaged_content_is_refused() -> None:
    data = bytearray(with_tail(MODEL, {"a.txt": b"hello"}))
    data[data.index(b"hello")] ^= 1
    with pytest.raises(ModelFileError, match=r"'a.txt' in the archive behind the model cannot be read: Bad CRC"):
        read_tail(bytes(data))


def test_an_archive_alone_is_no_model() -> None:
    with pytest.raises(ModelFileError, match="found a ZIP archive and nothing before it"):
        model_part(relative_zip(MEMBERS))


def test_other_compressions_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(ModelFileError, match="compression method 12"):
        read_tail(MODEL + buffer.getvalue())


def test_zip64_is_refused() -> None:
    archive = relative_zip(MEMBERS)
    locator = b"PK\x06\x07" + bytes(16)
    with pytest.raises(ModelFileError, match="ZIP64"):
        read_tail(MODEL + archive[:-22] + locator + archive[-22:])


def test_a_size_above_the_limits_is_refused() -> None:
    noise = bytes(range(256)) * 32768  # 8 MiB
    with pytest.raises(ModelFileError, match=r"'big.bin': a member of \d+ bytes"):
        with_tail(MODEL, {"big.bin": noise + b"x"})
    with pytest.raises(ModelFileError, match=r"more than \d+ bytes in all"):
        with_tail(MODEL, {f"{i}.bin": noise for i in range(3)})
    with pytest.raises(ModelFileError, match=f"has {MAX_MEMBERS + 1} members"):
        with_tail(MODEL, {f"{i}.txt": b"" for i in range(MAX_MEMBERS + 1)})


@settings(derandomize=True, max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_anywhere_gives_members_or_a_clear_error(data: st.DataObject) -> None:
    archive = bytearray(relative_zip(MEMBERS) if data.draw(st.booleans()) else with_tail(b"model", MEMBERS)[5:])
    for _ in range(data.draw(st.integers(1, 6))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 12))
    try:
        members = read_tail(b"TFL3" * 8 + bytes(archive[cut:]))
        model_part(b"TFL3" * 8 + bytes(archive[cut:]))
    except ModelFileError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(content, bytes) for content in members.values())


def test_the_archives_of_real_files(shared_data: Callable[[str], Path]) -> None:
    for name, member, size in (
        ("ssd_mobilenet_v1_1_metadata_1.tflite", "labelmap.txt", 665),
        ("mobilenet_v2_1.0_224_quant.tflite", "imagenet_labels.txt", 21686),
        ("yolov8n_full_integer_quant_640_ultralytics8.2.23.tflite", "temp_meta.txt", 1501),
    ):
        path = shared_data(f"tflite/{name}")
        members = read_tail(path)
        assert {key: len(value) for key, value in members.items()} == {member: size}
        data = path.read_bytes()
        assert read_tail(with_tail(data, members)) == members
        assert len(model_part(data)) < len(data) and read_tail(model_part(data)) == {}
