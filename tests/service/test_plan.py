"""What keeps a service from working is found before its unit is written."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from pathlib import Path

import pytest

from edge.config.template import template
from edge.errors import InputError
from edge.service import plan as planning
from edge.service.plan import Account, plan, read_environment
from edge.zoo.table import MODELS

ME = pwd.getpwuid(os.getuid()).pw_name
CAMERA = '[cameras.front]\nsource = "rtsp://10.0.0.5/s"\n'


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as none of those that a service does not see, wherever the test runs."""
    monkeypatch.setattr(planning, "_PRIVATE", ("/dev", "/proc"))
    monkeypatch.setattr(planning, "_HOMES", ("/nowhere",))
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "edge.toml"
    path.write_text(text)
    return path


def test_the_simplest_configuration(etc: Path) -> None:
    unit = plan(write(etc, CAMERA), user=ME)
    assert (unit.python, unit.config, unit.user, unit.scope) == (sys.executable, etc / "edge.toml", ME, "system")
    assert (unit.read_paths, unit.write_paths, unit.home_write_paths, unit.credentials) == ((), (), (), ())
    assert not unit.compiles


def test_only_groups_that_this_machine_has(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_gid", {"video": 44, "apex": 990}.get)
    assert plan(write(etc, CAMERA), user=ME).groups == ("video", "apex")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "a/b"}, "--name a/b: expected letters"),
        ({"name": ""}, "--name : expected letters"),
        ({"name": "x" * 65}, "64 at most"),
        ({"name": "-x"}, "--name -x"),
        ({"memory_max": "lots"}, "--memory-max lots: expected a size like 512M"),
        ({"memory_max": "0"}, "--memory-max 0"),
        ({"memory_max": "512M\nExecStart=x"}, "--memory-max 512M"),
        ({"user": "nobody-at-all"}, "--user nobody-at-all: there is no such user; sudo useradd"),
        ({"user": ME, "scope": "user"}, "leave --user away"),
    ],
)
def test_flags_that_make_no_sense(change: dict[str, str], says: str, etc: Path) -> None:
    with pytest.raises(InputError, match=says):
        plan(write(etc, CAMERA), **change)  # type: ignore[arg-type]


def test_an_invalid_configuration_is_refused(etc: Path) -> None:
    with pytest.raises(InputError, match=r"edge.toml:2: cameras.front: .*"):
        plan(write(etc, "\n[cameras.front]\n"), user=ME)
    with pytest.raises(InputError, match="edge config init"):
        plan(etc / "none.toml", user=ME)


def test_variables_come_from_where_the_service_will_find_them(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = CAMERA.replace("10.0.0.5", "${USER_NAME}:${CAM_PASSWORD}@10.0.0.5")
    path = write(etc, text + '[sinks.log]\nkind = "json"\npath = "${STATE_DIRECTORY}/x/{camera}.jsonl"\n')
    monkeypatch.delenv("CAM_PASSWORD", raising=False)
    with pytest.raises(InputError, match="USER_NAME"):
        plan(path, user=ME)
    (etc / "edge.env").write_text('# of the camera\nUSER_NAME="joe"\n')
    (etc / "credentials").mkdir()
    (etc / "credentials" / "CAM_PASSWORD").write_text("hunter2\n")
    (etc / "credentials" / "not a name").write_text("x")
    before = dict(os.environ)
    unit = plan(path, user=ME)
    assert unit.credentials == (("CAM_PASSWORD", etc / "credentials" / "CAM_PASSWORD"),)
    assert unit.write_paths == ()
    assert dict(os.environ) == before


def test_a_credential_that_is_no_text(etc: Path) -> None:
    (etc / "credentials").mkdir()
    (etc / "credentials" / "KEY").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match="KEY: cannot be read as a credential"):
        plan(write(etc, CAMERA), user=ME)


