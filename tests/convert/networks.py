"""Small Darknet networks, one for each thing that a section can do, and a runner of `.tflite` bytes."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def net(width=32, height=32, channels=3, **options):
    return ("net", {"width": width, "height": height, "channels": channels, **options})


def conv(filters, size=1, stride=1, activation="leaky", **options):
    return (
        "convolutional",
        {"filters": filters, "size": size, "stride": stride, "pad": 1, "activation": activation, **options},
    )


def pool(size, stride, **options):
    return ("maxpool", {"size": size, "stride": stride, **options})


def route(*layers, **options):
    return ("route", {"layers": ",".join(map(str, layers)), **options})


def shortcut(*layers, **options):
    return ("shortcut", {"from": ",".join(map(str, layers)), **options})


def upsample(stride):
    return ("upsample", {"stride": stride})


YOLO = ("yolo", {"mask": "0,2", "anchors": "4,5, 8,9, 16,17", "classes": 2, "num": 3, "jitter": 0.3})
HEAD = [conv(14, activation="linear"), YOLO]
START = conv(8, 3, 2)

NETWORKS = {
    "batch_norm": [net(), conv(8, 3, 2, batch_normalize=1), conv(6, 1, batch_normalize=1), *HEAD],
    "even_and_odd": [net(64, 32), conv(8, 3, 2), conv(8, 5, 2), conv(8, 3, 2), *HEAD],
    "padding": [net(64, 64), conv(8, 3, 1, pad=0, padding=0), conv(8, 3, 1, pad=0, padding=2), *HEAD],
    "stride_xy": [net(32, 64), conv(8, 3, 1, stride_x=1, stride_y=2), conv(6, 3, 1, stride_x=2), *HEAD],
    "activations": [
        net(),
        conv(8, 3, 2, "mish"),
        conv(8, 1, 1, "swish"),
        conv(8, 1, 1, "logistic"),
        conv(8, 1, 1, "relu"),
        conv(8, 1, 1, "relu6"),
        *HEAD,
    ],
    "groups": [net(), START, conv(12, 3, 1, groups=4), conv(12, 3, 2, groups=12), conv(24, 3, 1, groups=12), *HEAD],
    "dilation": [net(), START, conv(8, 3, 1, dilation=2), conv(8, 3, 1, dilation=3, groups=8), *HEAD],
    "maxpool": [net(64, 64), START, pool(2, 1), pool(3, 2), pool(2, 2), pool(5, 1), pool(13, 1), *HEAD],
    "maxpool_unpadded": [net(64, 64), START, pool(2, 2, padding=0), pool(3, 1, padding=1), conv(8, 2), *HEAD],
    "spp": [net(), START, pool(5, 1), route(-2), pool(9, 1), route(-1, -3, -4), *HEAD],
    "route_groups": [net(), START, route(-1, groups=2, group_id=1), conv(4), route(-1, -3, groups=2), *HEAD],
    "shortcut": [
        net(),
        START,
        conv(8, 3),
        shortcut(-2, activation="leaky"),
        conv(6),
        shortcut(-2),
        conv(12),
        shortcut(0, -2),
        conv(8, 3, 2),
        shortcut(0),
        *HEAD,
    ],
    "upsample": [net(), START, conv(8, 3, 2), upsample(2), conv(8, 3, 2), upsample(4), conv(8, 3, 4), *HEAD],
    "reorg": [net(64, 32), START, ("reorg", {"stride": 2}), *HEAD],
    "two_heads": [net(), START, conv(8, 3, 2), conv(8, 3, 2), *HEAD, route(-4), upsample(2), *HEAD],
    "dropout": [net(), START, ("dropout", {"probability": 0.5}), *HEAD],
    "region": [
        net(),
        START,
        conv(14, activation="linear"),
        ("region", {"anchors": "1.5,2, 3,4.5", "classes": 2, "coords": 4, "num": 2, "softmax": 1, "thresh": 0.6}),
    ],
    "classifier": [
        net(16, 16),
        START,
        ("avgpool", {}),
        ("connected", {"output": 6, "activation": "leaky", "batch_normalize": 1}),
        ("connected", {"output": 4, "activation": "linear"}),
        ("softmax", {"groups": 1}),
        ("cost", {"type": "sse"}),
    ],
    "flattened": [net(8, 8, 1), conv(3, 3, 2), ("connected", {"output": 5, "activation": "linear"})],
}


class Runner:
    """An interpreter that takes and gives real values, whatever the tensors hold."""

    def __init__(self, model: bytes, xnnpack: bool = True) -> None:
        kernels = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreter = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=kernels)
        self._interpreter.allocate_tensors()
        (self.input,) = self._interpreter.get_input_details()
        self.outputs = {detail["name"]: detail for detail in self._interpreter.get_output_details()}

    def __call__(self, image):
        scale, zero = self.input["quantization"]
        dtype = self.input["dtype"]
        if scale:
            limits = np.iinfo(dtype)
            image = np.clip(np.round(image / scale + zero), limits.min, limits.max)
        self._interpreter.set_tensor(self.input["index"], image.astype(dtype))
        self._interpreter.invoke()
        return {name: self._real(detail) for name, detail in self.outputs.items()}

    def _real(self, detail):
        values = self._interpreter.get_tensor(detail["index"]).astype(np.float32)
        scale, zero = detail["quantization"]
        return (values - zero) * scale if scale else values
