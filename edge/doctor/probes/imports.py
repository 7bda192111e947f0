"""Tries of optional packages."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from edge.doctor.finding import one_line
from edge.doctor.probes import stage


def imports(distributions: list[str]) -> dict[str, Any]:
    """Import packages by the names under which they are installed; returns name -> what went wrong, or None."""
    modules: dict[str, list[str]] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in owners:
            modules.setdefault(owner.lower().replace("_", "-"), []).append(module)
    said: dict[str, str | None] = {}
    for name in distributions:
        stage(f"loading {name}")
        said[name] = None
        for module in modules.get(name.lower().replace("_", "-"), []):
            if module.startswith("_") or not module.isidentifier():
                continue
            try:
                importlib.import_module(module)
            except Exception as error:  # a broken optional package may raise anything, and must not hide the others
                said[name] = one_line(error) or type(error).__name__
    return said
