"""`convert_model`: from a trained model to a finished, self-describing `.tflite`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convert.calibration import CalibrationImages
from convert.loaded import LoadedModel
from convert.quantize import check_mode, quantize
from convert.writer import check_target, write_model
from edge import __version__
from edge.backends.partitions import Partitions, partitions
from edge.classifier import Classifier
from edge.detector import Detector
from edge.loader import load_model
from edge.spec import ModelSpec
from edge.spec.archive import with_tail
from edge.spec.resolve import METADATA_NAME
from edge.tensor import TensorInfo


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        path: The file.
        size_bytes: Its size, metadata included.
        spec: What it says about itself.
        input: Its input tensor.
        outputs: Its output tensors.
        partitions: How its graph falls into XNNPACK partitions on this machine.
        calibration_images: Pictures that it was calibrated on; 0 for a mode without calibration.
    """

    path: Path
    size_bytes: int
    spec: ModelSpec
    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    partitions: Partitions
    calibration_images: int


def convert_model(
    load: Callable[[], LoadedModel],
    out: Path,
    mode: str = "float32",
    calibrate: Path | None = None,
    io: str | None = None,
    force: bool = False,
) -> Conversion:
    """Load a model, quantise it, and write it with its metadata.

    The finished file is loaded as `edge detect` or `edge classify` would load it before it gets its name, so that a
    file that does not run is never left behind.

    Args:
        load: Gives the model, see `convert.load`; not called when the arguments cannot work.
        out: The file to write.
        mode: A key of `convert.quantize.MODES`.
        calibrate: Folder of typical pictures, for a mode that needs them.
        io: Type of input and outputs, see `Mode.io`; None for the mode's default.
        force: Whether an existing file may be replaced.

    Returns:
        What was written.

    Raises:
        InputError: An argument is unusable (see `quantize`, `CalibrationImages` and `write_model`).
        SpecError: The metadata contradicts the graph.
        EdgeError: The written model does not run; nothing was left behind.
    """
    check_target(out, force)
    row, io = check_mode(mode, io, calibrate is not None)
    model = load()
    samples = None
    if row.calibrated and calibrate is not None:
        samples = CalibrationImages(calibrate, model.spec.input, model.input_shape)
    content = quantize(model, mode, samples, io)
    provenance = model.spec.provenance.model_copy(update={"created_by": f"edge {__version__}"})
    spec = model.spec.model_copy(update={"quantization": mode, "provenance": provenance})
    tail = {METADATA_NAME: spec.model_dump_json(indent=1, exclude_none=True).encode()}
    report: list[tuple[TensorInfo, tuple[TensorInfo, ...], Partitions]] = []

    def check(path: Path) -> None:
        loaded = load_model(path, threads=1)
        (Detector if loaded.spec.task == "detect" else Classifier)(loaded)
        report.append((loaded.backend.input, loaded.backend.outputs, partitions(path)))
        loaded.backend.close()

    write_model(out, with_tail(content, tail), force, check)
    (image, outputs, pieces), size = report[0], out.stat().st_size
    return Conversion(out, size, spec, image, outputs, pieces, len(samples.files) if samples else 0)
