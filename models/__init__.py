"""Architectures and training, for the workstation only.

`MODELS` names each builder as a ``"module:function"`` string, so that importing this package never loads TensorFlow.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from edge.errors import InputError


class Preprocessing(NamedTuple):
    """What pretrained weights expect of the pixels, in the terms of `edge.spec.InputSpec`.

    Attributes:
        color: "RGB" or "BGR".
        mean: Pixel value 0..255 that becomes 0, one for each channel in `color` order or one for all.
        std: Pixel distance that becomes 1, likewise.
    """

    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


_UNIT = Preprocessing("RGB", (127.5,), (127.5,))
"""-1..1."""
_CAFFE = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0,))
"""The mean of ImageNet's pixels taken off, as the Caffe models had it."""


class Architecture(NamedTuple):
    """A network that can be built.

    Attributes:
        build: "module:function" of its builder.
        task: "classify" or "detect".
        input_shape: Height, width and channels as published.
        classes: Number of classes as published.
        source: Whose it is.
        pretrained: What ``weights="imagenet"`` expects of the pixels; None where there are no such weights.
        arguments: What the builder must be given to build it as published; nothing for most.
    """

    build: str
    task: str
    input_shape: tuple[int, int, int]
    classes: int
    source: str
    pretrained: Preprocessing | None = None
    arguments: Mapping[str, Any] = MappingProxyType({})


_OURS_ARGUMENTS = MappingProxyType({"num_classes": 6, "input_size": (320, 320)})
_LECUN = "LeCun et al. 1998"
_SIMONYAN = "Simonyan, Zisserman 2014"
_HE = "He et al. 2015"
_HU = "Hu et al. 2017"
_SANDLER = "Sandler et al. 2018"
_REDMON = "Redmon, Farhadi 2018"
_OURS = "this project"
_IMAGENET = (224, 224, 3)

MODELS: dict[str, Architecture] = {
    "lenet-5": Architecture("models.networks.lenet5:lenet5", "classify", (32, 32, 1), 10, _LECUN),
    "mnist-convnet-a": Architecture(
        "models.networks.mnist_convnet:mnist_convnet_a", "classify", (28, 28, 1), 10, "Chollet 2017"
    ),
    "mnist-convnet-b": Architecture(
        "models.networks.mnist_convnet:mnist_convnet_b", "classify", (28, 28, 1), 10, "Chollet 2021"
    ),
    "fashion-convnet": Architecture(
        "models.networks.fashion_convnet:fashion_convnet", "classify", (28, 28, 1), 10, "Geron 2019"
    ),
    "fashion-convnet-small": Architecture(
        "models.networks.fashion_convnet:fashion_convnet_small", "classify", (28, 28, 1), 10, _OURS
    ),
    "alexnet": Architecture(
        "models.networks.alexnet:alexnet", "classify", (227, 227, 3), 1000, "Krizhevsky et al. 2012"
    ),
    "vgg-16": Architecture("models.networks.vgg:vgg_16", "classify", _IMAGENET, 1000, _SIMONYAN, _CAFFE),
    "vgg-19": Architecture("models.networks.vgg:vgg_19", "classify", _IMAGENET, 1000, _SIMONYAN, _CAFFE),
    "googlenet": Architecture(
        "models.networks.googlenet:googlenet", "classify", _IMAGENET, 1000, "Szegedy et al. 2014"
    ),
    "resnet-18": Architecture("models.networks.resnet:resnet_18", "classify", _IMAGENET, 1000, _HE),
    "resnet-34": Architecture("models.networks.resnet:resnet_34", "classify", _IMAGENET, 1000, _HE),
    "resnet-50": Architecture("models.networks.resnet:resnet_50", "classify", _IMAGENET, 1000, _HE, _CAFFE),
    "resnet-101": Architecture("models.networks.resnet:resnet_101", "classify", _IMAGENET, 1000, _HE, _CAFFE),
    "resnet-152": Architecture("models.networks.resnet:resnet_152", "classify", _IMAGENET, 1000, _HE, _CAFFE),
    "se-resnet-18": Architecture("models.networks.se_resnet:se_resnet_18", "classify", _IMAGENET, 1000, _HU),
    "se-resnet-34": Architecture("models.networks.se_resnet:se_resnet_34", "classify", _IMAGENET, 1000, _HU),
    "se-resnet-50": Architecture("models.networks.se_resnet:se_resnet_50", "classify", _IMAGENET, 1000, _HU),
    "xception": Architecture(
        "models.networks.xception:xception", "classify", (299, 299, 3), 1000, "Chollet 2017", _UNIT
    ),
    "mobilenet-v1-0.25": Architecture(
        "models.networks.mobilenet:mobilenet_v1_025", "classify", _IMAGENET, 1000, "Howard et al. 2017", _UNIT
    ),
    "mobilenet-v2-0.35": Architecture(
        "models.networks.mobilenet:mobilenet_v2_035", "classify", _IMAGENET, 1000, _SANDLER, _UNIT
    ),
    "mobilenet-v2": Architecture(
        "models.networks.mobilenet:mobilenet_v2", "classify", _IMAGENET, 1000, _SANDLER, _UNIT
    ),
    "yolov3": Architecture("models.networks.yolov3:yolov3", "detect", (416, 416, 3), 80, _REDMON),
    "yolov3-tiny": Architecture("models.networks.yolov3:yolov3_tiny", "detect", (416, 416, 3), 80, _REDMON),
    "edge-yolo-n": Architecture(
        "models.detection.network:edge_yolo_n", "detect", (320, 320, 3), 6, _OURS, arguments=_OURS_ARGUMENTS
    ),
    "edge-yolo-s": Architecture(
        "models.detection.network:edge_yolo_s", "detect", (320, 320, 3), 6, _OURS, arguments=_OURS_ARGUMENTS
    ),
    "edge-yolo-m": Architecture(
        "models.detection.network:edge_yolo_m", "detect", (320, 320, 3), 6, _OURS, arguments=_OURS_ARGUMENTS
    ),
}


def architecture(name: str) -> Architecture:
    """Return the row of a name.

    Raises:
        InputError: No network has this name.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(MODELS)}"
        raise InputError(f"no network is called {name!r}; {hint}")
    return MODELS[name]


def build(name: str, **kwargs: Any) -> Any:
    """Build the Keras model registered under a name; without more arguments as it was published.

    Args:
        name: A key of `MODELS`.
        **kwargs: Passed on to the builder, for example ``input_shape`` and ``num_classes``.

    Returns:
        The `keras.Model`.

    Raises:
        InputError: No network has this name, or it has no such weights; what else is refused is the builder's.
    """
    row = architecture(name)
    weights = kwargs.get("weights")
    if weights is not None and (row.pretrained is None or weights != "imagenet"):
        known = [key for key, value in MODELS.items() if value.pretrained]
        raise InputError(f"{name} has no weights {weights!r}; 'imagenet' is there for {', '.join(known)}")
    module, function = row.build.split(":")
    return getattr(import_module(module), function)(**{**row.arguments, **kwargs})
