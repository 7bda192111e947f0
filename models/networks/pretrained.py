"""ImageNet weights: the networks of `keras.applications` without their head, and a new head on top.

A weights file is found in ``$KERAS_HOME/models`` (``~/.keras/models`` by default) by its exact name, which is the
one that `keras.applications` itself downloads to; only where it is not there, it is downloaded.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from edge.errors import InputError
from models.networks.blocks import classifier

log = logging.getLogger(__name__)

_SITE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_TIMEOUT_S = 30


class Base(NamedTuple):
    """A network of `keras.applications`.

    Attributes:
        make: Its builder; called with ``include_top``, ``weights`` and ``input_tensor``.
        file: Path of its weights without a head, below the site that Keras publishes them on.
        md5: Digest of that file; None where Keras publishes none.
        least_side: Smallest height and width in pixels.
    """

    make: Callable[..., keras.Model]
    file: str
    md5: str | None = None
    least_side: int = 32


def transfer(
    base: Base, name: str, input_shape: tuple[int, int, int], num_classes: int, weights: str | None
) -> keras.Model:
    """Build a network of `keras.applications` with global average pooling, a dropout and a new head.

    Args:
        base: The network.
        name: Name of the model.
        input_shape: Height, width and 3 channels.
        num_classes: Number of classes.
        weights: "imagenet", or None for random ones. The published files of other input sizes than 224 are not used:
            the weights of 224 serve every size.

    Returns:
        One flat functional model.

    Raises:
        InputError: The shape or the weights cannot be used, or the weights are neither on this machine nor to be had.
    """
    height, width, channels = input_shape
    if channels != 3 or min(height, width) < base.least_side:
        raise InputError(
            f"{name}: input {height} x {width} x {channels}, expected 3 channels and at least "
            f"{base.least_side} x {base.least_side} pixels"
        )
    file = None if weights is None else weights_file(base)
    image = keras.Input(input_shape, name="image")
    features = base.make(include_top=False, weights=None, input_tensor=image, input_shape=input_shape)
    if file is not None:
        load_weights(features, file, name)
    x: Any = keras.layers.GlobalAveragePooling2D(name="pool")(features.output)
    x = keras.layers.Dropout(0.2, name="dropout")(x)
    return classifier(image, x, num_classes, name)


def load_weights(model: keras.Model, file: Path, name: str) -> None:
    """Give a network of `keras.applications` the weights of a file.

    Args:
        model: The network.
        file: Of `weights_file`.
        name: What an error calls the network.

    Raises:
        InputError: The file is broken, or belongs to another network.
    """
    try:
        model.load_weights(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: these are not the weights of {name} ({_first_line(error)})") from error


def weights_file(base: Base) -> Path:
    """Return the weights file of a base, downloaded where it is missing.

    Raises:
        InputError: It is missing and cannot be downloaded.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = home / "models" / base.file.rsplit("/", 1)[-1]
    if not path.is_file():
        _download(_SITE + base.file, base.md5, path)
    return path


def _download(url: str, md5: str | None, path: Path) -> None:
    log.info("downloading %s to %s", url, path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=path.parent) as folder,
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response,  # https, and from the table of this package
        ):
            partial = Path(folder) / path.name
            with partial.open("wb") as file:
                shutil.copyfileobj(response, file)
            with partial.open("rb") as file:
                found = hashlib.file_digest(file, "md5").hexdigest()
            if md5 is not None and found != md5:
                raise InputError(f"{url}: the download has the MD5 {found}, expected {md5}; try again")
            partial.replace(path)
    except OSError as error:
        raise InputError(
            f"pretrained weights {path.name} are not in {path.parent} and cannot be downloaded ({_first_line(error)}); "
            f"fetch {url} on a machine with a network and put it there, or start from others with --weights"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
