"""Label files in the forms that people have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import InputError
from edge.spec.labels import UNNAMED, read_labels


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("person\ncar\n", ("person", "car")),
        ("person\r\ncar", ("person", "car")),
        ("person\rcar\r", ("person", "car")),
        ("\ufeffperson\ncar\n\n\n", ("person", "car")),
        ("person\n\ncar", ("person", UNNAMED, "car")),
        ("  traffic light \ncar", ("traffic light", "car")),
        ("0 person\n1 traffic light", ("person", "traffic light")),
        ("0: person\n1: car", ("person", "car")),
        ("0  person\n1  bicycle\n4  car", ("person", "bicycle", UNNAMED, UNNAMED, "car")),
        ("0 Class 1\r\n1 Class 2\r\n", ("Class 1", "Class 2")),
        ("1 person\n2 car", (UNNAMED, "person", "car")),
        ("0\tperson\n\n1\tcar\n", ("person", "car")),
        # Not all lines are numbered, or the numbers do not count: names that begin with a number.
        ("0 person\ncar", ("0 person", "car")),
        ("2 door\n4 door", ("2 door", "4 door")),
        ("1 euro\n1 cent", ("1 euro", "1 cent")),
        ("0 a\n5000 b", ("0 a", "5000 b")),
        ("0\n1\n2", ("0", "1", "2")),
        ("8.5 inch\n7 inch", ("8.5 inch", "7 inch")),
        ("Käse\n日本", ("Käse", "日本")),
        ("???\nperson", (UNNAMED, "person")),
    ],
)
def test_forms(text: str, names: tuple[str, ...]) -> None:
    assert read_labels(text.encode()) == names


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected one label a line, found no label"),
        (b"\n \n", "found no label"),
        (b"ok\n\xff\xfe", "expected labels in UTF-8 text, found byte 3"),
        ("person\n".encode("utf-16"), "UTF-8"),
        (b"a\x00b", "line 1: expected a label"),
        (b"ok\nred\x1b[31m", "line 2: expected a label"),
        (b"x" * 600, "line 1: expected a label of at most 500"),
    ],
)
def test_what_is_no_label_list_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"labels.txt.*{message}"):
        read_labels(path)
    with pytest.raises(InputError, match=f"inside: .*{message}"):
        read_labels(data, "inside")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone.txt: the labels cannot be read: No such file"):
        read_labels(tmp_path / "gone.txt")
    with pytest.raises(InputError, match="Is a directory"):
        read_labels(tmp_path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    path.write_bytes(b"x\n" * (5 << 20))
    with pytest.raises(InputError, match="found more than"):
        read_labels(path)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text("0123456789:ab \r\n\t?", max_size=80).map(str.encode)))
def test_any_bytes_give_names_or_a_clear_error(data: bytes) -> None:
    try:
        names = read_labels(data)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert names and all(name and name == name.strip() for name in names)
        assert len(names) < 4 * data.count(b"\n") + data.count(b"\r") * 4 + 200


def test_real_lists(shared_data: Callable[[str], Path]) -> None:
    coco = read_labels(shared_data("tflite/coco_labels.txt"))
    assert (len(coco), coco[0], coco[-1]) == (90, "person", "toothbrush")
    imagenet = read_labels(shared_data("tflite/imagenet_labels.txt"))
    assert (len(imagenet), imagenet[0]) == (1001, "background")
    assert len(read_labels(shared_data("darknet/coco.names"))) == 80
