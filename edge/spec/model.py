"""ModelSpec: what a model file says about itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1
"""Raised when a reader of the previous version would misread the file."""

Task = Literal["detect", "classify"]
Layout = Literal["NHWC", "NCHW"]
Color = Literal["RGB", "BGR", "GRAY"]
Resize = Literal["letterbox-center", "letterbox-topleft", "stretch", "center-crop"]
Quantization = Literal["float32", "float16", "dynamic", "weight-only", "int8", "int16x8"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(ge=-1e30, le=1e30)]
Count = Annotated[int, Field(ge=0, le=300)]

MAX_SCALING = 1e6
"""Of a mean or a standard deviation of pixels 0..255; `1 / MAX_SCALING` is the least deviation."""


class Record(BaseModel):
    """Base of the parts of a spec: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class InputSpec(Record):
    """How pixels become the input tensor: `real = (pixel - mean) / std` per channel, in `color` order.

    An integer tensor is then quantised with its own scale and zero point, which are in the `.tflite`; one
    without scale takes the pixel as it is.

    Attributes:
        name: Tensor name; None for the model's only input.
        size_wh: Width, height in pixels; None to take it from the tensor.
        layout: Order of the tensor's axes.
        color: Channel order.
        mean: Pixel value 0..255 that becomes 0; one number, or one per channel in `color` order.
        std: Pixel distance that becomes 1, likewise; (0, 255) gives 0..1 and (127.5, 127.5) gives -1..1.
        resize: "letterbox-center" and "letterbox-topleft" keep the aspect ratio and fill with `pad_value`;
            "stretch" does not keep it; "center-crop" cuts the largest centred square (or the tensor's
            aspect) and scales it.
        pad_value: Pixel value 0..255 of the letterbox bars.
    """

    name: str | None = None
    size_wh: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] | None = None
    layout: Layout = "NHWC"
    color: Color = "RGB"
    mean: tuple[Annotated[float, Field(ge=-MAX_SCALING, le=MAX_SCALING)], ...] = (0.0,)
    std: tuple[Annotated[float, Field(ge=1 / MAX_SCALING, le=MAX_SCALING)], ...] = (255.0,)
    resize: Resize = "letterbox-center"
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114

    @model_validator(mode="after")
    def _channels(self) -> InputSpec:
        channels = 1 if self.color == "GRAY" else 3
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ValueError(f"{name} has {len(values)} values, expected 1 or {channels} for {self.color}")
        return self


class DecoderSpec(Record):
    """Which head family the outputs are, and its parameters.

    Attributes:
        name: A key of `edge.decoders.DECODERS`.
        outputs: Output role -> tensor NAME. Roles are the decoder's; each decoder documents its own.
        params: The decoder's parameters; checked by the decoder when the model is loaded.
    """

    name: str
    outputs: dict[str, str] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


class Provenance(Record):
    """Where a model comes from.

    Attributes:
        source: File, URL or training run that it was made from.
        source_sha256: SHA-256 of that source (of the weights for Darknet).
        licence: SPDX identifier or a sentence.
        attribution: Text that must travel with the model (CC BY data, for instance).
        training_data: Name and version of the data.
        created_by: Program and version that wrote the file.
    """

    source: str | None = None
    source_sha256: str | None = None
    licence: str | None = None
    attribution: str | None = None
    training_data: str | None = None
    created_by: str | None = None


class Accuracy(Record):
    """One measurement.

    Attributes:
        dataset: What it was measured on, with the number of pictures.
        metrics: Metric name -> value, 0..1 ("mAP50", "mAP50-95", "top1").
    """

    dataset: str
    metrics: dict[str, float]


class GateRecord(Record):
    """What a converted model lost against the float model, on the same pictures.

    Attributes:
        metric: "mAP50-95" of a detector, "top1" of a classifier, "located" of a localiser; "agreement" with the float
            model where the pictures have no labels.
        dataset: What it was measured on.
        images: Pictures of it.
        reference: Of the float model, 0..1; 1 for an agreement.
        value: Of this model, 0..1.
        drop: Points lost, of 100; negative where this model is better.
        max_drop: Points that were allowed.
        agreement: Of a detector's boxes with the float model's, 0..1, at ten overlaps from 0.5 to 0.95; None of others,
            and where the metric is an agreement itself.
        agreement_low: What it is at least on other pictures of the kind, in 19 of 20 cases.
    """

    metric: str
    dataset: str
    images: int
    reference: float
    value: float
    drop: float
    max_drop: float
    agreement: float | None = None
    agreement_low: float | None = None


