"""A converted model on its way to the file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from convert.gate import Measurement
from edge import __version__
from edge.spec import Accuracy, ConversionRecord, GateRecord, ModelSpec


@dataclass(frozen=True)
class Candidate:
    """A converted model and what is known of it.

    Attributes:
        content: The `.tflite`, without description.
        source: What the source says about itself, with this model's outputs and quantisation.
        record: How it was made.
        accuracy: What was measured.
    """

    content: bytes
    source: ModelSpec
    record: ConversionRecord
    accuracy: tuple[Accuracy, ...] = ()

    @property
    def mode(self) -> str:
        """Its quantisation."""
        return str(self.source.quantization)

    @property
    def name(self) -> str:
        """Its quantisation, and whether it was repaired."""
        return f"{self.mode} repaired" if self.record.steps else self.mode

    @property
    def spec(self) -> ModelSpec:
        """What its file says."""
        measured = {accuracy.dataset for accuracy in self.accuracy}
        return self.source.model_copy(
            update={
                "provenance": self.source.provenance.model_copy(update={"created_by": f"edge {__version__}"}),
                "accuracy": (*(a for a in self.source.accuracy if a.dataset not in measured), *self.accuracy),
                "conversion": self.record,
            }
        )

    def measured(self, reference: Measurement, own: Measurement, verdict: GateRecord) -> Candidate:
        """Return it with what was measured."""
        accuracy: tuple[Accuracy, ...] = (own.record(self.mode),)
        if self.mode != "float32":
            accuracy = (reference.record("float32"), *accuracy)
        return replace(
            self,
            record=self.record.model_copy(update={"gate": verdict}),
            # An agreement is no accuracy: it stands in the record of the gate alone.
            accuracy=accuracy if own.detail is not None else (),
        )
