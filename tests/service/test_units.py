"""Unit files: what they say, and what systemd says of them."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import InputError
from edge.service.manager import systemd_version
from edge.service.units import MARK, Unit, render

HERE = 252
"""A version that knows no notify-reload and no restart steps."""

SYSTEM = Unit("edge", "system", sys.executable, Path("/etc/edge/edge.toml"), HERE)
FULL = replace(
    SYSTEM,
    name="gate-2",
    groups=("root", "video"),
    memory_max="512M",
    credentials=(("CAM", Path("/etc/edge/credentials/CAM")), ("KEY", Path("/etc/ed ge/credentials/K%Y"))),
    read_paths=(Path("/home/a user/venv"), Path("/root/100%")),
    home_write_paths=(Path('/home/x/a "quoted" \\ folder'),),
    write_paths=(Path("/srv/video"), Path("/srv/with space")),
    compiles=True,
)
USER = replace(SYSTEM, scope="user", config=Path("/home/a user/$HOME/100%/edge.toml"))
VARIANTS = {
    "dynamic user": SYSTEM,
    "everything": FULL,
    "named user": replace(SYSTEM, user=getpass.getuser()),
    "odd path": replace(SYSTEM, config=Path('/etc/my $edge\'s "best" \\ 100%n.toml')),
    "user scope": USER,
    "user scope with a GPU": replace(USER, compiles=True, memory_max="infinity"),
}


def settings(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def setting(text: str, key: str) -> str:
    (value,) = settings(text, key)
    return value


def analyze(tmp_path: Path, unit: Unit, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    path = tmp_path / unit.file_name
    path.write_text(render(unit))
    command = ["systemd-analyze", *arguments, str(path)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("newer", [False, True], ids=["252", "this systemd"])
@pytest.mark.parametrize("name", VARIANTS)
def test_systemd_finds_nothing_wrong(name: str, newer: bool, tmp_path: Path) -> None:
    unit = replace(VARIANTS[name], systemd=systemd_version() if newer else HERE)
    scope = ["--user"] if unit.scope == "user" else []
    done = analyze(tmp_path, unit, *scope, "--man=no", "--recursive-errors=no", "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_what_is_wrong(tmp_path: Path) -> None:
    """The test above can fail."""
    done = analyze(tmp_path, replace(SYSTEM, memory_max="lots"), "--man=no", "--recursive-errors=no", "verify")
    assert "Invalid memory limit" in done.stderr


@pytest.mark.parametrize("name", [name for name, unit in VARIANTS.items() if unit.scope == "system"])
def test_little_is_exposed(name: str, tmp_path: Path) -> None:
    done = analyze(tmp_path, VARIANTS[name], "--no-pager", "security", "--offline=true", "--threshold=20")
    found = re.search(r"Overall exposure level for \S+ ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= 2.0
    assert done.returncode == 0


def test_a_line_without_a_value_is_left_out_and_one_with_several_repeated() -> None:
    text = render(SYSTEM)
    assert text.startswith(MARK)
    assert re.search(r"@[A-Z_]+@", text) is None
    assert not re.search(r"^(?!CapabilityBoundingSet)\w+=$", text, re.MULTILINE)
    for key in ("User", "SupplementaryGroups", "LoadCredential", "BindPaths", "BindReadOnlyPaths", "ReadWritePaths"):
        assert settings(text, key) == [], key
    full = render(FULL)
    assert settings(full, "LoadCredential") == [
        "CAM:/etc/edge/credentials/CAM",
        "KEY:/etc/ed ge/credentials/K%%Y",
    ]
    assert settings(full, "BindReadOnlyPaths") == ['"/home/a user/venv"', "/root/100%%"]
    assert settings(full, "BindPaths") == ['"/home/x/a \\"quoted\\" \\\\ folder"']
    assert settings(full, "ReadWritePaths") == ["-/srv/video", '"-/srv/with space"']
    assert setting(full, "SupplementaryGroups") == "root video"
    assert setting(full, "StateDirectory") == "gate-2"
    assert setting(full, "EnvironmentFile") == "-/etc/edge/gate-2.env"


def test_who_runs_it() -> None:
    assert setting(render(SYSTEM), "DynamicUser") == "yes"
    named = render(replace(SYSTEM, user="pi"))
    assert setting(named, "User") == "pi"
    assert settings(named, "DynamicUser") == []
    user = render(USER)
    for key in ("User", "DynamicUser", "StateDirectory", "ProtectSystem", "DevicePolicy", "PrivateTmp"):
        assert settings(user, key) == [], key
    assert setting(user, "WantedBy") == "default.target"


def test_code_is_made_only_where_a_driver_needs_it() -> None:
    assert setting(render(SYSTEM), "MemoryDenyWriteExecute") == "yes"
    assert setting(render(replace(SYSTEM, compiles=True)), "MemoryDenyWriteExecute") == "no"
    assert setting(render(USER), "MemoryDenyWriteExecute") == "yes"


@pytest.mark.parametrize(
    ("version", "kind", "reload", "steps"),
    [(247, "notify", 1, 0), (252, "notify", 1, 0), (253, "notify-reload", 0, 0), (254, "notify-reload", 0, 1)],
)
def test_what_a_newer_systemd_can(version: int, kind: str, reload: int, steps: int) -> None:
    text = render(replace(SYSTEM, systemd=version))
    assert setting(text, "Type") == kind
    assert len(settings(text, "ExecReload")) == reload
    assert len(settings(text, "RestartSteps")) == len(settings(text, "RestartMaxDelaySec")) == steps


def test_a_command_is_quoted() -> None:
    assert setting(render(USER), "ExecStart").endswith(' -P -m edge run "/home/a user/$$HOME/100%%/edge.toml"')


@pytest.mark.parametrize("path", ["/etc/a\nExecStartPre=/bin/evil", "/etc/\x1b[2J", "/etc/\udcff"])
def test_a_path_cannot_bring_in_a_line(path: str) -> None:
    with pytest.raises(InputError, match="control characters"):
        render(replace(SYSTEM, config=Path(path)))
    with pytest.raises(InputError, match="control characters"):
        render(replace(SYSTEM, write_paths=(Path(path),)))


def test_a_colon_would_end_a_path_that_is_shown() -> None:
    with pytest.raises(InputError, match="':'"):
        render(replace(SYSTEM, read_paths=(Path("/home/a:b"),)))
