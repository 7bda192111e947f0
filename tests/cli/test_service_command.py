"""`edge service` without a systemd: what it prints and refuses. The rest is in tests/lab/test_systemd_lab.py."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli.app import app
from edge.service import manager, plan

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plan, "_PRIVATE", ())
    monkeypatch.setattr(plan, "_HOMES", ())
    path = tmp_path / "edge.toml"
    path.write_text('[cameras.front]\nsource = "rtsp://10.0.0.5/s"\n')
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["service", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_a_dry_run_prints_the_unit_and_needs_neither_root_nor_systemd(config: Path) -> None:
    code, out, err = run("install", "--dry-run", "--config", config, "--user", ME, "--memory-max", "300M")
    assert (code, err) == (0, "")
    assert out.startswith("# Written by: edge service install")
    assert "MemoryMax=300M\n" in out
    assert f"edge run {config}\n" in out


def test_a_dry_run_of_the_user_scope(config: Path) -> None:
    code, out, _ = run("install", "--dry-run", "--user-scope", "--config", config)
    assert code == 0
    assert "WantedBy=default.target" in out


def test_the_user_scope_has_a_configuration_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    code, _, err = run("install", "--dry-run", "--user-scope")
    assert code == 2
    assert f"{tmp_path}/edge/edge.toml: cannot be read" in err


def test_a_configuration_that_is_wrong_is_one_line(config: Path) -> None:
    config.write_text("[cameras.front]\nsauce = 1\n")
    code, out, err = run("install", "--dry-run", "--config", config, "--user", ME)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "edge.toml:" in err and "cameras.front" in err


@pytest.mark.parametrize("command", ["install", "uninstall", "status"])
def test_without_systemd(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/run/systemd/system").is_dir():
        monkeypatch.setattr(manager.shutil, "which", lambda name: None)
    code, _, err = run(command)
    assert code == 2
    assert "was not started by systemd" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_without_root(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "require_systemd", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = run(command)
    assert code == 2
    assert "needs root: sudo" in err and "--user-scope" in err


def test_a_name_that_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run("uninstall", "--name", "../../etc/passwd")
    assert code == 2
    assert "--name" in err
