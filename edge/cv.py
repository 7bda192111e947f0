"""Checks that go before OpenCV: that it loads, and that it survives a file name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from edge.errors import MissingDependencyError

DEBIAN_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libxcb.so.1": "libxcb1",
    "libz.so.1": "zlib1g",
    "libfontconfig.so.1": "libfontconfig1",
    "libatomic.so.1": "libatomic1",
}
"""Shared library that an OpenCV wheel links -> the Debian, Ubuntu and Raspberry Pi OS package that holds it."""

_MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")


def require_opencv() -> None:
    """Import OpenCV, or say what is missing.

    Raises:
        MissingDependencyError: The wheel is not installed, or a system library that it links is not.
    """
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        raise MissingDependencyError(explain(error)) from error


def explain(error: ImportError) -> str:
    """Return one line that says why `import cv2` failed and what to install."""
    found = _MISSING_LIBRARY.search(str(error))
    if found is None:
        if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
            return "OpenCV is not installed; install it with: pip install opencv-python"
        return f"OpenCV does not load ({str(error).splitlines()[0]}); reinstall it with: pip install opencv-python"
    library = found.group(1)
    package = DEBIAN_PACKAGES.get(library)
    if package is None:
        return (
            f"OpenCV needs the system library {library}, which is not installed; find its package with: "
            f"apt-file search {library}; or use a wheel that needs no display: pip install opencv-python-headless"
        )
    return f"OpenCV needs the system library {library}, which is not installed; install it with: apt install {package}"


def opens(path: str | Path) -> bool:
    """Whether OpenCV can be given this path: it crashes on a name that is not valid UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
