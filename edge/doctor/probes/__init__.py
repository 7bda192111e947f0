"""What `edge doctor` tries in processes of their own. A probe returns what JSON takes.

A probe calls `stage` before each thing that may crash or hang, so that a line can say where it did.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from edge.doctor.finding import one_line
from edge.doctor.isolate import guard_child

PROBES = {
    "runtime": "edge.doctor.probes.model:runtime",
    "selftest": "edge.doctor.probes.model:selftest",
    "gpu": "edge.doctor.probes.model:gpu",
    "edgetpu": "edge.doctor.probes.model:edgetpu",
    "opencv": "edge.doctor.probes.opencv:opencv",
    "video": "edge.doctor.probes.opencv:video",
    "frame": "edge.doctor.probes.opencv:frame",
    "cameras": "edge.doctor.probes.cameras:cameras",
    "picamera2": "edge.doctor.probes.cameras:picamera2",
    "imports": "edge.doctor.probes.imports:imports",
}
"""Name -> module:function; importing this loads none of them."""

_told = -1


def stage(doing: str) -> None:
    """Say what comes next, like "loading OpenCV"."""
    _tell({"stage": doing})


def _tell(what: dict[str, Any]) -> None:
    if _told >= 0:
        os.write(_told, json.dumps(what).encode() + b"\n")


def main() -> None:
    """Run the probe that the command line names: path, name, arguments, file descriptor, seconds."""
    global _told
    _, _, name, arguments, told, timeout_s = sys.argv
    _told = int(told)
    guard_child(float(timeout_s))
    try:
        module, _, function = PROBES[name].partition(":")
        value = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    except Exception as error:  # the boundary of this process: whatever it is becomes a line in the other
        _tell({"error": one_line(error) or type(error).__name__, "kind": type(error).__name__})
    else:
        _tell({"value": value})
    sys.stdout.flush()
    # Some runtimes crash or chat when Python lets go of them; what was to be known is known.
    os._exit(0)
