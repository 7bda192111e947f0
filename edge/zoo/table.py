"""The public models that `edge models pull` knows: where their files are, and the SHA-256 that each must have.

A file is named by the commit that holds it, so that its address always gives the same bytes.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Literal

_CORAL = "https://raw.githubusercontent.com/google-coral/test_data/104342d2d3480b3e66203073dac24f4e2dbb4c41/"
_YOLO_FASTEST = "https://raw.githubusercontent.com/dog-qiuqiu/Yolo-Fastest/"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server.

    Attributes:
        url: Its address.
        sha256: Of its content, hexadecimal.
        size_bytes: Its size, for the list and the progress.
    """

    url: str
    sha256: str
    size_bytes: int

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return posixpath.basename(self.url)


@dataclass(frozen=True, slots=True)
class PublicModel:
    """A model that can be pulled.

    Attributes:
        task: What it does.
        classes: How many classes it knows.
        size_wh: Input size in pixels.
        licence: SPDX identifier or a sentence.
        attribution: Who made it.
        weights: The `.tflite`, or the `.weights` of a Darknet model.
        cfg: The network of a Darknet model, which has to be converted; None for a `.tflite`.
        labels: Class names; without it those in the `.tflite`, and COCO's for a Darknet model.
        mode: What a Darknet model is converted to, see `edge convert --to`.
    """

    task: Literal["detect", "classify"]
    classes: int
    size_wh: tuple[int, int]
    licence: str
    attribution: str
    weights: Remote
    cfg: Remote | None = None
    labels: Remote | None = None
    mode: str = "float16"

    @property
    def files(self) -> tuple[Remote, ...]:
        """All that has to be fetched."""
        return tuple(file for file in (self.cfg, self.labels, self.weights) if file is not None)

    @property
    def size_bytes(self) -> int:
        """Size of all that has to be fetched."""
        return sum(file.size_bytes for file in self.files)


_COCO_LABELS = Remote(
    f"{_CORAL}coco_labels.txt", "dc183f003fc753c4c43fae6fdf7f387559449573f13fa32e517fb7453fd380f1", 661
)
_DARKNET = "YOLO LICENSE v2"
_QIUQIU = "Yolo-Fastest by dog-qiuqiu, https://github.com/dog-qiuqiu/Yolo-Fastest"
_GOOGLE = "Google, https://github.com/google-coral/test_data"

MODELS: dict[str, PublicModel] = {
    "yolo-fastest-1.1": PublicModel(
        task="detect",
        classes=80,
        size_wh=(320, 320),
        licence=_DARKNET,
        attribution=_QIUQIU,
        weights=Remote(
            f"{_YOLO_FASTEST}99d03d0f26e2555275bdb30f43479d47cc19311f/ModelZoo/yolo-fastest-1.1_coco/"
            "yolo-fastest-1.1.weights",
            "1c445c42bbd6df63edea2cc69f99667b5650d663ca11e34b116240740cd42890",
            1_384_268,
        ),
        cfg=Remote(
            f"{_YOLO_FASTEST}99d03d0f26e2555275bdb30f43479d47cc19311f/ModelZoo/yolo-fastest-1.1_coco/"
            "yolo-fastest-1.1.cfg",
            "f6df5775c1e862998cf69046eba9265be3ae84dfe8b2caab7529823f0795bf70",
            9_685,
        ),
    ),
    "yolo-fastest-1.1-xl": PublicModel(
        task="detect",
        classes=80,
        size_wh=(320, 320),
        licence=_DARKNET,
        attribution=_QIUQIU,
        weights=Remote(
            f"{_YOLO_FASTEST}9c62b1c50e024fb73d29a651133b1d63548e63a1/ModelZoo/yolo-fastest-1.1_coco/"
            "yolo-fastest-1.1-xl.weights",
            "fac5fb41786c1f38f04972a658443b189f48720d7d117f9a044100e98a35b0c5",
            3_693_964,
        ),
        cfg=Remote(
            f"{_YOLO_FASTEST}9c62b1c50e024fb73d29a651133b1d63548e63a1/ModelZoo/yolo-fastest-1.1_coco/"
            "yolo-fastest-1.1-xl.cfg",
            "c458427acc4fbeabceff4528ef7b65b066c0308ce599460f8ba299eba63abad3",
            9_696,
        ),
    ),
    "ssd-mobilenet-v2": PublicModel(
        task="detect",
        classes=80,
        size_wh=(300, 300),
        licence="Apache-2.0",
        attribution=_GOOGLE,
        weights=Remote(
            f"{_CORAL}ssd_mobilenet_v2_coco_quant_postprocess.tflite",
            "42fb3d70ffb7bb37dd518f730f7be784b831c2078f30c497d0019cc2e987fa26",
            6_220_797,
        ),
        labels=_COCO_LABELS,
    ),
    "ssdlite-mobiledet": PublicModel(
        task="detect",
        classes=80,
        size_wh=(320, 320),
        licence="Apache-2.0",
        attribution=_GOOGLE,
        weights=Remote(
            f"{_CORAL}ssdlite_mobiledet_coco_qat_postprocess.tflite",
            "32c486140391eb4dc43fca7113ad392be632dc5366687f2731f73d740678693f",
            4_374_888,
        ),
        labels=_COCO_LABELS,
    ),
    "mobilenet-v1-0.25": PublicModel(
        task="classify",
        classes=1001,
        size_wh=(128, 128),
        licence="Apache-2.0",
        attribution=_GOOGLE,
        weights=Remote(
            f"{_CORAL}mobilenet_v1_0.25_128_quant.tflite",
            "cb273c23ee76374b05b9583177e28aa19744858a7679c56a250e83d0333da785",
            525_598,
        ),
    ),
    "mobilenet-v2-1.0": PublicModel(
        task="classify",
        classes=1001,
        size_wh=(224, 224),
        licence="Apache-2.0",
        attribution=_GOOGLE,
        weights=Remote(
            f"{_CORAL}mobilenet_v2_1.0_224_quant.tflite",
            "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
            3_610_798,
        ),
    ),
}
"""Name -> model."""
