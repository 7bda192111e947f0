"""What is to be measured, and how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.benchmark.measure import MODES
from edge.benchmark.variant import Variant
from edge.errors import InputError
from edge.spec.resolve import Overrides


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        variants: What is compared.
        overrides: What the user says about the models.
        modes: Of `MODES`.
        source: A file; None for a clip of our own.
        sink: What is done with results, a key of `SINKS`.
        warmup: Bare inferences before the first round.
        runs: Inferences or frames of each mode of each variant, in all rounds together.
        seconds: Time for them, if that ends first.
        rounds: Turns of each variant.
        fps: Pace of the imagined camera; None for that of the source, 30 for pictures.
        starts: Cold starts of each variant.
        minutes: Of a sustained run behind the rest; 0 for none.
        profile: Whether operators are timed.
        idle_s: How long others are looked at before.
    """

    variants: Sequence[Variant]
    overrides: Overrides = field(default_factory=Overrides)
    modes: Sequence[str] = MODES
    source: str | None = None
    sink: str = "jpeg"
    warmup: int = 10
    runs: int = 200
    seconds: float = 5.0
    rounds: int = 5
    fps: float | None = None
    starts: int = 3
    minutes: float = 0.0
    profile: bool = False
    idle_s: float = 1.0

    def check(self) -> None:
        """Raise InputError where a number is out of range."""
        for flag, value, lowest in (
            ("--warmup", self.warmup, 0),
            ("--runs", self.runs, 1),
            ("--rounds", self.rounds, 1),
            ("--cold-starts", self.starts, 0),
            ("--minutes", self.minutes, 0),
        ):
            if not lowest <= value <= 1e6:
                raise InputError(f"{flag} {value:g}: expected {lowest} or more")
        for flag, given in (("--seconds", self.seconds), ("--fps", self.fps)):
            if given is not None and not 0 < given <= 1e6:
                raise InputError(f"{flag} {given:g}: expected a number above 0")
        if self.minutes and len(self.variants) > 1:
            raise InputError(
                f"--minutes: {len(self.variants)} variants; one after the other would find the device hot already, so "
                "run each alone, after a pause"
            )
