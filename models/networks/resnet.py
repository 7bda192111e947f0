"""ResNet-18, 34, 50, 101 and 152.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015, table 1. As in the paper,
the first convolution of a stage has its stride. Shapes at 224 x 224:

    stem      112 x 112 x 64, 7 x 7 stride 2; pooled 3 x 3 stride 2 to 56 x 56
    stage 2    56 x  56 x  64 (basic blocks) or  256 (bottlenecks)
    stage 3    28 x  28 x 128                or  512
    stage 4    14 x  14 x 256                or 1024
    stage 5     7 x   7 x 512                or 2048

Counts: 18 and 34 have the published 11,689,512 and 21,797,672 trainable parameters (convolutions without bias).
50, 101 and 152 are counted as Keras counts them, 25,636,712, 44,707,176 and 60,419,944: with batch-norm statistics, and
with the convolutions' biases, which `keras.applications` has and its weights need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras

from models.networks.blocks import classifier, conv_norm
from models.networks.pretrained import Base, transfer

_SMALL = 64
_EPSILON = 1.001e-5


def resnet_18(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: None = None
) -> keras.Model:
    """Build ResNet-18; see `resnet`."""
    return resnet("resnet-18", input_shape, num_classes, (2, 2, 2, 2))


def resnet_34(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: None = None
) -> keras.Model:
    """Build ResNet-34; see `resnet`."""
    return resnet("resnet-34", input_shape, num_classes, (3, 4, 6, 3))


def resnet_50(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build ResNet-50; with weights, see `models.networks.pretrained.transfer`."""
    base = Base(keras.applications.ResNet50, _file(50), "4d473c1dd8becc155b73f8504c6f6626")
    return _deep("resnet-50", input_shape, num_classes, weights, (3, 4, 6, 3), base)


def resnet_101(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build ResNet-101; with weights, see `models.networks.pretrained.transfer`."""
    base = Base(keras.applications.ResNet101, _file(101), "88cf7a10940856eca736dc7b7e228a21")
    return _deep("resnet-101", input_shape, num_classes, weights, (3, 4, 23, 3), base)


def resnet_152(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build ResNet-152; with weights, see `models.networks.pretrained.transfer`."""
    base = Base(keras.applications.ResNet152, _file(152), "ee4c566cf9a93f14d82f913c2dc6dd0c")
    return _deep("resnet-152", input_shape, num_classes, weights, (3, 8, 36, 3), base)


def resnet(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    depths: Sequence[int],
    bottleneck: bool = False,
    use_bias: bool = False,
    rescale: Callable[[Any, str], Any] | None = None,
) -> keras.Model:
    """Build a residual network.

    Args:
        name: Name of the model.
        input_shape: Height, width and channels. Below 64 pixels the stem is 3 x 3 with stride 1 before its pooling:
            that of ImageNet would leave one cell to the last stages.
        num_classes: Number of classes.
        depths: Blocks of each of the four stages.
        bottleneck: 1 x 1, 3 x 3, 1 x 1 blocks with four times the width at their end, instead of two 3 x 3.
        use_bias: Whether the convolutions have biases, which the normalisation takes off again.
        rescale: Done with the features and the name of a block before they are added to its input.
    """
    norm = partial(conv_norm, use_bias=use_bias, epsilon=_EPSILON)

    def block(x: Any, filters: int, strides: int, name: str) -> Any:
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (filters, filters, 4 * filters) if bottleneck else (filters, filters)
        shortcut = x
        if strides > 1 or x.shape[-1] != widths[-1]:
            shortcut = norm(x, widths[-1], 1, f"{name}_0", strides, activation=None)
        for index, (width, kernel) in enumerate(zip(widths, kernels, strict=True), 1):
            last = index == len(kernels)
            x = norm(x, width, kernel, f"{name}_{index}", 1 if index > 1 else strides, None if last else "relu")
        if rescale is not None:
            x = rescale(x, name)
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
        return keras.layers.Activation("relu", name=f"{name}_out")(x)

    image = keras.Input(input_shape, name="image")
    if min(input_shape[:2]) < _SMALL:
        x = norm(image, 64, 3, "stem")
    else:
        x = norm(image, 64, 7, "stem", 2)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, depth in enumerate(depths, 2):
        for index in range(1, depth + 1):
            strides = 2 if stage > 2 and index == 1 else 1
            x = block(x, 64 * 2 ** (stage - 2), strides, f"stage{stage}_block{index}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return classifier(image, x, num_classes, name)


def _deep(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    weights: str | None,
    depths: Sequence[int],
    base: Base,
) -> keras.Model:
    if weights is None:
        return resnet(name, input_shape, num_classes, depths, bottleneck=True, use_bias=True)
    return transfer(base, name, input_shape, num_classes, weights)


def _file(depth: int) -> str:
    return f"resnet/resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
