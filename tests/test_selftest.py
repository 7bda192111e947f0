"""The self-test of a model file, replayed: what passes, what is caught, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures import Tiny, tiny_classifier, tiny_detector
from hypothesis import given, settings
from hypothesis import strategies as st
from selftest_files import CONF, noisy_delegate, pictures, with_selftest

from edge import loader
from edge.errors import EdgeError, ModelFileError, SelfTestError
from edge.loader import load_model
from edge.selftest import Agreement, agreement, replay, verify
from edge.spec import ModelSpec
from edge.spec.archive import model_part, read_tail, with_tail
from edge.spec.resolve import METADATA_NAME
from edge.spec.seal import sealed
from edge.spec.vectors import enlarge, read_selftest

MODELS: dict[str, Callable[[], Tiny]] = {
    "detector": tiny_detector,
    "int8": lambda: tiny_detector("yolov8", "int8"),
    "anchors": lambda: tiny_detector("yolo_anchors"),
    "ssd": lambda: tiny_detector("ssd_anchors"),
    "nchw": lambda: tiny_detector("yolox", layout="NCHW"),
    "classifier": tiny_classifier,
    "localizer": lambda: tiny_classifier("uint8", box=(0.2, 0.2, 0.7, 0.8)),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return with_selftest(tiny_detector(), tmp_path / "m.tflite")


def spec_of(path: Path) -> ModelSpec:
    return ModelSpec.model_validate_json(read_tail(path)[METADATA_NAME])


def rewrite(path: Path, model: bytes | None = None, drop: str = "", **changes: Any) -> None:
    """Write the file again with another model, without a member, or with keys of its description changed."""
    members = {name: content for name, content in read_tail(path).items() if name not in (METADATA_NAME, drop)}
    value = spec_of(path).model_dump() | changes
    path.write_bytes(sealed(model or path.read_bytes(), ModelSpec.model_validate(value), members))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("kind", MODELS)
def test_the_machine_that_made_it_passes(kind: str, threads: int, tmp_path: Path) -> None:
    made = with_selftest(MODELS[kind](), tmp_path / "m.tflite")
    found = verify(load_model(made, threads=threads))
    assert found.passed and found.boxes.total == found.boxes.agreed > 0
    assert all(each.relative(each.max_error) < 1e-3 for each in found.tensors)
    assert found.tensors[0].name == load_model(made).backend.input.name
    assert "self-test passed on LiteRT" in found.summary()
    found.require(made)


def test_a_flipped_byte_is_reported_before_anything_runs(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(16).tobytes()) + 3] ^= 0x80
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged, or another model than the one described.*SHA-256") as caught:
        load_model(path)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_a_large_file_is_hashed_by_the_self_test_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "HASHED_AT_START_BYTES", 100)
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(16).tobytes())] ^= 1
    path.write_bytes(data)
    model = load_model(path)
    with pytest.raises(ModelFileError, match="damaged"):
        verify(model)


def test_a_flipped_weight_under_a_right_digest_is_caught_by_its_result(path: Path) -> None:
    model = bytearray(model_part(path.read_bytes()))
    model[model.index(np.float32(16).tobytes()) + 3] ^= 0x80
    rewrite(path, bytes(model))
    found = verify(load_model(path))
    assert found.tensors[0].passed and not found.passed
    assert "FAILED" in found.summary() and "allowed are" in found.summary()
    with pytest.raises(SelfTestError, match="do not trust") as caught:
        found.require(path)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"color": "BGR"},
        {"mean": (127.5,), "std": (127.5,)},
        {"std": (230.0,)},
        {"mean": (12.0,)},
        {"resize": "stretch"},
        {"resize": "letterbox-topleft"},
        {"resize": "center-crop"},
        {"pad_value": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_another_preprocessing_is_caught(change: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    path = with_selftest(tiny_detector("yolov8", dtype), tmp_path / "m.tflite")
    rewrite(path, input=spec_of(path).input.model_dump() | change)
    found = verify(load_model(path))
    assert not found.tensors[0].passed and not found.passed
    assert "preprocessing is not that of the conversion" in found.summary()


def test_another_decoder_is_caught(tmp_path: Path) -> None:
    path = with_selftest(tiny_detector("yolo_anchors"), tmp_path / "m.tflite")
    decoder = spec_of(path).decoder.model_dump()
    decoder["params"]["anchors"] = [[[4 * side for side in pair] for pair in decoder["params"]["anchors"][0]]]
    rewrite(path, decoder=decoder)
    found = verify(load_model(path))
    assert all(each.passed for each in found.tensors) and found.boxes.agreed == 0 and not found.passed
    assert f"0 of {found.boxes.total} answers agree" in found.summary()


def test_a_delegate_that_computes_something_else_is_caught(path: Path, tmp_path: Path) -> None:
    library = noisy_delegate(tmp_path)
    span = verify(load_model(path)).tensors[-1].range

    def disturbed(noise: float, treated_as: str) -> bool:
        delegate = f"{library}?noise={noise}"
        return verify(load_model(path, delegate=delegate), treated_as).passed

    for treated_as in ("cpu", "libnoise.so"):
        assert disturbed(0, treated_as)
        assert not disturbed(0.1 * span, treated_as)
    # 16-bit arithmetic may be a little off; what computes as the CPU does may not.
    assert disturbed(0.03 * span, "gpu") and disturbed(0.03 * span, "libnoise.so")
    assert not any(disturbed(0.03 * span, name) for name in ("cpu", "edgetpu", "edgetpu:usb", "gpu:float32"))


def test_outputs_that_are_no_numbers_fail(path: Path) -> None:
    model = bytearray(model_part(path.read_bytes()))
    at = model.index(np.float32(16).tobytes())
    model[at : at + 4] = np.float32("nan").tobytes()
    rewrite(path, bytes(model))
    found = verify(load_model(path))
    assert not found.passed and any(each.max_error == np.inf for each in found.tensors)
    assert "inf" in found.summary()


def test_a_file_without_self_test_says_so(tmp_path: Path) -> None:
    for described in (True, False):
        bare = tiny_detector("yolov8").save(tmp_path / f"{described}.tflite", described)
        with pytest.raises(ModelFileError, match="holds no self-test; edge convert writes one"):
            read_selftest(bare)


def selftest_with(path: Path, *keys: str | int, value: object) -> None:
    """Replace one value deep inside the self-test's description, whether that makes sense or not."""
    members = read_tail(path)
    whole = json.loads(members[METADATA_NAME])
    inner = whole["selftest"]
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_bytes(with_tail(path.read_bytes(), {**members, METADATA_NAME: json.dumps(whole).encode()}))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("version",), 2, "version"),
        (("pictures",), 3, "boxes has 2 counts for 3 pictures"),
        (("pictures",), 10**9, "pictures"),
        (("boxes",), [10**9, 1], "boxes"),
        (("boxes",), [2, 2], "expected selftest/values.bin of"),
        (("heads", 0, "samples"), 10**9, "samples"),
        (("heads", 0, "samples"), 7, "expected selftest/values.bin of"),
        (("heads", 0, "size"), 1, "has an index of"),
        (("heads", 0, "size"), 10**6, "the self-test expects 1000000 values in"),
        (("heads", 0, "name"), "other", r"outputs that the model lacks \(other\)"),
        (("heads", 0, "high"), float("inf"), "high"),
        (("heads", 0, "max_error"), -1, "max_error"),
        (("heads",), [], "heads"),
        (("input", "size"), 10**6, "the self-test expects 1000000 values in"),
    ],
)
def test_a_broken_description_is_refused_in_one_line(
    path: Path, keys: tuple[str | int, ...], value: object, said: str
) -> None:
    selftest_with(path, *keys, value=value)
    with pytest.raises(ModelFileError, match=said) as caught:
        verify(load_model(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def png(width: int, height: int) -> bytes:
    done, data = cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))
    assert done
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected selftest/0.png, a PNG"),
        (b"", "expected selftest/0.png, a PNG"),
        (b"GIF89a" + bytes(100), "expected selftest/0.png, a PNG"),
        (png(513, 4), "at most 512 pixels"),
        (png(4, 4)[:16] + b"\x00\x01\x00\x00" * 2 + png(4, 4)[24:], "at most 512 pixels"),
        (png(4, 4)[:40], "selftest/0.png"),
    ],
)
def test_a_broken_picture_is_refused(path: Path, content: bytes | None, said: str) -> None:
    members = read_tail(path)
    members.pop("selftest/0.png")
    if content is not None:
        members["selftest/0.png"] = content
    path.write_bytes(with_tail(path.read_bytes(), members))
    with pytest.raises(ModelFileError, match=said) as caught:
        read_selftest(path)
    assert "\n" not in str(caught.value)


