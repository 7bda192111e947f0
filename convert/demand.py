"""What the user demands of a converted model, and what is done where it falls short."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convert.candidate import Candidate
from convert.gate import Gate, passed, rank, refused, sound
from convert.gate_data import GateData
from convert.repair import Repairs, repair_until
from convert.rescue import Trial
from convert.variants import Variants
from convert.writer import check_target
from edge.errors import GateError, InputError, OutputError
from edge.spec.seal import sealed


@dataclass(frozen=True)
class Demand:
    """What the written model must keep.

    Attributes:
        data: Pictures to measure on, see `convert.gate_data.open_gate_data`.
        annotations: COCO instances JSON of them.
        max_drop: Points of accuracy, of 100, that it may lose against float.
        report: HTML file to write about it, whatever the verdict.
    """

    data: Path
    annotations: Path | None = None
    max_drop: float = 1.0
    report: Path | None = None


def check_demand(demand: Demand, force: bool) -> None:
    """Check before the work begins that a demand makes sense.

    Args:
        demand: It.
        force: Whether a report that exists may be replaced.

    Raises:
        InputError: The limit is no number of points.
        OutputError: The report cannot be written.
    """
    if not 0 <= demand.max_drop <= 100:
        raise InputError(f"--max-drop {demand.max_drop:g}: expected points from 0 to 100")
    report = demand.report
    if report is not None:
        if report.suffix.lower() not in (".html", ".htm"):
            raise OutputError(f"--report {report}: expected a name that ends in .html")
        check_target(report, force)


def pass_gate(
    variants: Variants, candidate: Candidate, demand: Demand, data: GateData, out: Path, repairs: Repairs | None
) -> tuple[Candidate, tuple[Trial, ...], OutputError | None]:
    """Measure a candidate against the float model, repair it where it falls short, and write the report.

    A report that cannot be written costs nothing but itself.

    Args:
        variants: Of the model.
        candidate: What was asked for.
        demand: What it must keep.
        data: The pictures of the demand.
        out: The name that it would get.
        repairs: What may be tried; None for nothing.

    Returns:
        The candidate with what was measured, the repairs that were tried, and why there is no report; None where there
        is one, or none was wanted.

    Raises:
        GateError: It lost too much; it was kept aside.
        OutputError: The refused file cannot be written.
        EdgeError: A model does not run.
    """
    reference = variants.candidate("float32")
    gate = Gate(variants.file(reference.content, reference.source), data, demand.max_drop)
    measured, verdict = gate.judge(variants.file(candidate.content, candidate.source))
    tried: tuple[Trial, ...] = ()
    if repairs is not None and not (passed(verdict) and sound(verdict)):
        repaired, tried = repair_until(variants, candidate, gate, repairs)
        again, other = gate.judge(variants.file(repaired.content, repaired.source))
        if rank(other) > rank(verdict):
            candidate, measured, verdict = repaired, again, other
    candidate = candidate.measured(gate.reference, measured, verdict)
    problem = None
    if demand.report is not None:
        from convert.report import collect, write_report

        try:
            write_report(demand.report, collect(variants, gate, candidate, measured, verdict, tried))
        except OutputError as error:
            problem = error
    if not passed(verdict):
        refusal = refused(out, sealed(candidate.content, candidate.spec, {}), verdict, _advice(candidate, tried))
        if demand.report is None:
            raise refusal
        raise GateError(f"{refusal}; " + (f"the report is {demand.report}" if problem is None else str(problem)))
    return candidate, tried, problem


def _advice(candidate: Candidate, tried: tuple[Trial, ...]) -> str:
    if tried:
        best = ", ".join(candidate.record.steps) or "none of them helped"
        return f"the repairs were not enough ({best}): calibrate on more typical pictures, try --to weight-only"
    if candidate.mode == "int8":
        return "try --rescue auto"
    return f"try --to {'float32' if candidate.mode == 'float16' else 'float16 or float32'}"
