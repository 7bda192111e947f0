"""`edge service`: make the cameras of a configuration a service of systemd."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import InputError

if TYPE_CHECKING:
    from edge.service.manager import Manager, ServiceState

app = typer.Typer(no_args_is_help=True, help="Run the cameras from boot on, under systemd.", rich_markup_mode="rich")

_NOT_RUNNING, _UNKNOWN = 3, 4
"""Exit codes of `systemctl status`."""

Name = Annotated[str, typer.Option(help="Of the service; another one runs beside it.")]
UserScope = Annotated[
    bool, typer.Option("--user-scope/--system", help="The manager of this user, or of the system (needs root).")
]


@app.command()
def install(
    config: Annotated[
        Path | None,
        typer.Option(help="The configuration.  [default: /etc/edge/edge.toml]", show_default=False),
    ] = None,
    user_scope: UserScope = False,
    user: Annotated[
        str | None,
        typer.Option(help="Who runs it; by default a user that exists only while it runs.", show_default=False),
    ] = None,
    name: Name = "edge",
    now: Annotated[bool, typer.Option("--now/--no-now", help="Start it, and wait until it works.")] = True,
    memory_max: Annotated[str, typer.Option(help="Most memory, 512M or a share; beyond it, it is restarted.")] = "75%",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the unit.")] = False,
) -> None:
    """Write the unit, have it started at boot, and start it."""
    from edge.service.manager import Manager, require_systemd, systemd_version
    from edge.service.plan import plan
    from edge.service.units import render

    if config is None:
        config = _user_config() if user_scope else Path("/etc/edge/edge.toml")
    if not dry_run:
        require_systemd()
        _require_root(user_scope)
    unit = plan(config, name, "user" if user_scope else "system", user, memory_max, systemd_version())
    if dry_run:
        print(render(unit), end="")
        return
    manager = Manager("user" if user_scope else "system", name)
    replaced = manager.install(unit)
    print(f"{manager.path} is {'replaced' if replaced else 'written'}, and {manager.unit} starts at boot")
    if user_scope and not Path("/var/lib/systemd/linger", _login()).exists():
        print(f"  at boot only after: sudo loginctl enable-linger {shlex.quote(_login())}")
    if not now:
        print(f"  start it with: systemctl {'--user ' * user_scope}start {name}")
        return
    print("starting ...", flush=True)
    manager.start()
    print(f"{manager.unit} works: {manager.state(0).says}")
    print(f"  edge service status{_flags(user_scope, name)}    {manager.journal_command()}")


@app.command()
def uninstall(
    user_scope: UserScope = False,
    name: Name = "edge",
    purge: Annotated[bool, typer.Option("--purge", help="Remove its data, too: recordings, detections.")] = False,
) -> None:
    """Stop the service and remove its unit with all drop-ins."""
    manager = _manager(user_scope, name)
    _require_root(user_scope)
    if not manager.require_ours():
        raise InputError(f"{manager.path}: there is no such service; --name chooses another")
    kept = manager.uninstall(purge)
    print(f"{manager.unit} is stopped and removed; the configuration stays")
    for folder in kept:
        print(f"  {folder} stays with its files; to remove it: sudo rm -r {folder.resolve()} {folder}")


@app.command()
def status(
    user_scope: UserScope = False,
    name: Name = "edge",
    lines: Annotated[int, typer.Option(min=0, max=1000, help="Of the log.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Say how the service does. Exit code 0: it runs. 3: it does not. 4: there is none."""
    state = _manager(user_scope, name).state(lines)
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(state), indent=2, ensure_ascii=False))
    else:
        _show(state, _manager(user_scope, name))
    if state.load == "not-found":
        raise typer.Exit(_UNKNOWN)
    if state.active not in ("active", "reloading"):
        raise typer.Exit(_NOT_RUNNING)


def _show(state: ServiceState, manager: Manager) -> None:
    if state.load == "not-found":
        print(f"{state.name}: there is no such service; edge service install makes one")
        return
    why = f", {state.result}" if state.result not in ("", "success") else ""
    rows = [
        ("service", f"{state.name}, {state.enabled or state.load}"),
        ("state", f"{state.active} ({state.sub}{why})" + (f" since {state.since}" if state.since else "")),
        ("restarts", str(state.restarts)),
    ]
    if state.memory_bytes is not None:
        most = f" of {state.memory_max_bytes / 2**20:.0f} MB" if state.memory_max_bytes is not None else ""
        rows.append(("memory", f"{state.memory_bytes / 2**20:.0f} MB{most}"))
    if state.pid:
        rows.append(("process", str(state.pid)))
    rows.append(("says", state.says or "nothing"))
    for key, value in rows:
        print(f"{key:<10} {value}")
    if state.log:
        print(f"log        {manager.journal_command()}")
        for line in state.log:
            print(f"  {line}")


def _manager(user_scope: bool, name: str) -> Manager:
    from edge.service.manager import Manager, require_systemd
    from edge.service.plan import require_name

    require_name(name)
    require_systemd()
    return Manager("user" if user_scope else "system", name)


def _require_root(user_scope: bool) -> None:
    if not user_scope and os.geteuid() != 0:
        again = shlex.join([sys.executable, "-m", "edge", *sys.argv[1:]])
        raise InputError(
            f"a service of the system needs root: sudo {again}    (or add --user-scope for one of your own)"
        )


def _user_config() -> Path:
    given = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(given if os.path.isabs(given) else os.path.expanduser("~/.config"), "edge/edge.toml")


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _flags(user_scope: bool, name: str) -> str:
    return " --user-scope" * user_scope + (f" --name {name}" if name != "edge" else "")
