"""Delegates that are missing, are none, refuse, or work: against a real shared library compiled here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge.backends import delegates
from edge.errors import DelegateError, InputError

# The C interface of an external delegate. TfLiteDelegate is only handed through here, so a zeroed block that is
# large enough stands for it; `refuse=1` is what a library without its device does.
SOURCE = """
#include <stdlib.h>
#include <string.h>
void* tflite_plugin_create_delegate(char** keys, char** values, size_t n, void (*report)(const char*)) {
  for (size_t i = 0; i < n; i++)
    if (!strcmp(keys[i], "refuse")) { if (report && *values[i] == '2') report("the device is busy"); return NULL; }
  return calloc(1, 512);
}
void tflite_plugin_destroy_delegate(void* delegate) { free(delegate); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the test delegate with")
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "d.c").write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "libd.so"), str(folder / "d.c")], check=True)
    return folder / "libd.so"


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
    with pytest.raises(DelegateError, match="no device found, or no permission"):
        delegates.load(f"{library}?refuse=1")
    with pytest.raises(DelegateError, match="the device is busy"):
        delegates.load(f"{library}?refuse=2&other=x")