def test_a_file_of_variables(etc: Path) -> None:
    path = etc / "edge.env"
    path.write_text("A=1\n\n; c\n B = two words \nC='q=\"'\nD=a\\\nb\nE=\n")
    assert read_environment(path) == {"A": "1", "B": "two words", "C": 'q="', "D": "a b", "E": ""}
    path.write_text("A=1\nexport B\n")
    with pytest.raises(InputError, match=r"edge.env:2: expected NAME=VALUE"):
        read_environment(path)


@pytest.mark.parametrize(
    ("delegate", "compiles"), [("cpu", False), ("edgetpu", False), ("gpu", True), ("gpu:float32", True)]
)
def test_code_is_made_by_gpu_drivers_only(delegate: str, compiles: bool, etc: Path) -> None:
    unit = plan(write(etc, f'[models.a]\ndelegate = "{delegate}"\n{CAMERA}'), user=ME)
    assert unit.compiles == compiles


def test_code_is_made_by_foreign_delegates(etc: Path) -> None:
    (etc / "libd.so").write_bytes(b"")
    path = write(etc, f'[models.a]\ndelegate = "{etc}/libd.so?x=1"\n{CAMERA}')
    assert plan(path, user=ME).compiles
    (etc / "libd.so").unlink()
    with pytest.raises(InputError, match=r"models.a.delegate: there is no file .*libd.so"):
        plan(path, user=ME)


def test_a_pulled_model_is_looked_for_where_the_service_looks(etc: Path) -> None:
    with pytest.raises(
        InputError, match=r"models.a.path: .*fetch it with: sudo env XDG_CACHE_HOME=/var/cache .* models pull"
    ):
        plan(write(etc, f'[models.a]\npath = "{next(iter(MODELS))}"\n{CAMERA}'), user=ME)


def test_files_that_are_read(etc: Path) -> None:
    path = write(etc, f'[models.a]\npath = "sub/m.tflite"\n{CAMERA}[cameras.clip]\nsource = "clip.mp4"\n')
    with pytest.raises(InputError, match=r"models.a.path: there is no file .*sub/m.tflite"):
        plan(path, user=ME)
    (etc / "sub").mkdir()
    (etc / "sub" / "m.tflite").write_bytes(b"")
    with pytest.raises(InputError, match=r"cameras.clip.source: there is no file .*clip.mp4"):
        plan(path, user=ME)
    (etc / "clip.mp4").write_bytes(b"")
    assert plan(path, user=ME).read_paths == ()


