"""What a service needs of this machine, and what stands in its way: decided before anything is written."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import site
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import InputError
from edge.service.units import Scope, Unit

if TYPE_CHECKING:
    from edge.config.schema import Config

CREDENTIALS = "credentials"
"""Folder beside the configuration whose files are secrets: `${NAME}` is the content of its file NAME."""

_VENV = "install it into a folder of its own: python3 -m venv /opt/edge && /opt/edge/bin/pip install edge-pipeline"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MEMORY = re.compile(r"[1-9]\d*[KMGT]?|[1-9]\d?%|infinity")
_DEVICE_GROUPS = ("video", "render", "plugdev", "apex")
_HOMES = ("/home", "/root", "/run/user")
_PRIVATE = ("/tmp", "/var/tmp", "/dev", "/proc", "/sys")


@dataclass(frozen=True, slots=True)
class Account:
    """Who the service runs as.

    Attributes:
        shown: In a sentence.
        uid: None for a user that exists only while the service runs.
        gids: All its groups.
    """

    shown: str
    uid: int | None
    gids: frozenset[int]

    def may(self, info: os.stat_result, want: int) -> bool:
        """Return whether a file's mode gives it what it wants: 4 reads, 2 writes, 1 passes."""
        if self.uid == 0:
            return want != 1 or stat.S_ISDIR(info.st_mode) or bool(info.st_mode & 0o111)
        if info.st_uid == self.uid:
            return info.st_mode >> 6 & want == want
        if info.st_gid in self.gids:
            return info.st_mode >> 3 & want == want
        return info.st_mode & want == want


def plan(
    config_path: Path,
    name: str = "edge",
    scope: Scope = "system",
    user: str | None = None,
    memory_max: str = "75%",
    systemd: int = 252,
) -> Unit:
    """Return the unit for a configuration on this machine, with this installation of edge.

    Args:
        config_path: The configuration.
        name: Of the service.
        scope: Whose manager runs it.
        user: Who runs it in the system's scope; None: a user that exists only while it runs.
        memory_max: Most memory.
        systemd: Version of systemd.

    Raises:
        InputError: The configuration is invalid, or the service could not read or write what it needs.
    """
    require_name(name)
    if not _MEMORY.fullmatch(memory_max):
        raise InputError(f"--memory-max {memory_max}: expected a size like 512M or 2G, or a share like 75%")
    if scope == "user" and user is not None:
        raise InputError(f"--user {user}: a service of the user scope runs as its user; leave --user away")
    from edge.config.load import load_config

    config_path = config_path.absolute()
    unit = Unit(name, scope, sys.executable, config_path, systemd, user, memory_max=memory_max)
    credentials = _credentials(config_path) if scope == "system" else ()
    with _environment(unit, credentials):
        config = load_config(config_path).config
        models = _models(config, name)
    compiles = any(m.delegate.startswith("gpu") or os.sep in m.delegate for m in config.models.values())
    if scope == "user":
        return _with(unit, compiles=compiles)
    groups = tuple(group for group in _DEVICE_GROUPS if _gid(group) is not None)
    account = _account(user, groups)
    needs = _Needs(account)
    needs.runtime()
    needs.config(config_path)
    for what, path in (*models, *_files(config)):
        needs.read(what, path)
    for what, path, whole in _outputs(config):
        needs.write(what, path, whole, name)
    return _with(
        unit,
        groups=groups,
        credentials=credentials,
        compiles=compiles,
        read_paths=_outermost(needs.read_paths),
        home_write_paths=_outermost(needs.home_write_paths),
        write_paths=_outermost(needs.write_paths),
    )


