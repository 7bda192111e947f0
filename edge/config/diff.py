"""What differs between two configurations."""

from __future__ import annotations

from dataclasses import dataclass

from edge.config.schema import CameraConfig, Config


@dataclass(frozen=True, slots=True)
class CameraChanges:
    """Names of cameras; none is in two of the sets.

    Attributes:
        added: They run in the new configuration only.
        removed: They run in the old one only.
        changed: They run in both, and their own table, or that of their model or of one of their sinks, differs.
    """

    added: frozenset[str]
    removed: frozenset[str]
    changed: frozenset[str]


def camera_changes(old: Config, new: Config) -> CameraChanges:
    """Return which cameras a new configuration starts, ends and changes."""
    before, after = running(old), running(new)
    both = before.keys() & after.keys()
    return CameraChanges(
        frozenset(after.keys() - both),
        frozenset(before.keys() - both),
        frozenset(name for name in both if _parts(old, name) != _parts(new, name)),
    )


def running(config: Config) -> dict[str, CameraConfig]:
    """Return the cameras that are enabled."""
    return {name: camera for name, camera in config.cameras.items() if camera.enabled}


def model_of(config: Config, camera: str) -> str:
    """Return the name of a camera's model: the first where it names none."""
    return config.cameras[camera].model or next(iter(config.models))


def sinks_of(config: Config, camera: str) -> tuple[str, ...]:
    """Return the names of a camera's outputs: all where it names none."""
    named = config.cameras[camera].sinks
    return tuple(config.sinks) if named is None else named


def _parts(config: Config, name: str) -> object:
    """Return all that makes a camera what it is."""
    model = model_of(config, name)
    sinks = [(sink, config.sinks[sink]) for sink in sinks_of(config, name)]
    return config.cameras[name], model, config.models[model], sinks