def test_what_lies_in_a_home_is_shown_and_no_more(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = etc / "home"
    for folder in ("pi/models", "pi/video"):
        (home / folder).mkdir(parents=True)
    (home / "pi" / "models" / "m.tflite").write_bytes(b"")
    monkeypatch.setattr(planning, "_HOMES", (str(home),))
    path = write(
        etc,
        f'[models.a]\npath = "{home}/pi/models/m.tflite"\n{CAMERA}'
        f'[sinks.video]\nkind = "record"\npath = "{home}/pi/video"\n',
    )
    unit = plan(path, user=ME)
    assert unit.read_paths == (home / "pi" / "models",)
    assert unit.home_write_paths == (home / "pi" / "video",)
    assert unit.write_paths == ()


def test_a_configuration_that_the_service_would_not_see(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_HOMES", (str(etc),))
    with pytest.raises(InputError, match="move the file to /etc/edge/edge.toml"):
        plan(write(etc, CAMERA), user=ME)


@pytest.mark.parametrize(
    ("kind", "path", "folder"),
    [
        ("json", "{etc}/out/{camera}.jsonl", "out"),
        ("csv", "{etc}/out/deep/{camera}/x.csv", "out/deep"),
        ("record", "{etc}/out", "out"),
    ],
)
def test_folders_that_are_written_to(kind: str, path: str, folder: str, etc: Path) -> None:
    sink = f'[sinks.a]\nkind = "{kind}"\npath = "{path.replace("{etc}", str(etc))}"\n'
    config = write(etc, CAMERA + sink)
    with pytest.raises(
        InputError, match=r"sinks.a.path: there is no folder .*give a path below /var/lib/edge, such as "
    ):
        plan(config, user=ME)
    (etc / folder).mkdir(parents=True)
    assert plan(config, user=ME).write_paths == (etc / folder,)


@pytest.mark.parametrize(
    "path", ["/var/lib/edge/a/{camera}.jsonl", "/run/edge/{camera}.jsonl", "/var/cache/edge/{camera}.x"]
)
def test_its_own_folders_need_nothing(path: str, etc: Path) -> None:
    assert plan(write(etc, f'{CAMERA}[sinks.a]\nkind = "json"\npath = "{path}"\n'), user=ME).write_paths == ()


def test_the_folders_of_another_service_are_not_its_own(etc: Path) -> None:
    config = write(etc, f'{CAMERA}[sinks.a]\nkind = "record"\npath = "/var/lib/edge/video"\n')
    with pytest.raises(InputError, match="below /var/lib/gate, such as /var/lib/gate/video"):
        plan(config, "gate", user=ME)


def test_what_its_own_user_may_not_reach(etc: Path) -> None:
    """A user that exists only while it runs owns nothing: files must be open to all, or to a group of devices."""
    closed = etc / "closed"
    closed.mkdir(mode=0o755)
    config = write(closed, CAMERA)
    for folder in (closed, *closed.parents):
        if not folder.stat().st_mode & 0o001 and os.geteuid() != 0:
            pytest.skip(f"{folder} is closed to others")
    dynamic = Account("the service's own user", None, frozenset())
    needs = planning._Needs(dynamic)
    needs.read_paths = [etc]  # as for what is shown: folders above it do not count
    etc.chmod(0o755)
    needs.config(config)
    config.chmod(0o600)
    with pytest.raises(
        InputError, match=r"the service's own user may not read .*edge.toml; open it .*/credentials/NAME"
    ):
        needs.config(config)
    config.chmod(0o644)
    closed.chmod(0o700)
    with pytest.raises(InputError, match=r"may not read .*/closed; open it"):
        needs.config(config)
    with pytest.raises(InputError, match=r"models.a.path: the service's own user may not read .*/closed$"):
        needs.read("models.a.path", config)
    with pytest.raises(InputError, match=r"sinks.a.path: .* may not write to .*/closed; .* or name a user who may"):
        needs.write("sinks.a.path", closed, str(closed / "x.jsonl"), "edge")
    closed.chmod(0o777)
    needs.write("sinks.a.path", closed, str(closed / "x.jsonl"), "edge")
    assert needs.write_paths == [closed]


@pytest.mark.parametrize(
    ("uid", "gids", "mode", "want", "may"),
    [
        (None, (), 0o644, 4, True),
        (None, (), 0o640, 4, False),
        (None, (7,), 0o640, 4, True),
        (None, (7,), 0o604, 4, False),  # the group's bits count, though others may
        (5, (), 0o400, 4, True),
        (5, (), 0o077, 4, False),
        (5, (), 0o500, 3, False),
        (5, (), 0o300, 3, True),
        (0, (), 0o000, 4, True),
        (0, (), 0o600, 1, False),
        (0, (), 0o610, 1, True),
    ],
)
def test_modes(uid: int | None, gids: tuple[int, ...], mode: int, want: int, may: bool) -> None:
    info = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, 5, 7, 0, 0, 0, 0))
    assert Account("it", uid, frozenset(gids)).may(info, want) == may


def test_a_user_scope_is_not_examined(etc: Path) -> None:
    unit = plan(write(etc, f'{CAMERA}[sinks.a]\nkind = "json"\npath = "out/{{camera}}.jsonl"\n'), scope="user")
    assert (unit.scope, unit.user, unit.groups, unit.write_paths) == ("user", None, (), ())


def test_the_example_for_etc_writes_where_a_service_may(etc: Path) -> None:
    unit = plan(write(etc, template("/etc/edge/edge.toml")), user=ME)
    assert unit.write_paths == ()
    with pytest.raises(InputError, match=r"sinks.log.path: .* such as /var/lib/edge/detections/\{camera\}.jsonl"):
        plan(write(etc, template("edge.toml")), user=ME)
