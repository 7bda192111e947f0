"""Environments with other versions of libraries, for the laboratory tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def environment(folder: Path, *packages: str) -> Path:
    """Make a virtual environment with some packages and return its Python; skip the test where that is impossible."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{', '.join(packages)} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return python
