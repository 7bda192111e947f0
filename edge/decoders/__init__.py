"""From raw outputs to boxes or classes: one file a head family, and the tables that name them."""

from collections.abc import Callable, Mapping

from edge.decoders.anchor_free import AnchorFree
from edge.decoders.anchors import Region, YoloAnchors
from edge.decoders.base import Classify, DecoderFamily
from edge.decoders.classifier import Classifier, Localizer
from edge.decoders.end2end import End2End
from edge.decoders.objectness import YoloV5, YoloX
from edge.decoders.ssd import SsdAnchors, SsdPostprocess
from edge.decoders.yolov8 import YoloV8
from edge.spec import ModelSpec
from edge.tensor import TensorInfo

DECODERS: dict[str, DecoderFamily] = {
    "yolo_anchors": DecoderFamily(YoloAnchors, 0.45, "Darknet YOLOv3, v4 and tiny: raw heads with anchors"),
    "region": DecoderFamily(Region, 0.45, "Darknet YOLOv2: one raw head with anchors"),
    "yolov5": DecoderFamily(YoloV5, 0.45, "YOLOv5, v7: (1, N, 5 + C), boxes decoded"),
    "yolov8": DecoderFamily(YoloV8, 0.7, "Ultralytics v8, 11 and kin: (1, 4 + C, N) or (1, N, 4 + C)"),
    "end2end": DecoderFamily(End2End, None, "YOLOv10, YOLO26, NMS inside: (1, N, 6)"),
    "yolox": DecoderFamily(YoloX, 0.45, "YOLOX: (1, N, 5 + C), raw or decoded"),
    "ssd_postprocess": DecoderFamily(SsdPostprocess, None, "SSD, EfficientDet with TFLite post-processing"),
    "ssd_anchors": DecoderFamily(SsdAnchors, 0.45, "SSD, MediaPipe: raw boxes, scores and anchors"),
    "anchor_free": DecoderFamily(AnchorFree, 0.7, "this project's detectors: raw distances and logits"),
}
"""Detection head families by name."""

CLASSIFIERS: dict[str, Callable[[ModelSpec, tuple[int, int], Mapping[str, TensorInfo]], Classify]] = {
    "classifier": Classifier,
    "localizer": Localizer,
}
"""Classification heads by name: (spec, size_wh of the input, output infos by tensor name) -> Classify."""
