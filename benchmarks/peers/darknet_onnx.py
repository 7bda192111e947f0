"""A Darknet detector as ONNX, from the same numbers that edge converts: ``python darknet_onnx.py CFG WEIGHTS OUT``.

Knows what Yolo-Fastest and YOLOv3 consist of; run in an environment with edge's `convert` package and `onnx`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convert.darknet.cfg import Section, read_cfg
from convert.darknet.weights import WeightsReader


class Graph:
    """The nodes so far, and the name and shape (channels, height, width) of each layer's output."""

    def __init__(self, weights: WeightsReader, channels: int, height: int, width: int) -> None:
        """Begin with the picture."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.layers: list[tuple[str, tuple[int, int, int]]] = []
        self.heads: list[tuple[str, tuple[int, int, int]]] = []
        self.now = ("image", (channels, height, width))
        self._weights = weights

    def node(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        """Append a node; returns the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        """Append a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, section: Section) -> None:
        """Append a layer."""
        make = {
            "convolutional": self._convolutional,
            "shortcut": self._shortcut,
            "route": self._route,
            "maxpool": self._maxpool,
            "upsample": self._upsample,
            "dropout": lambda section: self.now,
            "yolo": self._yolo,
        }.get(section.kind)
        if make is None:
            sys.exit(f"{section.path}:{section.line}: [{section.kind}] is not known here")
        self.now = make(section)
        self.layers.append(self.now)

    def _at(self, section: Section, index: int) -> tuple[str, tuple[int, int, int]]:
        return self.layers[index if index >= 0 else section.index + index]

    def _convolutional(self, section: Section) -> tuple[str, tuple[int, int, int]]:
        name, (channels, height, width) = self.now
        filters, size = section.integer("filters", 1), section.integer("size", 1)
        stride, groups = section.integer("stride", 1), section.integer("groups", 1)
        pad = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
        shape = (filters, channels // groups, size, size)
        kernel, bias = self._weights.convolution(section, shape, bool(section.integer("batch_normalize", 0)))
        own = f"conv_{section.index}"
        inputs = [name, self.constant(f"{own}_kernel", kernel), self.constant(f"{own}_bias", bias)]
        out = self.node(
            "Conv", inputs, own, kernel_shape=[size, size], strides=[stride] * 2, pads=[pad] * 4, group=groups
        )
        activation = section.text("activation", "logistic")
        if activation == "leaky":
            out = self.node("LeakyRelu", [out], f"{own}_leaky", alpha=0.1)
        elif activation != "linear":
            sys.exit(f"{section.path}:{section.line}: activation={activation} is not known here")
        after = [(side + 2 * pad - size) // stride + 1 for side in (height, width)]
        return out, (filters, after[0], after[1])

    def _shortcut(self, section: Section) -> tuple[str, tuple[int, int, int]]:
        other, _ = self._at(section, int(section.text("from", "-1")))
        return self.node("Add", [self.now[0], other], f"add_{section.index}"), self.now[1]

    def _route(self, section: Section) -> tuple[str, tuple[int, int, int]]:
        parts = [self._at(section, int(text)) for text in section.text("layers", "").split(",")]
        if len(parts) == 1:
            return parts[0]
        out = self.node("Concat", [name for name, _ in parts], f"concat_{section.index}", axis=1)
        return out, (sum(shape[0] for _, shape in parts), *parts[0][1][1:])

    def _maxpool(self, section: Section) -> tuple[str, tuple[int, int, int]]:
        name, (channels, height, width) = self.now
        stride = section.integer("stride", 1)
        size = section.integer("size", stride)
        total = section.integer("padding", size - 1)
        pads = [total // 2] * 2 + [total - total // 2] * 2
        out = self.node(
            "MaxPool", [name], f"pool_{section.index}", kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads
        )
        after = [(side + total - size) // stride + 1 for side in (height, width)]
        return out, (channels, after[0], after[1])

    def _upsample(self, section: Section) -> tuple[str, tuple[int, int, int]]:
        name, (channels, height, width) = self.now
        stride = section.integer("stride", 2)
        scales = self.constant(f"scales_{section.index}", np.array([1, 1, stride, stride], np.float32))
        out = self.node(
            "Resize",
            [name, "", scales],
            f"up_{section.index}",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return out, (channels, height * stride, width * stride)

    def _yolo(self, section: Section) -> tuple[str, tuple[int, int, int]]:
        self.heads.append(self.now)
        return self.now


def main() -> None:
    """Write the file."""
    cfg, weights, out = map(Path, sys.argv[1:4])
    net, sections = read_cfg(cfg)
    height, width = net.integer("height", 416), net.integer("width", 416)
    graph = Graph(WeightsReader.open(weights), 3, height, width)
    for section in sections:
        graph.add(section)
    outputs = []
    for number, (name, shape) in enumerate(graph.heads):
        graph.node("Identity", [name], f"head_{number}")
        outputs.append(helper.make_tensor_value_info(f"head_{number}", TensorProto.FLOAT, [1, *shape]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "darknet", [image], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 9
    onnx.checker.check_model(model)
    out.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
