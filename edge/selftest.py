"""The self-test of a model file: does it compute here what it computed when it was made?

Each picture goes the whole way: preprocessing, inference, decoding, suppression. The input and the outputs are compared
value by value, and boxes with boxes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.backends.base import Backend
from edge.classifier import Classifier
from edge.detector import Detector
from edge.errors import ModelFileError, SelfTestError
from edge.frame import Image
from edge.geometry import iou_matrix
from edge.loader import LoadedModel
from edge.spec.seal import check_sha256
from edge.spec.vectors import Stored, enlarge, read_selftest
from edge.tensor import TensorInfo

log = logging.getLogger(__name__)

MATCH_IOU = 0.5
"""Overlap from which two boxes of one class are the same."""

_FIRM_LOGITS = 0.5
_FULL_PRECISION = ("cpu", "edgetpu", "gpu:float32")
"""What computes as the CPU does: in float32, or in the file's own integers."""

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TensorResult:
    """The input or one output, compared.

    Attributes:
        name: Tensor name.
        range: Distance of the largest from the smallest value that is stored: what relative errors refer to.
        max_error: Largest difference from this model's stored values, in real values; infinite for what is no number.
        mean_error: Mean difference.
        max_allowed: Limit of `max_error`.
        mean_allowed: Limit of `mean_error`.
        float_error: Mean difference from the float model's values.
        float_error_made: The same on the machine that made the file.
    """

    name: str
    range: float
    max_error: float
    mean_error: float
    max_allowed: float
    mean_allowed: float
    float_error: float
    float_error_made: float

    @property
    def passed(self) -> bool:
        """Whether both errors are allowed."""
        return self.max_error <= self.max_allowed and self.mean_error <= self.mean_allowed

    def relative(self, error: float) -> float:
        """Return an error as a share of the range."""
        return error / self.range if self.range > 0 else error


@dataclass(frozen=True)
class Agreement:
    """How many boxes (or top classes) were found again.

    Attributes:
        agreed: Found again.
        total: All that are firm: those that were to be found, and those that should not be there.
    """

    agreed: int
    total: int

    @property
    def share(self) -> float:
        """Agreed among all, 0..1; 1 where there was nothing to find."""
        return self.agreed / self.total if self.total else 1.0

    def __str__(self) -> str:
        """Return "7 of 8"."""
        return f"{self.agreed} of {self.total}"


@dataclass(frozen=True)
class Verification:
    """What a self-test found.

    Attributes:
        where: What ran the model, for humans.
        pictures: How many were replayed.
        tensors: The input, then the outputs.
        boxes: Agreement with this model on the machine that made it.
        float_boxes: Agreement with the float model; for information.
        min_agreement: Limit of `boxes`.
    """

    where: str
    pictures: int
    tensors: tuple[TensorResult, ...]
    boxes: Agreement
    float_boxes: Agreement
    min_agreement: float

    @property
    def passed(self) -> bool:
        """Whether all is within its limits."""
        return all(each.passed for each in self.tensors) and self.boxes.share >= self.min_agreement

    def summary(self) -> str:
        """Say in one line what was found."""
        image, *heads = self.tensors
        worst = max(heads, key=lambda each: (not each.passed, each.relative(each.max_error)))
        if not image.passed:
            worst = image
        said = [
            f"{worst.name} is off by up to {worst.relative(worst.max_error):.2%} of its range, "
            f"{worst.relative(worst.mean_error):.3%} on average"
        ]
        if not image.passed:
            said.append("so preprocessing is not that of the conversion: the file, a sidecar or a flag changed it")
        elif not worst.passed:
            said.append(
                f"allowed are {worst.relative(worst.max_allowed):.2%} and {worst.relative(worst.mean_allowed):.3%}"
            )
        if self.boxes.total:
            said.append(f"{self.boxes} answers agree")
        return f"self-test {'passed' if self.passed else 'FAILED'} on {self.where}: {', '.join(said)}"

    def require(self, model: object) -> None:
        """Raise unless it passed.

        Raises:
            SelfTestError: It did not.
        """
        if not self.passed:
            raise SelfTestError(f"{model}: {self.summary()}; do not trust its results on this device")


@dataclass(frozen=True, eq=False)
class Replay:
    """What a model makes of one picture.

    Attributes:
        outputs: Tensor name -> float32 (size,), real values.
        boxes: float32 (n, 6): x1, y1, x2, y2 in input pixels, score, class. A classifier has at most one: its best
            class, with its lead over the second as the score, and its box or the whole picture.
    """

    outputs: dict[str, Float32]
    boxes: Float32


def verify(model: LoadedModel, delegate: str = "cpu") -> Verification:
    """Replay the self-test of a model.

    Args:
        model: Loaded, at batch 1; its preprocessing and decoder are those that will be used.
        delegate: What it was loaded with. A GPU, and whatever else may compute in 16-bit floating point, has wider
            limits.

    Raises:
        ModelFileError: The file holds no self-test, a broken one, or another model than it was made with.
        BackendError: The model does not run.
    """
    check_sha256(model.path)
    test = read_selftest(model.path)
    full = delegate in _FULL_PRECISION or delegate.startswith("edgetpu:") or model.backend.failure is not None
    missing = [head.name for head in test.spec.heads if head.name not in model.outputs]
    if missing:
        raise ModelFileError(f"{model.path}: the self-test knows outputs that the model lacks ({', '.join(missing)})")
    inputs = [preprocessed(model, picture) for picture in test.pictures]
    tensors = [_compare(model, test.input, inputs, (0.0, 0.0))]
    replays = replay(model, test.pictures, test.spec.conf)
    floors = (0.0, 0.0) if full else (test.spec.half_max_error, test.spec.half_mean_error)
    for head in test.heads:
        tensors.append(_compare(model, head, [each.outputs[head.test.name] for each in replays], floors))
    boxes = [each.boxes for each in replays]
    found = Verification(
        model.backend.description,
        len(test.pictures),
        tuple(tensors),
        agreement(test.boxes, boxes, test.spec.conf),
        agreement(test.float_boxes, boxes, test.spec.conf),
        test.spec.min_agreement,
    )
    log.info("%s: %s", model.path, found.summary())
    return found


