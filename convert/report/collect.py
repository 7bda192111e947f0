"""Measuring what a report says."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

import numpy as np

from convert.candidate import Candidate
from convert.gate import Gate, Measurement, passed
from convert.gate_data import Boxes
from convert.latency import interleaved_ms
from convert.quant_error import TensorError, tensor_errors
from convert.quantize import MODES
from convert.report.compare import compare_classes, compare_curves, compare_mistakes
from convert.report.data import ReportData, Variant
from convert.report.examples import examples
from convert.rescue import Trial
from convert.variants import Variants
from edge.errors import InputError
from edge.loader import load_model
from edge.spec import GateRecord

_MODES = ("float32", "float16", "dynamic", "weight-only", "int8")
"""What is measured beside the one that was asked for."""


def collect(
    variants: Variants,
    gate: Gate,
    candidate: Candidate,
    measured: Measurement,
    verdict: GateRecord,
    tried: Sequence[Trial] = (),
) -> ReportData:
    """Measure the model in every mode, and compare the one that was asked for with float32 in detail.

    Args:
        variants: Of the model.
        gate: Holds the pictures and the measured float model.
        candidate: What was asked for.
        measured: How accurate it is.
        verdict: The gate's.
        tried: Repairs that were tried.

    Raises:
        EdgeError: A model does not run.
    """
    spec = candidate.spec
    candidates, left_out = _candidates(variants)
    candidates[candidate.name] = candidate
    files = [variants.file(each.content, each.source) for each in candidates.values()]
    ms = np.median(interleaved_ms(files, gate.data.some()), axis=0)
    rows = []
    for name, file, time in zip(candidates, files, ms, strict=True):
        own, record = (measured, verdict) if name == candidate.name else gate.judge(file)
        metrics = {own.metric: own.value, **own.metrics}
        size = file.stat().st_size
        rows.append(Variant(name, size, float(time), metrics, record.drop, passed(record), name == candidate.name))
    loaded = load_model(files[0])
    runtime, size_wh = loaded.backend.description, loaded.preprocessor.size_wh
    loaded.backend.close()
    reference, labels = gate.reference, gate.data.labels
    metric, classes = compare_classes(reference, measured)
    changed, shown = examples(gate, measured, spec)
    return ReportData(
        spec=spec,
        gate=verdict,
        passed=passed(verdict),
        size_wh=size_wh,
        runtime=runtime,
        machine=f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs",
        variants=tuple(rows),
        classes=classes,
        class_metric=metric,
        curves=compare_curves(reference, measured, labels, spec) if isinstance(labels, Boxes) else None,
        confused=compare_mistakes(reference, measured),
        changed=changed,
        examples=shown,
        left_out=left_out,
        layers=_layers(variants, candidate),
        tried=tuple(tried),
    )


def _layers(variants: Variants, candidate: Candidate) -> tuple[TensorError, ...]:
    """Return what quantisation did to each tensor, where activations are integers.

    Repairs change tensors on purpose (equalisation scales their channels): what is compared is the model before them.
    """
    if variants.samples is None or not MODES[candidate.mode].calibrated:
        return ()
    content = variants.content(candidate.mode) if candidate.record.steps else candidate.content
    return tuple(tensor_errors(variants.content("float32"), content, variants.samples()))


def _candidates(variants: Variants) -> tuple[dict[str, Candidate], tuple[str, ...]]:
    """Return the model in every mode that it can be converted to, and a line for each that it cannot."""
    found, left_out = {}, []
    for mode in _MODES:
        if mode not in variants.modes:
            left_out.append(f"{mode}: no pictures to calibrate on (--calibrate DIR)")
            continue
        try:
            found[mode] = variants.candidate(mode)
        except InputError as error:
            left_out.append(str(error))
    return found, tuple(left_out)
