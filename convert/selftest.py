"""Writing a self-test into a model file: pictures, answers, and limits that were measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from convert.loaded import INPUT_NAME, LoadedModel
from convert.selftest_pictures import LOW_CONF, SEED, choose_pictures
from edge.errors import BackendError
from edge.frame import Image
from edge.loader import LoadedModel as RunnableModel
from edge.loader import load_model
from edge.preprocess import Preprocessor
from edge.selftest import agreement, preprocessed, replay
from edge.spec import ModelSpec, SelfTestSpec, TensorTest
from edge.spec.seal import sealed
from edge.spec.vectors import SelfTest, Stored, enlarge, pack
from edge.tensor import TensorInfo

MAX_BOXES = 50
ENOUGH_BOXES = 8
INPUT_SAMPLES = 512
OUTPUT_SAMPLES = 6000
"""Of all outputs together; each sample costs 16 bytes."""

MIN_AGREEMENT = 0.8
"""Share of boxes to be found again, of those that other kernels found again here."""

MAX_PIXEL_ERROR = 2.5
MEAN_PIXEL_ERROR = 0.3
"""Limits of the input in levels of a pixel."""

NOISE_FACTOR = 2.0
"""Limits of an output are so many times what it moves by here although nothing is wrong."""

MIN_MAX_ERROR = 2e-3
MIN_MEAN_ERROR = 2e-4
"""Limits of an output are at least these shares of its range."""

HALF_MAX_ERROR = 0.05
HALF_MEAN_ERROR = 0.005
"""Likewise where arithmetic may be in 16-bit floating point."""

_TOP_SAMPLES = 32
_CLASS_LEAD = 0.1
_PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
_CHAOTIC = ("int8", "dynamic")

Float32 = npt.NDArray[np.float32]
Tensor = npt.NDArray[Any]


def embed_selftest(content: bytes, model: LoadedModel, spec: ModelSpec, pictures: Sequence[Path] = ()) -> bytes:
    """Return the finished file: the model, its description with the model's SHA-256, and a self-test.

    Args:
        content: The `.tflite`.
        model: What it was made from.
        spec: What the file says about itself.
        pictures: Typical ones, for calibration; two of them, cut and made small, become part of the file. Without any,
            all pictures are drawn.

    Raises:
        InputError: A picture cannot be read.
        EdgeError: The model does not run.
    """
    original = _original(model)
    chosen = choose_pictures(original, pictures)
    conf = min(LOW_CONF, spec.conf) if spec.task == "detect" else _CLASS_LEAD
    floats = replay(original, chosen, conf)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(sealed(content, spec, {}))
        candidate = load_model(path, threads=1)
        try:
            made = replay(candidate, chosen, conf)
            runs = _good_runs(content, candidate, chosen)
            moved = [replay(_recorded(candidate, run), chosen, conf) for run in runs]
            image = _input(candidate, original, chosen)
        finally:
            candidate.backend.close()
    if spec.task == "detect":
        conf = _threshold([each.boxes for each in made], spec.conf)
    boxes, float_boxes, *moved_boxes = (
        tuple(each.boxes[each.boxes[:, 4] >= conf][:MAX_BOXES] for each in side) for side in (made, floats, *moved)
    )
    heads = []
    for name, info in candidate.outputs.items():
        expected, meant, *noisy = (np.stack([each.outputs[name] for each in side]) for side in (made, floats, *moved))
        heads.append(_head(info, len(candidate.outputs), expected, meant, np.stack(noisy)))
    test = SelfTestSpec(
        pictures=len(chosen),
        conf=conf,
        boxes=tuple(map(len, boxes)),
        float_boxes=tuple(map(len, float_boxes)),
        min_agreement=MIN_AGREEMENT * min(agreement(boxes, each, conf).share for each in moved_boxes),
        input=image.test,
        heads=tuple(head.test for head in heads),
        half_max_error=HALF_MAX_ERROR,
        half_mean_error=HALF_MEAN_ERROR,
    )
    members = pack(SelfTest(test, tuple(chosen), image, tuple(heads), boxes, float_boxes))
    return sealed(content, spec.model_copy(update={"selftest": test}), members)


class _Computed:
    """A function as a backend, from an input tensor to raw outputs by name; see `edge.backends.base.Backend`."""

    description = "computed"
    failure: str | None = None

    def __init__(
        self, compute: Callable[[Tensor], dict[str, Tensor]], source: TensorInfo, outputs: tuple[TensorInfo, ...]
    ) -> None:
        self._compute = compute
        self.input = source
        self.outputs = outputs

    def infer(self, fill: Callable[[Tensor], None]) -> dict[str, Tensor]:
        image = np.empty(self.input.shape, self.input.dtype)
        fill(image)
        return self._compute(image)

    def resize(self, shape: tuple[int, ...]) -> None:
        raise BackendError(f"expected an input of {self.input.shape}, not {shape}")

    def close(self) -> None:
        pass


def _original(model: LoadedModel) -> RunnableModel:
    """Return the frozen float graph as something that detects or classifies."""
    float32 = np.dtype(np.float32)
    outputs = {
        name: TensorInfo(name, tuple(int(side) for side in tensor.shape), float32)
        for name, tensor in zip(model.output_names, model.graph.outputs, strict=True)
    }

    def compute(image: Tensor) -> dict[str, Tensor]:
        found = model.graph(tf.constant(image))
        return {name: tensor.numpy() for name, tensor in zip(outputs, found, strict=True)}

    backend = _Computed(compute, TensorInfo(INPUT_NAME, model.input_shape, float32), tuple(outputs.values()))
    preprocessor = Preprocessor(model.spec.input, backend.input)
    return RunnableModel(Path(model.spec.name), model.spec, backend, preprocessor, outputs)


def _recorded(model: RunnableModel, run: Sequence[dict[str, Tensor]]) -> RunnableModel:
    """Return a model that gives the outputs of a run again, one picture after the other."""
    left = iter(run)
    backend = _Computed(lambda image: next(left), model.backend.input, model.backend.outputs)
    return replace(model, backend=backend)


def _threshold(boxes: Sequence[Float32], conf: float) -> float:
    """Return the model's own threshold, or a lower one where that leaves few boxes; or one that does not leave many."""
    scores = np.sort(np.concatenate([rows[:, 4] for rows in boxes]))[::-1]
    if len(scores) and scores[min(ENOUGH_BOXES, len(scores)) - 1] < conf:
        conf = float(min(conf, max(scores[min(ENOUGH_BOXES, len(scores)) - 1], scores[0] / 4)))
    crowded = [float(np.sort(rows[:, 4])[-MAX_BOXES]) for rows in boxes if len(rows) >= MAX_BOXES]
    return max([conf, *crowded])


