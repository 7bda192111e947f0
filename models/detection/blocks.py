"""The parts of edge-yolo: backbone, pyramid pooling, fusion and head stems, with or without normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from models.layers import FusedBatchNormalization
from models.networks.pretrained import Base, load_weights, weights_file

STRIDES = (8, 16, 32)
"""Of the features that a head is laid on."""

_MOBILENET_V2 = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Output channels, repeats and stride of the first of each group of blocks; all but the first expand six times."""

_MOMENTUM = 0.97
_EPSILON = 1e-3


@dataclass(frozen=True)
class Blocks:
    """The parts of a network.

    Attributes:
        folded: Without normalisation, each convolution with a bias.
    """

    folded: bool

    def backbone(self, image: Any, alpha: float, weights: str | None) -> list[Any]:
        """Return the features at strides 8, 16 and 32 of a MobileNetV2 laid on `image`.

        Layers have the names and shapes of Keras applications', but padding is SAME throughout: for even sides, and
        all sides here are even, the separate padding there does the same.

        Source: Sandler et al. 2018, arXiv:1801.04381, table 2.

        Raises:
            InputError: The weights are neither on this machine nor to be had, or are not those of this backbone.
        """
        x = self.unit(
            image, keras.layers.Conv2D, _channels(32 * alpha), 3, 2, names=("Conv1", "bn_Conv1", "Conv1_relu")
        )
        taps, number = {}, 0
        for filters, repeats, strides in _MOBILENET_V2:
            for repeat in range(repeats):
                prefix = f"block_{number}" if number else "expanded_conv"
                start, channels = x, x.shape[-1]
                if number:
                    x = self._part(x, keras.layers.Conv2D, 6 * channels, 1, 1, f"{prefix}_expand")
                    taps[f"{prefix}_expand"] = x
                stride = 1 if repeat else strides
                x = self._part(x, keras.layers.DepthwiseConv2D, None, 3, stride, f"{prefix}_depthwise")
                x = self._part(x, keras.layers.Conv2D, _channels(int(filters * alpha)), 1, 1, f"{prefix}_project")
                if x.shape[-1] == channels and stride == 1:
                    x = keras.layers.Add(name=f"{prefix}_add")([start, x])
                number += 1
        if weights is not None:
            published = f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5"
            make = keras.applications.MobileNetV2
            base = make((224, 224, 3), alpha=alpha, include_top=False, weights=None)
            file = weights_file(Base(make, published)) if weights == "imagenet" else Path(weights)
            load_weights(base, file, f"MobileNetV2 {alpha}")
            ours = keras.Model(image, x)
            for layer in ours.layers:
                if layer.get_weights():
                    layer.set_weights(base.get_layer(layer.name).get_weights())
            fold_input_scaling(ours.get_layer("Conv1"), ours.get_layer("bn_Conv1"))
        return [taps["block_6_expand"], taps["block_13_expand"], x]

    def _part(self, x: Any, kind: Any, filters: int | None, kernel: int, strides: int, name: str) -> Any:
        names = (name, f"{name}_BN", None if name.endswith("_project") else f"{name}_relu")
        return self.unit(x, kind, filters, kernel, strides, names)

    def unit(
        self, x: Any, kind: Any, filters: int | None, kernel: int, strides: int, names: tuple[str, str, str | None]
    ) -> Any:
        """Convolution, normalisation and, where it is named, ReLU6."""
        size = (kernel,) if filters is None else (filters, kernel)
        x = kind(*size, strides=strides, padding="same", use_bias=self.folded, name=names[0])(x)
        if not self.folded:
            x = FusedBatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON, name=names[1])(x)
        return x if names[2] is None else keras.layers.ReLU(6.0, name=names[2])(x)

    def conv(self, x: Any, filters: int, name: str) -> Any:
        """Pointwise convolution, normalisation, ReLU6."""
        return self.unit(x, keras.layers.Conv2D, filters, 1, 1, (name, f"{name}_bn", f"{name}_relu"))

    def separable(self, x: Any, filters: int, name: str, strides: int = 1) -> Any:
        """Depthwise 3 x 3 then pointwise, each normalised."""
        dw = f"{name}_dw"
        x = self.unit(x, keras.layers.DepthwiseConv2D, None, 3, strides, (dw, f"{dw}_bn", f"{dw}_relu"))
        return self.conv(x, filters, f"{name}_pw")

    def fuse(self, a: Any, b: Any, filters: int, name: str) -> Any:
        """Two features of one size as one."""
        return self.separable(keras.layers.Concatenate(name=f"{name}_concat")([a, b]), filters, name)

    def sppf(self, x: Any, filters: int, name: str) -> Any:
        """Spatial pyramid pooling as three chained 5 x 5 max pools (fields 5, 9, 13), after YOLOv5's SPPF."""
        pooled = [self.conv(x, filters, f"{name}_in")]
        for index in range(3):
            pooled.append(keras.layers.MaxPooling2D(5, 1, padding="same", name=f"{name}_pool{index}")(pooled[-1]))
        return self.conv(keras.layers.Concatenate(name=f"{name}_concat")(pooled), filters, f"{name}_out")

    def head(self, x: Any, width: int, channels: int, bias: float, name: str) -> Any:
        """A raw output of a number of channels, behind a separable convolution of its own; `bias` is its prior."""
        x = self.separable(x, width, f"{name}_stem")
        return keras.layers.Conv2D(
            channels,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(bias),
            name=name,
        )(x)


def _channels(wanted: float) -> int:
    """Round to a multiple of 8 that is not below nine tenths of what is wanted, as MobileNetV2's code does."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def fold_input_scaling(conv: keras.layers.Layer, norm: keras.layers.Layer) -> None:
    """Make a convolution trained on 2x - 1 take x: w * (2x - 1) = 2w * x - sum(w), the sum going into the mean."""
    (kernel,) = conv.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    conv.set_weights([kernel * 2.0])
    norm.set_weights([gamma, beta, mean + kernel.sum(axis=(0, 1, 2)), variance])
