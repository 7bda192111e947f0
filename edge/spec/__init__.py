"""What a model file says about itself: the types, and the readers of every form that users have."""

from edge.spec.model import (
    Accuracy,
    ConversionRecord,
    DecoderSpec,
    GateRecord,
    InputSpec,
    ModelSpec,
    Provenance,
    SelfTestSpec,
    TensorTest,
)

__all__ = [
    "Accuracy",
    "ConversionRecord",
    "DecoderSpec",
    "GateRecord",
    "InputSpec",
    "ModelSpec",
    "Provenance",
    "SelfTestSpec",
    "TensorTest",
]
