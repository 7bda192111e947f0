"""Video devices, asked in a process of their own: a driver may hang."""

from __future__ import annotations

import errno
import importlib
import os
from typing import Any

from edge.doctor.probes import stage
from edge.doctor.v4l2 import query, users


def cameras(devices: list[str]) -> dict[str, Any]:
    """Ask video devices what they are; see `edge.doctor.v4l2.query`.

    Args:
        devices: Paths.

    Returns:
        `devices`: the answers, or for one that gives none its `path`, the `error` and its `errno`. A busy one has its
        `users`.
    """
    found = []
    for path in devices:
        stage(f"asking {path} what it is")
        try:
            answer = query(path)
            answer["users"] = users(path) if answer["busy"] else []
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, "")
            answer = {"path": path, "error": os.strerror(error.errno or 0), "errno": code}
        found.append(answer)
    return {"devices": found}


def picamera2() -> dict[str, Any]:
    """Load the library of the Raspberry Pi's own cameras."""
    stage("loading picamera2")
    try:
        module = importlib.import_module("picamera2")
    except ImportError as error:
        return {"loads": False, "problem": str(error), "absent": getattr(error, "name", None) == "picamera2"}
    return {"loads": True, "problem": None, "absent": False, "file": module.__file__}