def test_missing_or_odd_values_are_refused(path: Path) -> None:
    good = path.read_bytes()
    rewrite(path, drop="selftest/values.bin")
    with pytest.raises(ModelFileError, match=r"expected selftest/values.bin of \d+ bytes, found none"):
        read_selftest(path)
    members = read_tail(good)
    values = members["selftest/values.bin"]
    members["selftest/values.bin"] = values[:-24] + np.full(6, np.nan, "<f4").tobytes()
    path.write_bytes(with_tail(good, members))
    with pytest.raises(ModelFileError, match="a box is not finite"):
        read_selftest(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("fuzz")
    members = read_tail(with_selftest(tiny_detector(), folder / "good.tflite"))
    return folder / "m.tflite", members


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_anywhere_gives_a_self_test_or_one_line(
    good: tuple[Path, dict[str, bytes]], data: st.DataObject
) -> None:
    path, members = good[0], dict(good[1])
    whole = json.loads(members[METADATA_NAME])
    for _ in range(data.draw(st.integers(0, 2))):
        where = whole["selftest"]
        while True:
            key = data.draw(st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where))))
            if not isinstance(where[key], dict | list) or not where[key] or data.draw(st.booleans()):
                break
            where = where[key]
        where[key] = data.draw(JUNK)
    members[METADATA_NAME] = json.dumps(whole).encode()
    for _ in range(data.draw(st.integers(0, 4))):
        name = data.draw(st.sampled_from(sorted(n for n in members if n != METADATA_NAME)))
        content = bytearray(members[name])
        if content:
            content[data.draw(st.integers(0, min(len(content), 100) - 1))] = data.draw(st.integers(0, 255))
        members[name] = bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    path.write_bytes(with_tail(b"TFL3" * 4, members))
    try:
        test = read_selftest(path)
    except ModelFileError as error:
        assert "\n" not in str(error)
    else:
        assert len(test.pictures) == test.spec.pictures and len(test.heads) == len(test.spec.heads)


