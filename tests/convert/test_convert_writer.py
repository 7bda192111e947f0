"""The file appears whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from convert.writer import check_target, write_model
from edge.errors import OutputError, SpecError


def accept(path):
    assert path.read_bytes() == b"new"


def test_writes_with_the_usual_permissions(tmp_path):
    path = tmp_path / "model.tflite"
    write_model(path, b"new", False, accept)
    assert path.read_bytes() == b"new"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


def test_never_replaces_without_force(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists; pass --force"):
        write_model(path, b"new", False, accept)
    assert path.read_bytes() == b"old"
    write_model(path, b"new", True, accept)
    assert path.read_bytes() == b"new"


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(OutputError, match="exists"):
        write_model(path, b"new", False, lambda _: path.write_bytes(b"other"))
    assert path.read_bytes() == b"other"
    assert list(tmp_path.iterdir()) == [path]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(_):
    raise SpecError("does not run")


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("step", ["write", "check", "rename"])
def test_failure_in_the_middle_changes_nothing(step, existing, tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    if existing:
        path.write_bytes(b"old")
    check = refuse if step == "check" else accept
    if step == "write":
        monkeypatch.setattr(os, "fsync", full_disk)
    if step == "rename":
        monkeypatch.setattr("pathlib.Path.replace", full_disk)
    with pytest.raises(SpecError if step == "check" else OutputError) as caught:
        write_model(path, b"new", True, check)
    if step != "check":
        assert "No space left on device" in str(caught.value)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([b"old"] if existing else [])


def test_interrupt_leaves_nothing(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_model(tmp_path / "model.tflite", b"new", False, interrupt)
    assert not list(tmp_path.iterdir())


def test_targets_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        check_target(tmp_path, True)
    with pytest.raises(OutputError, match="does not exist"):
        check_target(tmp_path / "none" / "model.tflite", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        check_target(tmp_path / "model.tflite", False)
