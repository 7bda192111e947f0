from __future__ import annotations

import subprocess
import sys

import pytest

import models
from edge.errors import InputError


def test_importing_models_loads_no_tensorflow():
    code = "import sys, models; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_name_names_the_closest_ones():
    with pytest.raises(InputError, match="edge-yolo-n"):
        models.build("edge-yolo-x")
    with pytest.raises(InputError, match="lenet-5, .*edge-yolo-n"):
        models.build("?")


@pytest.mark.parametrize(("name", "weights"), [("lenet-5", "imagenet"), ("mobilenet-v2", "coco")])
def test_weights_that_do_not_exist_are_refused_with_those_that_do(name, weights):
    with pytest.raises(InputError, match=rf"{name} has no weights '{weights}'; 'imagenet' is there for .*mobilenet-v2"):
        models.build(name, weights=weights)


def test_every_entry_names_a_function():
    for row in models.MODELS.values():
        module, function = row.build.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