def require_name(name: str) -> None:
    """Check the name of a service.

    Raises:
        InputError: It cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"--name {name}: expected letters, digits, - and _, 64 at most")


def _with(unit: Unit, **changes: object) -> Unit:
    from dataclasses import replace

    return replace(unit, **changes)  # type: ignore[arg-type]


class _Needs:
    """What the service must reach; each method raises an `InputError` where it could not."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.read_paths: list[Path] = []
        self.home_write_paths: list[Path] = []
        self.write_paths: list[Path] = []

    def runtime(self) -> None:
        """The interpreter, its library and edge itself."""
        import edge

        package = Path(edge.__file__).resolve().parent
        if site.ENABLE_USER_SITE and package.is_relative_to(site.getusersitepackages()):
            raise InputError(
                f"edge is installed for one user only ({package.parent}), and a service does not look there; {_VENV}"
            )
        roots = {Path(sys.prefix), Path(sys.base_prefix), package.parent}
        roots |= {root.resolve() for root in roots}
        self._bind(roots)
        python = Path(sys.executable)
        for path, want in ((python, 1), (python.resolve(), 5), (Path(os.__file__), 4), (package / "__init__.py", 4)):
            if (denied := self._denied(path, want)) is not None:
                raise InputError(
                    f"this installation of edge cannot be used by {self._account.shown}, who may not read {denied}; "
                    + _VENV
                )

    def config(self, path: Path) -> None:
        """The configuration: read again at each reload, so that its folder must be visible."""
        if _below(path, _HOMES + _PRIVATE):
            raise InputError(f"{path}: a service does not see this folder; move the file to /etc/edge/{path.name}")
        if (denied := self._denied(path, 4)) is not None:
            raise InputError(
                f"{path}: {self._account.shown} may not read {denied}; open it (chmod a+rX), and move secrets to files "
                f"{path.with_name(CREDENTIALS)}/NAME, which only root reads; the configuration says ${{NAME}} for one"
            )

    def read(self, what: str, path: Path) -> None:
        """A model, a delegate, a video: a file that the configuration names."""
        if _below(path, _PRIVATE):
            raise InputError(
                f"{what}: a service does not see {path}; move it, to /etc/edge or /var/lib/edge for instance"
            )
        if not path.exists():
            raise InputError(f"{what}: there is no file {path}")
        folder = path.parent
        # A home itself is not shown: it holds more than a model.
        home = len(folder.parts) <= 3 and _below(folder, _HOMES)
        self._bind([path if home else folder])
        if (denied := self._denied(path, 4)) is not None:
            raise InputError(f"{what}: {self._account.shown} may not read {denied}")

    def write(self, what: str, folder: Path, whole: str, name: str) -> None:
        """A folder of outputs."""
        state = Path("/var/lib", name)
        if _below(folder, (str(state), f"/var/cache/{name}", f"/run/{name}")):
            return
        # "/etc/edge/detections/front.jsonl" -> "detections/front.jsonl"
        last = Path(whole).parts[-2:] if Path(whole) != folder else (folder.name,)
        advice = f"give a path below {state}, such as {state.joinpath(*last)}"
        if _below(folder, _PRIVATE):
            raise InputError(f"{what}: the service has a {folder.parts[1]} of its own, emptied when it ends; {advice}")
        if not folder.is_dir():
            raise InputError(
                f"{what}: there is no folder {folder}, and the service may not make it; {advice}, or make it "
                "for a user that you name with --user"
            )
        home = _below(folder, _HOMES)
        if home:
            self.home_write_paths.append(folder)
        if (denied := self._denied(folder, 3)) is not None:
            raise InputError(
                f"{what}: {self._account.shown} may not write to {denied}; {advice}, or name a user who may with --user"
            )
        if not home:
            self.write_paths.append(folder)

    def _bind(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if _below(path, _HOMES):
                if path.parent == path or str(path) in _HOMES:
                    raise InputError(f"{path}: would be shown to the service as a whole; install edge into /opt/edge")
                self.read_paths.append(path)
            elif _below(path, _PRIVATE):
                raise InputError(f"a service does not see {path}; install edge into /opt/edge")

    def _denied(self, path: Path, want: int) -> Path | None:
        """Return what keeps the service from a path: the path itself or a folder above it."""
        shown = [p for p in (*self.read_paths, *self.home_write_paths) if path.is_relative_to(p)]
        # Below a folder that is shown, those above it are made anew by systemd, for all to pass.
        top = max(shown, key=lambda p: len(p.parts), default=None)
        steps = [p for p in reversed(path.parents) if top is None or p.is_relative_to(top)]
        try:
            for step in steps:
                if not self._account.may(step.stat(), 1):
                    return step
            return None if self._account.may(path.stat(), want) else path
        except OSError:
            return path


def _account(user: str | None, groups: Iterable[str]) -> Account:
    gids = {gid for group in groups if (gid := _gid(group)) is not None}
    if user is None:
        return Account("the service's own user", None, frozenset(gids))
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise InputError(f"--user {user}: there is no such user; sudo useradd --system {shlex.quote(user)}") from error
    return Account(f"user {user}", entry.pw_uid, frozenset(gids | set(os.getgrouplist(user, entry.pw_gid))))


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _below(path: Path, roots: Iterable[str]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the paths that lie below no other one."""
    unique = sorted(set(paths))
    return tuple(p for p in unique if not any(p != other and p.is_relative_to(other) for other in unique))


def _credentials(config: Path) -> tuple[tuple[str, Path], ...]:
    folder = config.with_name(CREDENTIALS)
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return ()
    return tuple((path.name, path) for path in files if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", path.name))


@contextmanager
def _environment(unit: Unit, credentials: tuple[tuple[str, Path], ...]) -> Iterator[None]:
    """Let the configuration be read here as the service will read it."""
    before = dict(os.environ)
    try:
        for name, path in credentials:
            try:
                os.environ.setdefault(name, path.read_text(encoding="utf-8").rstrip("\n"))
            except (OSError, ValueError) as error:
                raise InputError(f"{path}: cannot be read as a credential ({error})") from error
        if unit.environment_file.is_file():
            os.environ.update(read_environment(unit.environment_file))
        if unit.scope == "system":
            os.environ["XDG_CACHE_HOME"] = "/var/cache"
            for variable, root in (("STATE_DIRECTORY", "/var/lib"), ("CACHE_DIRECTORY", "/var/cache")):
                os.environ[variable] = f"{root}/{unit.name}"
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables of a file that systemd reads as EnvironmentFile.

    Raises:
        InputError: It cannot be read, or a line is no assignment.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    found = {}
    for number, line in enumerate(text.replace("\\\n", " ").splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            raise InputError(f"{path}:{number}: expected NAME=VALUE")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found


def _models(config: Config, name: str) -> list[tuple[str, Path]]:
    """Return the files of the models, as the service will look them up."""
    from edge.bundled import BUNDLED
    from edge.zoo.cache import find_model

    files = []
    for key, model in config.models.items():
        if model.path is None or model.path in BUNDLED:
            continue
        try:
            path = find_model(Path(model.path))
        except InputError as error:
            pull = f"sudo env XDG_CACHE_HOME=/var/cache {sys.executable} -m edge models pull {model.path}"
            raise InputError(
                f"models.{key}.path: the service does not find {model.path}; fetch it with: {pull}"
            ) from error
        # Its own folder of pulled models may be a link to one that only root may enter, until it runs.
        if not path.is_relative_to("/var/cache"):
            files.append((f"models.{key}.path", path))
    return files


def _files(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield what else is read: labels, delegates, videos."""
    for key, model in config.models.items():
        if model.labels is not None:
            yield f"models.{key}.labels", Path(model.labels)
        library = model.delegate.partition("?")[0]
        if library.startswith("/"):
            yield f"models.{key}.delegate", Path(library)
    for key, camera in config.cameras.items():
        if camera.source.startswith("/") and not camera.source.startswith("/dev/"):
            yield f"cameras.{key}.source", Path(camera.source)


def _outputs(config: Config) -> Iterator[tuple[str, Path, str]]:
    """Yield the name of each output, the folder that it writes to, and its path as it was given."""
    from edge.config.schema import FileSinkConfig

    for key, sink in config.sinks.items():
        path = Path(sink.path)
        parts = path.parent.parts if isinstance(sink, FileSinkConfig) else path.parts
        fixed = next((i for i, part in enumerate(parts) if "{" in part), len(parts))
        yield f"sinks.{key}.path", Path(*parts[:fixed]), sink.path
