"""MobileNet V1 and V2, as `keras.applications` has them, with a new head.

Sources: A. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017;
M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018.

The last features are (H / 32, W / 32, 256) of V1 at width 0.25, and (H / 32, W / 32, 1280) of V2 at any width up to 1.
Input: RGB, (pixel - 127.5) / 127.5.
"""

from __future__ import annotations

from functools import partial

import keras

from models.networks.pretrained import Base, transfer

_V1 = "mobilenet/mobilenet_2_5_224_tf_no_top.h5"
_V2 = "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"


def mobilenet_v1_025(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build MobileNet V1 of a quarter of the width; see `models.networks.pretrained.transfer`."""
    base = Base(partial(keras.applications.MobileNet, alpha=0.25), _V1)
    return transfer(base, "mobilenet-v1-0.25", input_shape, num_classes, weights)


def mobilenet_v2_035(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build MobileNet V2 of 0.35 of the width; see `models.networks.pretrained.transfer`."""
    base = Base(partial(keras.applications.MobileNetV2, alpha=0.35), _V2.format("0.35"))
    return transfer(base, "mobilenet-v2-0.35", input_shape, num_classes, weights)


def mobilenet_v2(
    input_shape: tuple[int, int, int] = (224, 224, 3), num_classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """Build MobileNet V2; see `models.networks.pretrained.transfer`."""
    base = Base(partial(keras.applications.MobileNetV2, alpha=1.0), _V2.format("1.0"))
    return transfer(base, "mobilenet-v2", input_shape, num_classes, weights)
