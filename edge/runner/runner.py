"""Runner: the cameras, models and outputs of a configuration, and how a new one takes its place."""

from __future__ import annotations

import logging
import os
import time

from edge import __version__
from edge.config.diff import camera_changes, model_of, running
from edge.config.load import LoadedConfig
from edge.config.schema import Config
from edge.engine import Engine
from edge.errors import EdgeError
from edge.runner.camera import Camera
from edge.runner.models import Member, Model, file_signature, plan
from edge.runner.outputs import make_sinks
from edge.runner.status import ConfigStatus, Status
from edge.sources import is_live

log = logging.getLogger(__name__)

STOP_S = 1.5
"""How long a stop waits for threads: systemd and people who press Ctrl-C wait, too."""


class Runner:
    """A running configuration. Its methods are called from one thread, `status` from any.

    Attributes:
        config: The configuration that runs.
        failed: Why a model cannot go on; None while all work.
    """

    def __init__(self, loaded: LoadedConfig) -> None:
        """Prepare.

        Args:
            loaded: The configuration.
        """
        self.config: Config = loaded.config
        self.failed: Exception | None = None
        self._path = loaded.path
        self._engine = Engine(0, self._model_failed)
        self._models: dict[str, Model] = {}
        self._cameras: dict[str, Camera] = {}
        self._started_s = time.monotonic()
        self._ready = False
        self._reloads = 0
        self._refused = 0
        self._error: str | None = None

    def start(self) -> None:
        """Load the models, let each look once, and start the cameras.

        Raises:
            EdgeError: A model cannot be loaded, or a camera's limits do not suit it.
        """
        self._models = self._load(self.config, {})
        self._cameras = {name: self._camera(name, self.config, self._models) for name in running(self.config)}
        self._grow()
        for camera in self._cameras.values():
            camera.start()
        self._ready = True

    def _load(self, config: Config, old: dict[str, Model]) -> dict[str, Model]:
        """Return the models that a configuration needs: those of `old` that have not changed, and new ones."""
        models: dict[str, Model] = {}
        for name, frames in _demand(config).items():
            section, known = config.models[name], old.get(name)
            if known is not None and known.config == section and known.signature == file_signature(known.path):
                models[name] = known
                continue
            try:
                models[name] = Model(name, section, frames)
            except EdgeError as error:
                raise type(error)(f"models.{name}: {error}") from error
            log.info("model %s: %s", name, models[name].summary)
        return models

    def _replan(self, config: Config, models: dict[str, Model]) -> list[tuple[Model, tuple[int, int], list[Member]]]:
        """Return the models that want more, fewer or other interpreters for their cameras, and these."""
        wanted = {name: plan(config.models[name], frames) for name, frames in _demand(config).items()}
        changed = [(model, wanted[name]) for name, model in models.items() if model.plan != wanted[name]]
        return [(model, new, model.load(new)) for model, new in changed]

    def _camera(self, name: str, config: Config, models: dict[str, Model]) -> Camera:
        section = config.cameras[name]
        model = models[model_of(config, name)]
        return Camera(name, section, model, self._engine, make_sinks(name, config, model.labels))

    def _grow(self) -> None:
        """Have a thread for every interpreter of an accelerator, and one for every core."""
        waiting = sum(m.pool.size for m in self._models.values() if m.config.delegate != "cpu")
        computing = sum(m.pool.size for m in self._models.values() if m.config.delegate == "cpu")
        self._engine.grow(waiting + min(computing, len(os.sched_getaffinity(0))))

    def _model_failed(self, error: Exception) -> None:
        """Keep the first error: a model that fails, with the CPU behind it where that may step in, is beyond repair."""
        if self.failed is None:
            self.failed = error

    def reload(self, loaded: LoadedConfig) -> None:
        """Put another configuration in the place of the one that runs; cameras that it leaves as they are go on.

        Raises:
            EdgeError: It cannot run; the old one goes on as if nothing had been.
        """
        new = loaded.config
        # All that can fail comes first.
        models = self._load(new, self._models)
        replacements = self._replan(new, models)
        changes = camera_changes(self.config, new)
        stale = {name for name, camera in self._cameras.items() if camera.model not in models.values()}
        removed = (changes.removed | changes.changed | stale) & self._cameras.keys()
        added = {
            name: self._camera(name, new, models)
            for name in running(new)
            if name in removed or name not in self._cameras
        }
        self._end({name: self._cameras[name] for name in removed})
        self._cameras = {name: added[name] if name in added else self._cameras[name] for name in running(new)}
        with self._engine.lock:
            for model, new_plan, members in replacements:
                model.replace(new_plan, members)
        self._models, self.config = models, new
        self._grow()
        for camera in added.values():
            camera.start()
        self._reloads += 1
        self._error = None
        log.info(
            "configuration reloaded: %d cameras go on, %d started, %d ended",
            len(self._cameras) - len(added),
            len(added),
            len(removed),
        )

    def refuse(self, error: str) -> None:
        """Note why a new configuration was refused, and that the old one goes on."""
        self._refused += 1
        self._error = error
        log.error("%s; the configuration that runs goes on", error)

    def _end(self, cameras: dict[str, Camera]) -> bool:
        for camera in cameras.values():
            camera.signal_stop()
        deadline = time.monotonic() + STOP_S
        ended = True
        for camera in cameras.values():
            if not camera.join(max(0.05, deadline - time.monotonic())):
                log.warning("camera %s: a thread of it hangs, and is left behind", camera.name)
                ended = False
        return ended

    def stop(self) -> bool:
        """End everything, files first; False where a thread hangs and was left behind."""
        ended = self._end(self._cameras)
        ended = self._engine.stop(0.2) and ended
        return ended

    @property
    def ended(self) -> bool:
        """Whether all that there was to read were files, and they are read and written."""
        return bool(self._cameras) and all(camera.ended for camera in self._cameras.values())

    def status(self) -> Status:
        """Return what is known at this moment."""
        stuck_s = self.config.service.stuck_s
        cameras, models = list(self._cameras.values()), list(self._models.values())
        hung = [line for camera in cameras for line in camera.hung(stuck_s)]
        states = [model.status() for model in models]
        hung += [
            f"model {m.name}: an inference has been running for {m.stuck_s:.0f} s"
            for m in states
            if m.stuck_s > stuck_s
        ]
        return Status(
            version=__version__,
            uptime_s=time.monotonic() - self._started_s,
            ready=self._ready,
            hung=tuple(hung),
            cameras=tuple(camera.status(stuck_s) for camera in cameras),
            models=tuple(states),
            config=ConfigStatus(str(self._path), self._reloads, self._refused, self._error),
        )


def _demand(config: Config) -> dict[str, int]:
    """Return how many frames there may be at the same time for each model that is used.

    A live camera has its newest one, a file as many as are wanted.
    """
    demand: dict[str, int] = {}
    for name, camera in running(config).items():
        model = model_of(config, name)
        demand[model] = demand.get(model, 0) + (1 if is_live(camera.source) else len(os.sched_getaffinity(0)))
    return demand
