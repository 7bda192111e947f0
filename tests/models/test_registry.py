from __future__ import annotations

import subprocess
import sys

import pytest

import models


def test_importing_models_loads_no_tensorflow():
    code = "import sys, models; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="edge-yolo-n"):
        models.build("edge-yolo-x")


def test_every_entry_names_a_function():
    for target in models.MODELS.values():
        module, function = target.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
