"""The tiny networks behind `fixtures`: a common part that finds colours, and a head for each family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from tflite_builder import Builder, Quant

CELL = 32
LOGIT = 8.0
"""Of a class that is there; one that is not has -8 or less."""
UNIT: dict[str, Quant] = {"int8": (1 / 255, -128), "uint8": (1 / 255, 0)}
LOGITS: dict[str, Quant] = {"int8": (0.1, 0), "uint8": (0.1, 128)}


class Net:
    """The common part: input, mean colour of each cell, and a logit for each class."""

    def __init__(
        self, dtype: str, layout: str, size_wh: tuple[int, int], cell: int | None = CELL, any_batch: bool = False
    ) -> None:
        self.graph = graph = Builder()
        self.any_batch = any_batch
        self.dtype = dtype
        self.size_wh = size_wh
        cell_wh = (cell, cell) if cell else size_wh
        self.grid = (size_wh[1] // cell_wh[1], size_wh[0] // cell_wh[0])
        height, width = size_wh[1], size_wh[0]
        shape = (1, height, width, 3) if layout == "NHWC" else (1, 3, height, width)
        self._integer = dtype in UNIT
        self.input = real = graph.tensor("picture", shape, dtype if self._integer else "float32", UNIT.get(dtype))
        if self._integer:
            real = graph.op("DEQUANTIZE", [real], shape)
        if layout == "NCHW":
            real = graph.op("TRANSPOSE", [real, self.shape(0, 2, 3, 1)], (1, height, width, 3))
        pooled = graph.op(
            "AVERAGE_POOL_2D",
            [real],
            (1, *self.grid, 3),
            strideW=cell_wh[0],
            strideH=cell_wh[1],
            filterWidth=cell_wh[0],
            filterHeight=cell_wh[1],
            padding=1,
        )
        # Pure colour: +8; white -8, gray and black below -7.9.
        weights = np.where(np.eye(3), 2 * LOGIT, -2 * LOGIT)
        self.cells = self.conv(pooled, weights, -np.full(3, LOGIT))

    def shape(self, *values: int) -> int:
        """Return a constant of int32."""
        return self.graph.constant(values, "int32")

    def conv(self, source: int, weights: npt.ArrayLike, bias: npt.ArrayLike) -> int:
        """Return a 1 x 1 convolution on the grid; `weights` is (outputs, inputs)."""
        graph = self.graph
        kernel = np.asarray(weights, np.float32)[:, None, None, :]
        if self.dtype == "float16":
            half = graph.constant(kernel, "float16")
            filters = graph.op("DEQUANTIZE", [half], kernel.shape)
        else:
            filters = graph.constant(kernel)
        shape = (1, *self.grid, kernel.shape[0])
        return graph.op("CONV_2D", [source, filters, graph.constant(bias)], shape, strideW=1, strideH=1, padding=1)

    def out(self, name: str, tensor: int, shape: tuple[int, ...], quants: dict[str, Quant]) -> int:
        """Return the tensor as an output with a name, quantised where the model is."""
        graph = self.graph
        if self._integer:
            return graph.op("QUANTIZE", [tensor], shape, name, self.dtype, quants[self.dtype])
        return graph.op("RESHAPE", [tensor, self.batched(*shape)], shape, name)

    def batched(self, *shape: int) -> int:
        """Return a constant shape that follows the batch, or one that fixes it at 1."""
        return self.shape(-1 if self.any_batch else 1, *shape[1:])

    def rows(self, tensor: int, channels: int) -> int:
        """Return a grid (1, h, w, c) as rows (1, h * w, c)."""
        n = self.grid[0] * self.grid[1]
        return self.graph.op("RESHAPE", [tensor, self.shape(1, n, channels)], (1, n, channels))

    def join(self, tensors: list[int], shape: tuple[int, ...], axis: int) -> int:
        """Return a concatenation."""
        return self.graph.op("CONCATENATION", tensors, shape, axis=axis)

    def sigmoid(self, tensor: int, channels: int) -> int:
        """Return probabilities of rows."""
        return self.graph.op("LOGISTIC", [tensor], (1, self.count, channels))

    @property
    def count(self) -> int:
        return self.grid[0] * self.grid[1]

    def centers(self) -> npt.NDArray[np.float32]:
        """Return the cells as cx, cy, w, h in pixels, (n, 4)."""
        y, x = np.mgrid[: self.grid[0], : self.grid[1]].reshape(2, -1)
        side = np.full(len(x), float(CELL))
        return np.stack([(x + 0.5) * CELL, (y + 0.5) * CELL, side, side], axis=1).astype(np.float32)

    def normalised(self) -> npt.NDArray[np.float32]:
        """Return the cells as cx, cy, w, h in 0..1."""
        return self.centers() / np.array(self.size_wh * 2, np.float32)

    def build(self, outputs: list[int]) -> bytes:
        return self.graph.build([self.input], outputs)


Heads = tuple[dict[str, tuple[str, int]], dict[str, Any]]


def _darknet(net: Net, params: dict[str, Any]) -> Heads:
    """One anchor: box values 0, objectness always there, classes."""
    weights = np.zeros((8, 3))
    weights[5:] = np.eye(3)
    channels = net.conv(net.cells, weights, np.array([0, 0, 0, 0, LOGIT, 0, 0, 0]))
    return {"head_0": ("head", net.out("head", channels, (1, *net.grid, 8), LOGITS))}, params


def _yolo_anchors(net: Net) -> Heads:
    return _darknet(net, {"anchors": [[[CELL, CELL]]], "strides": [CELL], "classes": 3})


def _region(net: Net) -> Heads:
    return _darknet(net, {"anchors": [[1, 1]], "classes": 3, "softmax": False})


def _yolov5(net: Net) -> Heads:
    n = net.count
    boxes = net.graph.constant(net.normalised()[None])
    certain = net.graph.constant(np.ones((1, n, 1)))
    scores = net.sigmoid(net.rows(net.cells, 3), 3)
    joined = net.join([boxes, certain, scores], (1, n, 8), 2)
    return {"output": ("output", net.out("output", joined, (1, n, 8), UNIT))}, {}


def _yolov8(net: Net) -> Heads:
    n = net.count
    boxes = net.graph.constant(net.normalised().T[None])
    scores = net.sigmoid(net.rows(net.cells, 3), 3)
    turned = net.graph.op("TRANSPOSE", [scores, net.shape(0, 2, 1)], (1, 3, n))
    joined = net.join([boxes, turned], (1, 7, n), 1)
    return {"output": ("output", net.out("output", joined, (1, 7, n), UNIT))}, {}


def _end2end(net: Net) -> Heads:
    n, graph = net.count, net.graph
    cells = net.normalised()
    corners = np.concatenate([cells[:, :2] - cells[:, 2:] / 2, cells[:, :2] + cells[:, 2:] / 2], axis=1)
    logits = net.rows(net.cells, 3)
    best = net.sigmoid(graph.op("REDUCE_MAX", [logits, net.shape(2)], (1, n, 1), keepDims=True), 1)
    index = graph.op("ARG_MAX", [logits, net.shape(2)], (1, n), dtype="int32", outputType=2)
    real = graph.op("CAST", [index], (1, n), inDataType=2, outDataType=0)
    class_id = graph.op("RESHAPE", [real, net.shape(1, n, 1)], (1, n, 1))
    joined = net.join([graph.constant(corners[None]), best, class_id], (1, n, 6), 2)
    # Scores and classes share a scale in a quantised head, as in the exports that have one.
    coarse: dict[str, Quant] = {"int8": (1 / 64, -128), "uint8": (1 / 64, 0)}
    return {"output": ("output", net.out("output", joined, (1, n, 6), coarse))}, {}


def _yolox(net: Net) -> Heads:
    n = net.count
    raw = net.graph.constant(np.tile(np.array([0.5, 0.5, 0, 0, 1], np.float32), (1, n, 1)))
    scores = net.sigmoid(net.rows(net.cells, 3), 3)
    joined = net.join([raw, scores], (1, n, 8), 2)
    return {"output": ("output", net.out("output", joined, (1, n, 8), UNIT))}, {"strides": [CELL]}


def _ssd_postprocess(net: Net) -> Heads:
    """The real operator of the runtime; it wants float inputs, and has float outputs in quantised models too."""
    n, graph = net.count, net.graph
    cells = net.normalised()[:, [1, 0, 3, 2]]
    background = graph.constant(np.zeros((1, n, 1)))
    scores = net.join([background, net.sigmoid(net.rows(net.cells, 3), 3)], (1, n, 4), 2)
    names = ["detections", "detections:1", "detections:2", "detections:3"]
    outputs = [graph.tensor(name, ()) for name in names]
    for output in outputs:
        graph._tensors[output].hasRank = False
    options = {
        "max_detections": 10,
        "max_classes_per_detection": 1,
        "nms_score_threshold": 0.1,
        "nms_iou_threshold": 0.5,
        "num_classes": 3,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
        "use_regular_nms": False,
    }
    inputs = [graph.constant(np.zeros((1, n, 4))), scores, graph.constant(cells)]
    graph.custom("TFLite_Detection_PostProcess", inputs, outputs, options)
    roles = ("boxes", "classes", "scores", "count")
    return {role: (name, tensor) for role, name, tensor in zip(roles, names, outputs, strict=True)}, {}


def _ssd_anchors(net: Net) -> Heads:
    n = net.count
    boxes = net.out("boxes", net.graph.constant(np.zeros((1, n, 4))), (1, n, 4), LOGITS)
    scores = net.out("scores", net.rows(net.cells, 3), (1, n, 3), LOGITS)
    anchors = [[float(v) for v in row] for row in net.normalised()]
    return {"boxes": ("boxes", boxes), "scores": ("scores", scores)}, {"anchors": anchors}


def _anchor_free(net: Net) -> Heads:
    distances = net.conv(net.cells, np.zeros((4, 3)), np.full(4, np.log(0.5)))
    quants: dict[str, Quant] = {"int8": (0.01, 0), "uint8": (0.01, 128)}
    box = net.out(f"box_{CELL}", distances, (1, *net.grid, 4), quants)
    scores = net.out(f"cls_{CELL}", net.cells, (1, *net.grid, 3), LOGITS)
    return {f"box_{CELL}": (f"box_{CELL}", box), f"cls_{CELL}": (f"cls_{CELL}", scores)}, {"strides": [CELL]}


HEADS: dict[str, Callable[[Net], Heads]] = {
    "yolo_anchors": _yolo_anchors,
    "region": _region,
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "end2end": _end2end,
    "yolox": _yolox,
    "ssd_postprocess": _ssd_postprocess,
    "ssd_anchors": _ssd_anchors,
    "anchor_free": _anchor_free,
}
