from __future__ import annotations

from pathlib import Path

import pytest

from edge.backends.litert import default_threads
from edge.benchmark.variant import labelled, parse_sweeps, variants
from edge.errors import InputError

A, B = Path("a.tflite"), Path("b.tflite")


def test_every_model_in_every_way() -> None:
    sweeps = parse_sweeps(["threads=1,2", "delegate=cpu,gpu:float32"])
    found = variants([A, B], None, "cpu", sweeps)
    assert [v.key for v in found] == [
        "a.tflite cpu 1",
        "a.tflite cpu 2",
        "a.tflite gpu:float32 1",
        "a.tflite gpu:float32 2",
        "b.tflite cpu 1",
        "b.tflite cpu 2",
        "b.tflite gpu:float32 1",
        "b.tflite gpu:float32 2",
    ]
    assert len({v.group for v in found}) == 4


def test_sizes_are_squares_or_width_by_height() -> None:
    found = variants([A], 1, "cpu", parse_sweeps(["size=256,416x320"]))
    assert [v.size_wh for v in found] == [(256, 256), (416, 320)]
    assert found[0].key == "a.tflite cpu 1 256x256"


def test_without_a_sweep_there_is_the_default() -> None:
    (found,) = variants([A], None, "cpu", {})
    assert (found.threads, found.delegate, found.size_wh) == (default_threads(), "cpu", None)


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    names = labelled([Path("/x/one/m.tflite"), Path("/x/two/m.tflite"), Path("/x/n.tflite")])
    assert list(names.values()) == ["one/m.tflite", "two/m.tflite", "n.tflite"]
    assert len({v.key for v in variants([Path("/x/one/m.tflite"), Path("/x/two/m.tflite")], 1, "cpu", {})}) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "threads",
        "threads=",
        "threads=1,,2",
        "threads=0",
        "threads=65",
        "threads=x",
        "size=0",
        "size=3x",
        "size=a",
        "color=1",
    ],
)
def test_what_is_no_sweep_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="--sweep") as caught:
        variants([A], 1, "cpu", parse_sweeps([text]))
    assert "\n" not in str(caught.value)


def test_a_sweep_is_given_once() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_sweeps(["threads=1", "threads=2"])


def test_a_model_is_given_once() -> None:
    with pytest.raises(InputError, match="twice"):
        variants([A, A], 1, "cpu", {})


def test_too_many_variants_are_refused() -> None:
    threads = ",".join(map(str, range(1, 65)))
    with pytest.raises(InputError, match="at most 64"):
        variants([A, B], None, "cpu", {"threads": threads.split(",")})
    with pytest.raises(InputError, match="--threads 0"):
        variants([A], 0, "cpu", {})
