"""The small anchor-free detector: MobileNetV2-0.35 backbone, SPPF, FPN + PAN, decoupled heads.

Input: (H, W, 3) float32 RGB in 0..1, H and W multiples of 32. ImageNet weights expect -1..1; that scaling is folded
into the first convolution, so the deployed graph begins with a convolution and not with arithmetic.

Outputs, one pair per stride ``s`` in (8, 16, 32), named ``box_s`` and ``cls_s``:

- ``box_s`` (1, H/s, W/s, 4) float32: the logarithms of the distances from the cell centre
  ``((x + 0.5) * s, (y + 0.5) * s)`` to the left, top, right and bottom side, in units of the stride:
  ``distance_px = exp(t) * s``.
- ``cls_s`` (1, H/s, W/s, C) float32: one logit per class; classes are independent sigmoids.

They stay six raw tensors because a quantised tensor has one scale: coordinates beside scores would ruin the scores.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from models.layers import FusedBatchNormalization, NearestUpsample2x

STRIDES = (8, 16, 32)
_TAPS = ("block_6_expand_relu", "block_13_expand_relu", "block_16_project_BN")
_MOMENTUM = 0.97


def output_names() -> list[str]:
    """Return the names of the six outputs in the order in which the model gives them."""
    return [f"{role}_{stride}" for stride in STRIDES for role in ("box", "cls")]


def edge_yolo_n(
    num_classes: int,
    input_size: tuple[int, int] | None = None,
    width: int = 64,
    backbone_weights: str | None = None,
) -> keras.Model:
    """Build edge-yolo-n, 0.4 M parameters.

    Args:
        num_classes: Number of classes C.
        input_size: Height and width in pixels, multiples of 32, or None for a model that takes any (training).
        width: Channels of the feature pyramid.
        backbone_weights: None for random ones, "imagenet" (found offline in ``$KERAS_HOME/models``) or a file.

    Returns:
        The model; it gives a dictionary of the six outputs described at the head of this module.

    Raises:
        ValueError: A side of `input_size` is not a positive multiple of 32.
    """
    if input_size is not None and any(side <= 0 or side % STRIDES[-1] for side in input_size):
        raise ValueError(f"input_size must be positive multiples of {STRIDES[-1]}, got {input_size}")
    image = keras.Input((*(input_size or (None, None)), 3), name="image")
    c3, c4, c5 = _backbone(image, backbone_weights)

    p5 = _sppf(c5, width, "sppf")
    p4 = _fuse(NearestUpsample2x(name="up_5")(p5), _conv(c4, width, 1, "lateral_4"), width, "fpn_4")
    p3 = _fuse(NearestUpsample2x(name="up_4")(p4), _conv(c3, width, 1, "lateral_3"), width, "fpn_3")
    p4 = _fuse(_separable(p3, width, "down_3", strides=2), p4, width, "pan_4")
    p5 = _fuse(_separable(p4, width, "down_4", strides=2), p5, width, "pan_5")

    outputs = {}
    for stride, feature in zip(STRIDES, (p3, p4, p5), strict=True):
        outputs[f"box_{stride}"] = _head(feature, width, 4, math.log(3.0), f"box_{stride}")
        # A prior of 1% per class keeps the first steps from being spent on the background alone.
        outputs[f"cls_{stride}"] = _head(feature, width, num_classes, -math.log(99.0), f"cls_{stride}")
    return keras.Model(image, outputs, name="edge-yolo-n")


def _backbone(image: Any, weights: str | None) -> list[Any]:
    """Return the features at strides 8, 16 and 32 of a MobileNetV2-0.35 laid on `image`."""
    base = keras.applications.MobileNetV2((224, 224, 3), alpha=0.35, include_top=False, weights=weights)
    source = keras.Model(base.input, [base.get_layer(name).output for name in _TAPS])
    clone = keras.models.clone_model(source, input_tensors=image, clone_function=_deployable)
    for layer in source.layers:
        if layer.get_weights():
            clone.get_layer(layer.name).set_weights(layer.get_weights())
    _fold_input_scaling(clone.get_layer("Conv1"), clone.get_layer("bn_Conv1"))
    return list(clone.outputs)


def _deployable(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Copy a MobileNetV2 layer, with fused normalisation and without separate padding.

    The padding before a strided convolution is what SAME does for even sides, and all sides here are even.
    """
    config = layer.get_config()
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return keras.layers.Identity(name=layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        return FusedBatchNormalization.from_config({**config, "momentum": _MOMENTUM})
    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        config["padding"] = "same"
    return type(layer).from_config(config)


def _fold_input_scaling(conv: keras.layers.Layer, norm: keras.layers.Layer) -> None:
    """Make a convolution trained on 2x - 1 take x: w * (2x - 1) = 2w * x - sum(w), the sum going into the mean."""
    (kernel,) = conv.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    conv.set_weights([kernel * 2.0])
    norm.set_weights([gamma, beta, mean + kernel.sum(axis=(0, 1, 2)), variance])


def _norm_act(x: Any, name: str) -> Any:
    x = FusedBatchNormalization(momentum=_MOMENTUM, epsilon=1e-3, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def _conv(x: Any, filters: int, kernel: int, name: str) -> Any:
    x = keras.layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=name)(x)
    return _norm_act(x, name)


def _separable(x: Any, filters: int, name: str, strides: int = 1) -> Any:
    """Depthwise 3 x 3 then pointwise, each normalised."""
    x = keras.layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=f"{name}_dw")(x)
    return _conv(_norm_act(x, f"{name}_dw"), filters, 1, f"{name}_pw")


def _fuse(a: Any, b: Any, filters: int, name: str) -> Any:
    return _separable(keras.layers.Concatenate(name=f"{name}_concat")([a, b]), filters, name)


def _sppf(x: Any, filters: int, name: str) -> Any:
    """Spatial pyramid pooling as three chained 5 x 5 max pools (fields 5, 9, 13), after YOLOv5's SPPF."""
    pooled = [_conv(x, filters, 1, f"{name}_in")]
    for index in range(3):
        pooled.append(keras.layers.MaxPooling2D(5, 1, padding="same", name=f"{name}_pool{index}")(pooled[-1]))
    return _conv(keras.layers.Concatenate(name=f"{name}_concat")(pooled), filters, 1, f"{name}_out")


def _head(x: Any, width: int, channels: int, bias: float, name: str) -> Any:
    x = _separable(x, width, f"{name}_stem")
    return keras.layers.Conv2D(
        channels,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )(x)
