"""Quantisation modes: a frozen graph in, the bytes of a `.tflite` out.

`MODES` is the table: a new mode is a function and a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError

from convert.flatbuffer import rename_tensors
from convert.loaded import INPUT_NAME, LoadedModel
from convert.weights_int8 import quantize_weights
from edge.errors import InputError

Samples = Callable[[], Iterable[npt.NDArray[np.float32]]]
"""Gives the calibration inputs, each float32 (1, H, W, C); may be called more than once."""

Io = Literal["float32", "int8", "uint8"]


class Mode(NamedTuple):
    """A row of `MODES`.

    Attributes:
        convert: (model, samples, io) -> the bytes of a `.tflite`.
        calibrated: Whether it needs samples.
        io: Types that input and outputs may have; the first is the default.
        summary: One line for help texts.
    """

    convert: Callable[[LoadedModel, Samples | None, Io], bytes]
    calibrated: bool
    io: tuple[Io, ...]
    summary: str


def check_mode(mode: str, io: str | None, has_samples: bool) -> tuple[Mode, Io]:
    """Return the row of a mode and the type of its input and outputs.

    Raises:
        InputError: Unknown mode, a type that it does not have, or no samples where they are needed.
    """
    if mode not in MODES:
        raise InputError(f"unknown quantisation {mode!r}; expected one of {', '.join(MODES)}")
    row = MODES[mode]
    if io is not None and io not in row.io:
        raise InputError(f"{mode} has {' or '.join(row.io)} input and outputs, not {io}")
    if row.calibrated and not has_samples:
        raise InputError(f"{mode} needs pictures to calibrate on; give a folder of typical ones with --calibrate DIR")
    return row, next((kind for kind in row.io if kind == io), row.io[0])


def quantize(model: LoadedModel, mode: str, samples: Samples | None = None, io: str | None = None) -> bytes:
    """Convert a model.

    Args:
        model: What to convert.
        mode: A key of `MODES`.
        samples: Calibration inputs, for a mode that needs them.
        io: Type of input and outputs; None for the mode's default.

    Returns:
        A `.tflite` whose input is named "image" and whose outputs are named as `model` says.

    Raises:
        InputError: See `check_mode`; or the graph has an operation that TFLite, or this mode, lacks.
    """
    row, kind = check_mode(mode, io, samples is not None)
    try:
        with warnings.catch_warnings():
            # The converter asks for ranges of the input that the samples give it.
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected", UserWarning)
            content = row.convert(model, samples, kind)
    except (ConverterError, RuntimeError, ValueError) as error:
        raise InputError(f"{model.spec.name} cannot be converted to {mode}: {_reason(error)}") from error
    # A classifier may be run on many windows of a picture at once.
    return rename_tensors(content, INPUT_NAME, model.output_names, any_batch=model.spec.task == "classify")


def _reason(error: Exception) -> str:
    """Return the line of a converter's error that names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("TF Select ops:", "Custom ops:")):
            return f"TFLite has no operation for {line.split(':', 1)[1].strip()}"
    telling = [line for line in lines if "supported" in line]
    return ((telling or lines or [type(error).__name__])[0])[:300]


def _converter(model: LoadedModel) -> Any:
    return tf.lite.TFLiteConverter.from_concrete_functions([model.graph])


def _float32(model: LoadedModel, samples: Samples | None, io: Io) -> bytes:
    return bytes(_converter(model).convert())


def _float16(model: LoadedModel, samples: Samples | None, io: Io) -> bytes:
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def _dynamic(model: LoadedModel, samples: Samples | None, io: Io) -> bytes:
    return quantize_weights(_float32(model, samples, io), dynamic=True)


def _weight_only(model: LoadedModel, samples: Samples | None, io: Io) -> bytes:
    return quantize_weights(_float32(model, samples, io), dynamic=False)


def _calibrated(model: LoadedModel, samples: Samples | None) -> Any:
    assert samples is not None
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample] for sample in samples())
    return converter


def _int8(model: LoadedModel, samples: Samples | None, io: Io) -> bytes:
    converter = _calibrated(model, samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io)
    return bytes(converter.convert())


def _int16x8(model: LoadedModel, samples: Samples | None, io: Io) -> bytes:
    converter = _calibrated(model, samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
    return bytes(converter.convert())


MODES: dict[str, Mode] = {
    "float32": Mode(_float32, False, ("float32",), "as trained"),
    "float16": Mode(_float16, False, ("float32",), "half the size, float speed"),
    "dynamic": Mode(_dynamic, False, ("float32",), "8-bit weights, activations quantised on the fly"),
    "weight-only": Mode(_weight_only, False, ("float32",), "8-bit weights, float arithmetic: small, same accuracy"),
    "int8": Mode(_int8, True, ("int8", "uint8", "float32"), "all integer; what accelerators want; needs --calibrate"),
    "int16x8": Mode(_int16x8, True, ("float32",), "16-bit activations: accurate but slow; needs --calibrate"),
}
"""Name -> mode; the names are those of `edge.spec.model.Quantization`."""
