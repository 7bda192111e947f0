"""Detector: from a picture to boxes in its pixels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.backends.base import Backend
from edge.decoders import DECODERS
from edge.decoders.base import Candidates
from edge.detections import Detections
from edge.errors import InputError, SpecError
from edge.frame import Image
from edge.geometry import Transform, nms
from edge.loader import LoadedModel, load_model
from edge.spec import ModelSpec
from edge.spec.resolve import Overrides


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as found. Made by `Detector.limits`, which checks it.

    Attributes:
        conf: Lowest score.
        iou: NMS overlap; None for a head that suppresses itself.
        max_det: Boxes per picture at most.
        classes: Class indices to keep, int32, sorted; None for all.
        agnostic: Suppress across classes.
    """

    conf: float
    iou: float | None
    max_det: int = 300
    classes: npt.NDArray[np.int32] | None = None
    agnostic: bool = False


class Detector:
    """A detection model with its preprocessing, decoding and suppression; used by one thread at a time."""

    def __init__(
        self,
        model: LoadedModel,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int = 300,
        classes: Collection[int] | None = None,
        agnostic: bool = False,
        multi_label: bool = False,
    ) -> None:
        """Bind a loaded model to its decoder.

        Args:
            model: From `edge.loader.load_model`.
            conf: Lowest score; None for the model's own default.
            iou: NMS overlap; None for the model's, else its head family's default.
            max_det: Boxes per picture at most.
            classes: Class indices to keep; None for all.
            agnostic: Suppress across classes.
            multi_label: Let one box carry several classes, as COCO evaluation does.

        Raises:
            SpecError: The model is no detector, or its outputs contradict its metadata.
            InputError: A threshold or class is out of range.
        """
        spec = model.spec
        if spec.task != "detect":
            raise SpecError(
                f"{model.path}: this is a {spec.task} model, not a detector; run it with: edge {spec.task}, or find "
                "its classes in larger pictures with: edge detect --method sliding-window"
            )
        family = DECODERS.get(spec.decoder.name)
        if family is None:
            raise SpecError(
                f"{model.path}: unknown decoder {spec.decoder.name!r}; expected one of {', '.join(DECODERS)}"
            )
        self.spec: ModelSpec = spec
        self.backend: Backend = model.backend
        self._own_iou = spec.iou if spec.iou is not None else family.iou
        self._limits = self.limits(conf, iou, max_det, classes, agnostic)
        self._multi_label = multi_label
        self._preprocessor = model.preprocessor
        try:
            self._decode = family.build(spec, model.preprocessor.size_wh, model.outputs)
        except SpecError as error:
            raise SpecError(f"{model.path}: {error}") from error

    @property
    def conf(self) -> float:
        """Lowest score."""
        return self._limits.conf

    @property
    def iou(self) -> float | None:
        """NMS overlap; None for a head that suppresses itself."""
        return self._limits.iou

    def limits(
        self,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int = 300,
        classes: Collection[int] | None = None,
        agnostic: bool = False,
    ) -> Limits:
        """Return limits for single calls of `detect`; arguments and errors as of `__init__`."""
        if max_det < 1:
            raise InputError(f"--max-det {max_det}: expected 1 or more")
        return Limits(
            fraction("--conf", conf, self.spec.conf),
            fraction("--iou", iou, self._own_iou) if self._own_iou is not None else None,
            max_det,
            None if classes is None else np.array(sorted(classes), np.int32),
            agnostic,
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        overrides: Overrides | None = None,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int = 300,
        classes: Collection[int] | None = None,
        agnostic: bool = False,
        multi_label: bool = False,
        threads: int | None = None,
        delegate: str = "cpu",
    ) -> Detector:
        """Load a model file and bind it; see `load_model` and `__init__` for arguments and errors."""
        model = load_model(path, overrides, threads, delegate)
        return cls(model, conf, iou, max_det, classes, agnostic, multi_label)

    def detect(self, image: Image, limits: Limits | None = None) -> tuple[Detections, dict[str, float]]:
        """Find objects in one picture.

        Args:
            image: uint8 (H, W, 3), BGR.
            limits: From `limits`; None for those of the detector.

        Returns:
            The boxes in pixels of the picture, clipped to it, best first; and the milliseconds of
            "preprocess", "invoke", "decode" and "nms".

        Raises:
            BackendError: The runtime failed.
        """
        limits = limits or self._limits
        start = perf_counter()
        transform: Transform | None = None
        filled = start

        def fill(tensor: npt.NDArray[Any]) -> None:
            nonlocal transform, filled
            transform = self._preprocessor.write(image, tensor)
            filled = perf_counter()

        outputs = self.backend.infer(fill)
        invoked = perf_counter()
        candidates = self._decode(outputs, limits.conf, self._multi_label)
        del outputs  # views of the runtime's memory: it refuses to run while one lives
        decoded = perf_counter()
        assert transform is not None
        detections = self._suppress(candidates, transform, limits)
        done = perf_counter()
        stamps = (start, filled, invoked, decoded, done)
        names = ("preprocess", "invoke", "decode", "nms")
        return detections, {n: (b - a) * 1e3 for n, a, b in zip(names, stamps[:-1], stamps[1:], strict=True)}

    def _suppress(self, candidates: Candidates, transform: Transform, limits: Limits) -> Detections:
        xyxy, score, class_id = candidates
        if limits.classes is not None:
            wanted = np.isin(class_id, limits.classes)
            xyxy, score, class_id = xyxy[wanted], score[wanted], class_id[wanted]
        if not len(score):
            return Detections.empty()
        if limits.iou is None:
            keep = np.argsort(-score, kind="stable")[: limits.max_det]
        else:
            keep = nms(xyxy, score, class_id, limits.iou, limits.max_det, limits.agnostic)
        boxes = transform.to_source(xyxy[keep])
        # A box that lies in the bars alone has nothing left of it in the picture.
        visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        keep = keep[visible]
        return Detections(boxes[visible], score[keep], class_id[keep])


def fraction(flag: str, given: float | None, default: float) -> float:
    """Return the value that was given for a flag, else the default.

    Raises:
        InputError: It does not lie in 0..1.
    """
    value = default if given is None else given
    if not 0 <= value <= 1:
        raise InputError(f"{flag} {value}: expected a number from 0 to 1")
    return value