def box(x1: float, y1: float, x2: float, y2: float, score: float, class_id: int) -> list[float]:
    return [x1, y1, x2, y2, score, class_id]


def rows(*boxes: list[float]) -> Any:
    return np.array(boxes, np.float32).reshape(-1, 6)


def test_boxes_agree_by_class_and_place() -> None:
    wanted = [rows(box(0, 0, 10, 10, 0.9, 1), box(20, 0, 30, 10, 0.9, 2)), rows()]
    assert agreement(wanted, wanted, CONF) == Agreement(2, 2)
    moved = rows(box(0, 0, 10, 9, 0.9, 1), box(28, 0, 38, 10, 0.9, 2))
    assert agreement(wanted, [moved, rows()], CONF) == Agreement(1, 3)  # one is missing, one is too many
    other = rows(box(0, 0, 10, 10, 0.9, 3), box(20, 0, 30, 10, 0.9, 2))
    assert agreement(wanted, [other, rows()], CONF) == Agreement(1, 3)
    assert agreement(wanted, [rows(), rows()], CONF) == Agreement(0, 2)
    assert agreement([rows()], [rows()], CONF).share == 1


def test_boxes_near_the_threshold_may_come_and_go() -> None:
    firm = 1 / (1 + np.exp(-(np.log(CONF / (1 - CONF)) + 0.5)))
    weak = rows(box(0, 0, 10, 10, firm - 1e-3, 1))
    strong = rows(box(0, 0, 10, 10, firm + 1e-3, 1))
    barely = rows(box(0, 0, 10, 10, CONF, 1))
    assert agreement([weak], [rows()], CONF) == agreement([rows()], [weak], CONF) == Agreement(0, 0)
    assert agreement([strong], [rows()], CONF) == agreement([rows()], [strong], CONF) == Agreement(0, 1)
    assert agreement([strong], [barely], CONF) == agreement([barely, strong], [strong, barely], CONF) == Agreement(1, 1)
    assert agreement([strong], [strong], 0.0) == Agreement(1, 1)
    assert agreement([rows(box(0, 0, 1, 1, 1, 1))], [rows()], 1.0) == Agreement(0, 1)


@pytest.mark.parametrize("size_wh", [(96, 72), (320, 320), (28, 28), (7, 300), (1, 1)])
def test_enlarging_is_bilinear(size_wh: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (72, 96, 3)).astype(np.uint8)
    ours = enlarge(picture, size_wh)
    theirs = cv2.resize(picture, size_wh, interpolation=cv2.INTER_LINEAR)
    assert ours.shape == theirs.shape and ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2
    assert size_wh != (96, 72) or np.array_equal(ours, picture)


def test_each_picture_is_run_once_and_nothing_is_kept_in_the_runtime(path: Path) -> None:
    model = load_model(path)
    calls = []
    infer = model.backend.infer
    model.backend.infer = lambda fill: calls.append(1) or infer(fill)  # type: ignore[method-assign, func-returns-value]
    first = replay(model, pictures(), CONF)
    again = replay(model, pictures(), CONF)
    assert len(calls) == 4
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.boxes, b.boxes) and all(np.array_equal(a.outputs[n], b.outputs[n]) for n in a.outputs)


def test_a_self_test_is_an_edge_error_wherever_it_breaks(path: Path) -> None:
    rewrite(path, input=spec_of(path).input.model_dump() | {"color": "GRAY"})
    with pytest.raises(EdgeError):
        verify(load_model(path))
