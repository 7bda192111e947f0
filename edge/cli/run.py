"""`edge run`: many cameras in one process, for months."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli import running
from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.config.load import LoadedConfig
    from edge.runner.runner import Runner
    from edge.service.health import HealthServer
    from edge.service.notify import Notifier
    from edge.service.watchdog import Watchdog

log = logging.getLogger("edge")

_LOOK_S = 1.0
"""How often the configuration file is looked at, and systemd told how it goes."""

_SUMMARY_S = 300.0
"""How often the log says how each camera does, and freed memory goes back to the system."""

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def run(
    config: Annotated[Path, typer.Argument(help="The configuration, see edge config init.")] = Path("edge.toml"),
    check: Annotated[
        bool, typer.Option("--check", help="Only say what is wrong with it, all of it; its models are loaded once.")
    ] = False,
) -> None:
    """Run the cameras of a configuration until told to stop."""
    from edge.config.load import check_config, load_config

    if check:
        problems = check_config(config)
        if not problems:
            from edge.runner.check import try_config

            with running.native_silence():
                problems = try_config(load_config(config))
        _print_check(problems, config)
        return
    loaded = load_config(config)
    with running.native_silence(), ExitStack() as stack:
        _Service(loaded, stack).run()


def _print_check(problems: list[str], path: Path) -> None:
    if problems:
        for line in problems:
            print(f"edge: {line}", file=sys.stderr)
        raise SystemExit(EdgeError.exit_code)
    print(f"{path}: valid")


class _Service:
    """One `edge run`: signals, systemd, health, reloads."""

    def __init__(self, loaded: LoadedConfig, stack: ExitStack) -> None:
        from edge.runner.models import file_signature

        self._loaded = loaded
        self._stack = stack
        self._wake = threading.Event()
        self._stop_signal = 0
        self._reload = False
        self._signature = self._latest = file_signature(loaded.path)

    def run(self) -> None:
        from edge.runner.runner import Runner
        from edge.service.logs import configure
        from edge.service.notify import Notifier
        from edge.service.watchdog import Watchdog

        _few_arenas()
        configure(self._loaded.config.service.log)
        self._catch_signals()
        notifier = Notifier.from_environment()
        runner = Runner(self._loaded)
        health = _health(self._loaded, runner)
        notifier.status("loading models")
        watchdog = Watchdog(notifier, runner.status)
        try:
            runner.start()
            notifier.ready(_sentence(runner))
            watchdog.start()
            log.info("running: %s", _sentence(runner))
            health = self._watch(runner, notifier, watchdog, health)
        finally:
            notifier.stopping()
            watchdog.stop()
            clean = runner.stop()
            if health is not None:
                health.stop()
        log.info("stopped")
        if not clean:
            # A thread inside a driver cannot be ended, and would keep the process, or crash it, at its end.
            logging.shutdown()
            sys.stderr.flush()
            os._exit(self._code())
        if self._stop_signal == signal.SIGINT:
            raise KeyboardInterrupt

    def _code(self) -> int:
        return 130 if self._stop_signal == signal.SIGINT else 0

    def _catch_signals(self) -> None:
        def stop(number: int, frame: object) -> None:
            self._stop_signal = number
            self._wake.set()

        def reload(number: int, frame: object) -> None:
            self._reload = True
            self._wake.set()

        for number, handler in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, reload)):
            before = signal.signal(number, handler)
            self._stack.callback(signal.signal, number, before)

    def _watch(
        self, runner: Runner, notifier: Notifier, watchdog: Watchdog, health: HealthServer | None
    ) -> HealthServer | None:
        """Wait for what ends the service, and put new configurations in place; returns the server that runs then."""
        import time

        summary_s = time.monotonic()
        while not self._stop_signal and not runner.ended:
            self._wake.wait(_LOOK_S)
            self._wake.clear()
            watchdog.beat()
            if runner.failed is not None:
                raise runner.failed
            if (self._reload or self._changed()) and not self._stop_signal:
                self._reload = False
                notifier.reloading()
                health = self._replace(runner, health)
                notifier.ready(_sentence(runner))
            notifier.status(_sentence(runner))
            if time.monotonic() - summary_s >= _SUMMARY_S:
                summary_s = time.monotonic()
                _summarize(runner)
                _give_memory_back()
        return health

    def _changed(self) -> bool:
        """Whether the file has changed, and nobody is writing it any more: it is the same as a moment ago."""
        from edge.runner.models import file_signature

        before, self._latest = self._latest, file_signature(self._loaded.path)
        return before == self._latest != self._signature

    def _replace(self, runner: Runner, health: HealthServer | None) -> HealthServer | None:
        from edge.config.load import load_config
        from edge.runner.models import file_signature
        from edge.service.logs import configure

        path, before = self._loaded.path, self._loaded.config.service
        self._signature = file_signature(path)
        try:
            loaded = load_config(path)
            runner.reload(loaded)
        except EdgeError as error:
            said = str(error)
            runner.refuse(said if said.startswith(str(path)) else f"{path}: {said}")
            return health
        self._loaded = loaded
        _give_memory_back()
        service = loaded.config.service
        if service.log != before.log:
            configure(service.log)
        if (service.http, service.token) == (before.http, before.token):
            return health
        if health is not None:
            health.stop()
        try:
            return _health(loaded, runner)
        except EdgeError as error:
            log.error("%s; there is no health endpoint now", error)
            return None


def _few_arenas() -> None:
    """Have the C library keep memory in two pieces instead of eight per core.

    Every reconnection starts threads, and each thread would leave freed memory in a piece of its own: half a megabyte
    an outage, for months.
    """
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _give_memory_back() -> None:
    """Free ended models and cameras, and let the C library return what they have left in pieces."""
    # Threads and what they run refer to each other, and Python looks for such rings too rarely: interpreters are large.
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _health(loaded: LoadedConfig, runner: Runner) -> HealthServer | None:
    service = loaded.config.service
    if service.http is None:
        return None
    from edge.service.health import HealthServer

    server = HealthServer(service.http, runner.status, service.token)
    server.start()
    log.info("health and metrics: %s", server.url)
    return server


def _sentence(runner: Runner) -> str:
    """Return how it goes in a few words: "2 of 3 cameras online, 24.8 frames/s"."""
    status = runner.status()
    online = sum(camera.state == "online" for camera in status.cameras)
    parts = [f"{online} of {len(status.cameras)} cameras online", f"{sum(c.fps for c in status.cameras):.1f} frames/s"]
    parts += [f"model {m.name} fell back to the CPU" for m in status.models if m.failure is not None]
    parts += list(status.hung)
    return ", ".join(parts)


def _summarize(runner: Runner) -> None:
    for camera in runner.status().cameras:
        log.info(
            "camera %s: %s, %.1f frames/s, age p95 %.0f ms, %d results, %d dropped, %d outages",
            camera.name,
            camera.state,
            camera.fps,
            camera.age_ms[1],
            camera.results,
            camera.dropped,
            camera.outages,
        )
