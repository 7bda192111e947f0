"""Keras models, `.keras` and `.h5`, in safe mode."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf

from convert.layers import Upsample
from convert.safety import OWN_PACKAGE, check_keras_config, parse_config, read_keras_zip_config, uses_own_layers
from edge.errors import InputError

log = logging.getLogger(__name__)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_ARITHMETIC = {"TrueDivide", "Divide", "Multiply", "Subtract"}
"""What `x / 127.5 - 1` in a model's code becomes in its graph."""

# What Keras raises for a file that it cannot rebuild differs with the layer that fails.
_LOAD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, ImportError, IndexError, OSError, RuntimeError)


def load_keras(path: Path) -> keras.Model:
    """Load a Keras model without running anything that the file brings.

    Args:
        path: A `.keras` archive or a whole model in HDF5 (`.h5`), of Keras 3 or Keras 2.

    Returns:
        The model, for inference; what would split its graph for XNNPACK is replaced by an equal.

    Raises:
        InputError: The file is no Keras model, holds code, or Keras cannot rebuild it.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if magic == _HDF5:
        model = _load_hdf5(path)
    elif magic.startswith(_ZIP):
        config = read_keras_zip_config(path)
        _check(config, path)
        model = _load(path, path)
    else:
        raise InputError(f"{path}: expected a Keras model (.keras archive or HDF5), found something else")
    if not isinstance(model, keras.Model):
        raise InputError(f"{path}: holds a {type(model).__name__}, expected a whole model")
    return _mend(model, path)


def _check(config: Any, path: Path) -> None:
    check_keras_config(config, path)
    if uses_own_layers(config):
        try:
            import models.layers  # noqa: F401  registers them with Keras
        except ImportError as error:
            raise InputError(
                f"{path}: uses layers of this project's trainers ({OWN_PACKAGE}...); run the conversion from a checkout"
            ) from error


def _load_hdf5(path: Path) -> Any:
    """Load `.h5`; of Keras 2, repaired in a copy where Keras 3 no longer reads what Keras 2 wrote."""
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: broken HDF5 file ({_first_line(error)})") from error
    if text is None:
        raise InputError(
            f"{path}: holds weights without a model; expected a whole one, from model.save() and not save_weights()"
        )
    config = parse_config(text, path)
    _check(config, path)
    if not _repair(config):
        return _load(path, path)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        copy = Path(folder) / "repaired.h5"
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
        return _load(copy, path)


def _repair(config: Any) -> bool:
    """Take out of a Keras 2 configuration what Keras 3 does not accept; return whether there was any.

    DepthwiseConv2D inherited `groups` from Conv2D and wrote it, always 1; Teachable Machine's exports have it.
    """
    repaired, waiting = False, [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            inner = value.get("config")
            if value.get("class_name") == "DepthwiseConv2D" and isinstance(inner, dict) and inner.get("groups") == 1:
                del inner["groups"]
                repaired = True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return repaired


def _load(path: Path, shown: Path) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except _LOAD_ERRORS as error:
        raise InputError(f"{shown}: Keras {keras.__version__} cannot load it: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return the sentence of an error that says most, without the dumps of whole configurations around it."""
    text = str(error).split("Exception encountered:")[-1].strip()
    return (text.splitlines() or [type(error).__name__])[0][:300]


def _mend(model: keras.Model, path: Path) -> keras.Model:
    """Compute in float32, and replace layers that would cut the XNNPACK partition by equal ones."""
    for layer in _layers(model):
        # Models trained in mixed precision keep float32 weights; TFLite has no half-precision kernels.
        if getattr(layer, "compute_dtype", None) in ("float16", "bfloat16"):
            layer.dtype_policy = "float32"
    if not any(_replacement(layer) for layer in _layers(model)):
        return model
    recursive = {} if isinstance(model, keras.Sequential) else {"recursive": True}
    try:
        mended = keras.models.clone_model(
            model, clone_function=lambda layer: _replacement(layer) or _copy(layer), **recursive
        )
        mended.set_weights(model.get_weights())
    except _LOAD_ERRORS as error:
        log.warning("%s: UpSampling2D layers stay as they are and cut the graph: %s", path, _first_line(error))
        return model
    return mended


def _layers(model: keras.Model) -> Iterator[Any]:
    """Give layers and operations in order, those of models inside models in their place."""
    for layer in model.operations if hasattr(model, "operations") else model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config(layer.get_config())


def _replacement(layer: Any) -> keras.layers.Layer | None:
    if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "nearest":
        rows, columns = layer.size
        if rows == columns > 1 and layer.data_format == "channels_last":
            return Upsample(rows, name=layer.name)
    return None


def call(model: keras.Model, image: Any) -> list[Any]:
    """Run a model for inference and return its outputs in the order of `output_names`."""
    return list(tf.nest.flatten(model(image, training=False)))


def output_names(model: keras.Model) -> list[str]:
    """Return one name for each output, in the order in which `call` gives them."""
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    structure = model.output
    if isinstance(structure, dict):
        return sorted(structure)  # tf.nest walks a dictionary in the order of its keys
    names = list(model.output_names)
    return names if len(set(names)) == len(names) else [f"{name}_{index}" for index, name in enumerate(names)]


def scales_input(model: keras.Model) -> bool:
    """Return whether a model scales its pixels itself: a Rescaling, or arithmetic, before its first kernel."""
    for layer in _layers(model):
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            return True
        if type(layer).__name__ in _ARITHMETIC and not isinstance(layer, keras.layers.Layer):
            return True
        if any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ())):
            return False
    return False


def activation_of(model: keras.Model) -> str:
    """Return what turns a classifier's output into probabilities: "none" when it is that, "softmax" for logits.

    "auto" where the last operation does not tell.
    """
    for layer in reversed(list(_layers(model))):
        if isinstance(layer, keras.layers.Softmax):
            return "none"
        function = getattr(layer, "activation", None)
        if function is not None:
            name = getattr(function, "__name__", "")
            return {"softmax": "none", "sigmoid": "none", "linear": "softmax"}.get(name, "auto")
        if not isinstance(layer, keras.layers.Flatten | keras.layers.Reshape | keras.layers.Dropout):
            break
    return "auto"
