"""What a model file says about itself: the types, and the readers of every form that users have."""

from edge.spec.model import (
    Accuracy,
    DecoderSpec,
    InputSpec,
    ModelSpec,
    Provenance,
)

__all__ = ["Accuracy", "DecoderSpec", "InputSpec", "ModelSpec", "Provenance"]