def preprocessed(model: LoadedModel, picture: Image) -> Float32:
    """Return what preprocessing makes of a picture: float32 (size,), real values."""
    info = model.backend.input
    tensor = np.empty(info.shape, info.dtype)
    model.preprocessor.write(picture, tensor)
    return info.dequantize(tensor).reshape(-1)


def replay(model: LoadedModel, pictures: Sequence[Image], conf: float) -> list[Replay]:
    """Run a model on pictures, each enlarged to the input's size; one inference each.

    Args:
        model: A detector or classifier.
        pictures: uint8 (H, W, 3) BGR.
        conf: Lowest score of a box.

    Raises:
        EdgeError: The model does not run, or cannot be decoded.
    """
    tap = _Tap(model.backend)
    tapped = replace(model, backend=tap)
    answer = _detector(tapped, conf) if model.spec.task == "detect" else _classifier(tapped, conf)
    done = []
    for picture in pictures:
        boxes = answer(enlarge(picture, model.preprocessor.size_wh))
        done.append(Replay(tap.taken, boxes))
    return done


def agreement(expected: Sequence[Float32], found: Sequence[Float32], conf: float) -> Agreement:
    """Match boxes of the same class, picture by picture.

    A box counts when it is firm: half a logit above the threshold. A weaker one may come and go with a rounding.

    Args:
        expected: For each picture float32 (n, 6), see `Replay`.
        found: Likewise.
        conf: The threshold of both.
    """
    firm = conf / (conf + (1 - conf) * np.exp(-_FIRM_LOGITS))
    agreed = total = 0
    for wanted, seen in zip(expected, found, strict=True):
        same = wanted[:, None, 5] == seen[None, :, 5]
        overlaps = (iou_matrix(wanted[:, :4], seen[:, :4]) >= MATCH_IOU) & same
        strong = wanted[:, 4] >= firm
        matched = int((overlaps.any(axis=1) & strong).sum())
        extra = int((~overlaps.any(axis=0) & (seen[:, 4] >= firm)).sum())
        agreed += matched
        total += int(strong.sum()) + extra
    return Agreement(agreed, total)


class _Tap:
    """A backend that keeps a copy of every output; see `edge.backends.base.Backend`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.input: TensorInfo = backend.input
        self.outputs = backend.outputs
        self.description = backend.description
        self.failure = backend.failure
        self.taken: dict[str, Float32] = {}

    def infer(self, fill: Callable[[npt.NDArray[Any]], None]) -> dict[str, npt.NDArray[Any]]:
        outputs = self._backend.infer(fill)
        infos = {info.name: info for info in self.outputs}
        self.taken = {name: infos[name].dequantize(view).flatten() for name, view in outputs.items()}
        return outputs

    def resize(self, shape: tuple[int, ...]) -> None:
        self._backend.resize(shape)

    def close(self) -> None:
        self._backend.close()


def _detector(model: LoadedModel, conf: float) -> Callable[[Image], Float32]:
    detector = Detector(model, conf)

    def answer(picture: Image) -> Float32:
        found, _ = detector.detect(picture)
        return np.column_stack([found.xyxy, found.score, found.class_id]).astype(np.float32)

    return answer


def _classifier(model: LoadedModel, conf: float) -> Callable[[Image], Float32]:
    classifier = Classifier(model, top=2)

    def answer(picture: Image) -> Float32:
        found, _ = classifier.classify(picture)
        lead = found.score[0] - (found.score[1] if len(found.score) > 1 else 0)
        box = found.box_xyxy or (0, 0, picture.shape[1], picture.shape[0])
        rows = [[*box, lead, found.class_id[0]]] if lead >= conf else []
        return np.array(rows, np.float32).reshape(-1, 6)

    return answer


def _compare(model: LoadedModel, stored: Stored, found: Sequence[Float32], floors: tuple[float, float]) -> TensorResult:
    """Compare a tensor on each picture with what is stored of it; `floors` are limits as shares of its range."""
    test = stored.test
    if any(len(values) != test.size for values in found):
        raise ModelFileError(
            f"{model.path}: the self-test expects {test.size} values in {test.name}, the model has {len(found[0])}"
        )
    here, expected = (np.asarray(x, np.float64) for x in ([v[stored.index] for v in found], stored.expected))
    with np.errstate(invalid="ignore"):
        errors, from_float = np.abs(here - expected), np.abs(here - stored.original)
    errors[~np.isfinite(errors)] = np.inf
    span = test.high - test.low
    return TensorResult(
        test.name,
        span,
        float(errors.max()),
        float(errors.mean()),
        max(test.max_error, floors[0] * span),
        max(test.mean_error, floors[1] * span),
        float(from_float.mean()),
        float(np.abs(expected - stored.original).mean()),
    )