class ConversionRecord(Record):
    """How the file was made.

    Attributes:
        target: What for; None where a mode was named.
        steps: Repairs that were applied, in order: "equalisation", "bias-correction".
        calibration_images: Pictures that it was calibrated on; 0 for a mode without calibration.
        gate: What it lost; None where it was not measured.
    """

    target: Literal["cpu", "gpu", "edgetpu"] | None = None
    steps: tuple[str, ...] = ()
    calibration_images: int = 0
    gate: GateRecord | None = None


class TensorTest(Record):
    """What the self-test knows of the input, or of one output.

    Attributes:
        name: Tensor name.
        size: Values of the whole tensor.
        samples: How many of them are stored for each picture.
        low: Real value that the stored number 0 stands for.
        high: Real value that the stored number 65535 stands for.
        max_error: Largest difference that is allowed, in real values.
        mean_error: Mean difference that is allowed, in real values.
    """

    name: str
    size: Annotated[int, Field(gt=0)]
    samples: Annotated[int, Field(gt=0, le=1 << 16)]
    low: Finite
    high: Finite
    max_error: Annotated[Finite, Field(ge=0)]
    mean_error: Annotated[Finite, Field(ge=0)]


class SelfTestSpec(Record):
    """What lies in the members `selftest/` of a file, and how far a device may be from it; see `edge.spec.vectors`.

    Attributes:
        version: Of the members' layout.
        pictures: How many there are.
        conf: Score threshold of the boxes that are stored.
        boxes: Boxes (or top classes, 0 or 1) of this model on each picture.
        float_boxes: Of the float model.
        min_agreement: Share of this model's boxes that must be found again.
        input: The input, as preprocessing fills it.
        heads: The outputs.
        half_max_error: Allowed at least in 16-bit floating point, as a share of each output's range.
        half_mean_error: Likewise for the mean.
    """

    version: Literal[1] = 1
    pictures: Annotated[int, Field(gt=0, le=8)]
    conf: Fraction
    boxes: tuple[Count, ...]
    float_boxes: tuple[Count, ...]
    min_agreement: Fraction
    input: TensorTest
    heads: Annotated[tuple[TensorTest, ...], Field(min_length=1, max_length=64)]
    half_max_error: Fraction
    half_mean_error: Fraction

    @model_validator(mode="after")
    def _counts(self) -> SelfTestSpec:
        for name, counts in (("boxes", self.boxes), ("float_boxes", self.float_boxes)):
            if len(counts) != self.pictures:
                raise ValueError(f"{name} has {len(counts)} counts for {self.pictures} pictures")
        return self


class ModelSpec(Record):
    """What a model file says about itself; `metadata.json` in the file's ZIP tail.

    Attributes:
        schema_version: Version of this layout.
        name: Short model name.
        task: "detect" or "classify".
        input: Preprocessing.
        decoder: Output decoding.
        labels: Class names by class index.
        conf: Default score threshold.
        iou: Default NMS overlap threshold; None takes the decoder family's.
        quantization: How the weights and activations are stored; None where unknown.
        provenance: Source, licence, training data.
        accuracy: Measured accuracies.
        conversion: How the file was made; None where something else than `edge convert` made it.
        model_sha256: SHA-256, hexadecimal, of the flatbuffer: the file without the archive behind it.
        selftest: What the file can be checked with on a device; None where it holds no self-test.
        cpu_twin: Name of the file for the CPU that an Edge TPU file was compiled from.
    """

    schema_version: Literal[1] = 1
    name: str
    task: Task
    input: InputSpec
    decoder: DecoderSpec
    labels: tuple[str, ...] = ()
    conf: Fraction = 0.25
    iou: Fraction | None = None
    quantization: Quantization | None = None
    provenance: Provenance = Provenance()
    accuracy: tuple[Accuracy, ...] = ()
    conversion: ConversionRecord | None = None
    model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    selftest: SelfTestSpec | None = None
    cpu_twin: str | None = None

    def label(self, class_id: int) -> str:
        """Return the name of a class, or its number where the model has no name for it."""
        return self.labels[class_id] if 0 <= class_id < len(self.labels) else str(class_id)