def _input(model: RunnableModel, original: RunnableModel, pictures: Sequence[Image]) -> Stored:
    """Sample the input of each picture. Its limits allow for another build of OpenCV, which resizes a little apart."""
    info = model.backend.input
    expected, floats = (np.stack([preprocessed(each, picture) for picture in pictures]) for each in (model, original))
    index = np.sort(np.random.default_rng(SEED).choice(expected.shape[1], min(INPUT_SAMPLES, expected.shape[1]), False))
    pixel = 1 / min(model.spec.input.std) if info.quantized or info.dtype.kind == "f" else 1.0
    limits = MAX_PIXEL_ERROR * pixel + info.scale, MEAN_PIXEL_ERROR * pixel + info.scale / 4
    return _stored(info, index, expected, floats, *limits)


def _head(info: TensorInfo, heads: int, expected: Float32, floats: Float32, moved: Float32) -> Stored:
    """Sample an output.

    Args:
        info: The output.
        heads: How many outputs there are.
        expected: float32 (pictures, size), of this model.
        floats: Of the float model.
        moved: float32 (runs, pictures, size), of runs that are as good.
    """
    index = _sample(expected, info, heads)
    noise = np.abs(moved - expected)
    # On the device the mean is that of all pictures.
    limits = NOISE_FACTOR * float(noise.max()), NOISE_FACTOR * float(noise[..., index].mean(axis=(1, 2)).max())
    span = float(np.ptp(expected[:, index]))
    # A rounding moves an integer output by a whole level.
    floors = max(MIN_MAX_ERROR * span, 2 * info.scale), max(MIN_MEAN_ERROR * span, info.scale / 2)
    return _stored(info, index, expected, floats, max(limits[0], floors[0]), max(limits[1], floors[1]))


