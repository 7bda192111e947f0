"""Delegates that are missing, are none, refuse, or work: against a real shared library compiled here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from c_delegate import build_delegate
from fixtures import paint, tiny_detector

from edge.backends import delegates
from edge.backends.factory import open_backend
from edge.backends.litert import LiteRTBackend
from edge.detector import Detector
from edge.errors import BackendError, DelegateError, InputError


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_delegate(tmp_path_factory.mktemp("delegate"))


def test_cpu_is_no_delegate() -> None:
    assert delegates.load("cpu") == ("CPU", None)


@pytest.mark.parametrize("text", ["cpu:0", "tpu", "edgetpu:wifi", ""])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected|takes no argument"):
        delegates.load(text)


def test_missing_library_says_what_to_install() -> None:
    with pytest.raises(DelegateError, match=r"libedgetpu\.so\.1.*libedgetpu1-std") as caught:
        delegates.load("edgetpu:usb")
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    with pytest.raises(DelegateError, match="cannot load /nowhere/libx.so"):
        delegates.load("/nowhere/libx.so")


def test_a_library_that_is_no_delegate(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DelegateError, match="is no TFLite delegate"):
        delegates.load("libc.so.6")
    assert capfd.readouterr().err == ""


def test_options_reach_the_library(library: Path) -> None:
    loaded = delegates.load(str(library))
    assert loaded.label == "libd.so" and loaded.handle is not None
    with pytest.raises(DelegateError, match="no device, no permission, wrong option"):
        delegates.load(f"{library}?fail=create")
    for wrong in ("fail", "=create", "say=a&say=b"):
        with pytest.raises(InputError, match="expected options as in"):
            delegates.load(f"{library}?{wrong}")
    with pytest.raises(DelegateError, match="the device is busy"):
        delegates.load(f"{library}?fail=create&say=the+device+is+busy")


def test_a_delegate_computes_its_part(library: Path, tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    backend = LiteRTBackend(path, delegate=str(library))
    assert "libd.so" in backend.description and backend.failure is None
    picture = paint([("red", 0, 0), ("green", 3, 2)])
    found, _ = Detector.load(path, conf=0.5, delegate=str(library)).detect(picture)
    expected, _ = Detector.load(path, conf=0.5).detect(picture)
    assert len(found) == 2 and np.array_equal(found.xyxy, expected.xyxy)


def test_failures_name_the_delegate(library: Path, tmp_path: Path) -> None:
    path = tiny_detector().save(tmp_path / "m.tflite")
    with pytest.raises(DelegateError, match=r"libd\.so refused .*does not fit the device") as caught:
        open_backend(path, delegate=f"{library}?fail=prepare")
    assert "\n" not in str(caught.value)
    backend = open_backend(path, delegate=f"{library}?fail=invoke&after=1")
    backend.infer(lambda tensor: None)
    with pytest.raises(BackendError, match=r"inference failed on libd\.so .*the device is gone"):
        backend.infer(lambda tensor: None)
