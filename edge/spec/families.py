"""What the published programs of each head family feed their models: the defaults where `--decoder` names one."""

from __future__ import annotations

from typing import NamedTuple

from edge.spec.model import Color, Resize, Task


class Family(NamedTuple):
    """How a family is used.

    Attributes:
        task: What its models do.
        roles: Output roles; empty where they depend on the parameters.
        value_range: A key of `edge.spec.inputs.RANGES`; None where its models differ.
        color: Channel order.
        resize: How pictures are fitted.
        needs: Parameters that no flag gives and no shape tells.
    """

    task: Task
    roles: tuple[str, ...]
    value_range: str | None
    color: Color = "RGB"
    resize: Resize = "letterbox-center"
    needs: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "yolo_anchors": Family("detect", (), "0..1", needs=("anchors", "strides", "classes")),
    "region": Family("detect", ("head_0",), "0..1", needs=("anchors", "classes")),
    "yolov5": Family("detect", ("output",), "0..1"),
    "yolov8": Family("detect", ("output",), "0..1"),
    "end2end": Family("detect", ("output",), "0..1"),
    "yolox": Family("detect", ("output",), "0..255", "BGR", "letterbox-topleft"),
    "ssd_postprocess": Family("detect", ("boxes", "classes", "scores", "count"), None, resize="stretch"),
    "ssd_anchors": Family("detect", ("boxes", "scores"), None, resize="stretch", needs=("anchors",)),
    "anchor_free": Family("detect", (), "0..1", needs=("strides",)),
    "classifier": Family("classify", ("scores",), None, resize="stretch"),
    "localizer": Family("classify", ("scores", "box"), None, resize="stretch", needs=("outputs",)),
}
"""By decoder name; the names are those of `edge.decoders`."""