def _stored(
    info: TensorInfo,
    index: npt.NDArray[np.int64],
    expected: Float32,
    floats: Float32,
    max_error: float,
    mean_error: float,
) -> Stored:
    kept = expected[:, index], floats[:, index]
    test = TensorTest(
        name=info.name,
        size=expected.shape[1],
        samples=len(index),
        low=float(min(map(np.min, kept))),
        high=float(max(map(np.max, kept))),
        max_error=max_error,
        mean_error=mean_error,
    )
    return Stored(test, index, *kept)


def _sample(values: Float32, info: TensorInfo, heads: int) -> npt.NDArray[np.int64]:
    """Choose flat indices: every channel in turn at random places, and the largest values.

    Args:
        values: float32 (pictures, size).
        info: The output.
        heads: How many outputs share the room.
    """
    size = values.shape[1]
    channels = info.shape[-1] if info.shape else 1
    most = max(64, OUTPUT_SAMPLES // heads - _TOP_SAMPLES)
    wanted = min(size, most, max(256, min(channels, 1024)))
    if wanted == size:
        return np.arange(size)
    random = np.random.default_rng((SEED, size))
    channel = np.arange(wanted) % channels if channels <= wanted else random.permutation(channels)[:wanted]
    spread = random.integers(0, size // channels, wanted) * channels + channel
    top = np.argsort(-values.max(axis=0), kind="stable")[:_TOP_SAMPLES]
    return np.union1d(spread, top)


def _good_runs(content: bytes, model: RunnableModel, pictures: Sequence[Image]) -> list[list[dict[str, Tensor]]]:
    """Run a model in ways that are as good: with two threads, and with other kernels, those without XNNPACK.

    Where activations are 8-bit, one rounding changes all that follows, as much as quantisation did. Two more runs, with
    a tenth of the pixel values one level off, make sure that this shows.

    Returns:
        For each run and picture the raw outputs by name.
    """
    enlarged = [enlarge(picture, model.preprocessor.size_wh) for picture in pictures]
    exact = [_tensor(model, picture) for picture in enlarged]
    runs = [_run(content, exact, OpResolverType.AUTO), _run(content, exact, _PLAIN)]
    if model.spec.quantization in _CHAOTIC:
        random = np.random.default_rng(SEED)
        for _ in range(2):
            nearly = []
            for picture in enlarged:
                off = random.choice((-1, 0, 1), picture.shape, p=(0.05, 0.9, 0.05))
                nearly.append(_tensor(model, np.clip(picture + off, 0, 255).astype(np.uint8)))
            runs.append(_run(content, nearly, _PLAIN))
    return runs


def _tensor(model: RunnableModel, picture: Image) -> Tensor:
    tensor = np.empty(model.backend.input.shape, model.backend.input.dtype)
    model.preprocessor.write(picture, tensor)
    return tensor


def _run(content: bytes, tensors: Sequence[Tensor], resolver: OpResolverType) -> list[dict[str, Tensor]]:
    """Run a model with two threads; gives the raw outputs of each tensor."""
    interpreter = Interpreter(model_content=content, num_threads=2, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    outputs = interpreter.get_output_details()
    found = []
    for tensor in tensors:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
        interpreter.invoke()
        found.append({str(each["name"]): interpreter.get_tensor(each["index"]) for each in outputs})
    return found
