"""What a detector's training run depends on; the run folder keeps it as ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class DetectorConfig(BaseModel):
    """A run of `edge train detector`.

    Attributes:
        task: Always "detector".
        data: A labelled set or a TOML file of several, see `models.detection.sets`.
        model: "edge-yolo-n", "edge-yolo-s" or "edge-yolo-m".
        head: "anchor-free", or "anchors" for a YOLOv3 head with anchors found in the data.
        size: Side of the input in pixels, a multiple of 32; the first half of the run uses smaller pictures.
        weights: "imagenet" for the backbone, a `.keras` or `.tflite` of the same network to go on from, or None for
            random ones.
        distill: Another network of the family with the same classes, whose answers to the same pictures are learned
            beside the labels; a `.keras` or a float `.tflite`. None for none.
        epochs: Epochs of the schedule.
        max_minutes: Minutes of training after which the schedule ends even if epochs are left; 0 for no limit. All
            schedules follow whichever of the two is further, so a slow machine gets a short but complete schedule.
        batch_size: Images per step.
        learning_rate: Peak of the cosine schedule.
        weight_decay: AdamW's, on kernels only.
        ema: Decay per step of the averaged weights.
        mosaic: Probability of a mosaic; none in the last fifth of the run.
        rare_threshold: Images of classes shown in fewer than this fraction of images are repeated.
        val_fraction: Share of the training pictures held out where no set has a validation split.
        eval_every: Epochs between two validations.
        seed: Of weights, splits, order and augmentation.
        training_data: Name, version and author of the data, for the file that is deployed.
        licence: SPDX identifier of the licence of the result.
        attribution: Text that must travel with the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["detector"] = "detector"
    data: Path
    model: Literal["edge-yolo-n", "edge-yolo-s", "edge-yolo-m"] = "edge-yolo-n"
    head: Literal["anchor-free", "anchors"] = "anchor-free"
    size: Positive = 320
    weights: str | None = "imagenet"
    distill: Path | None = None
    epochs: Positive = 60
    max_minutes: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    ema: Share = 0.998
    mosaic: Annotated[float, Field(ge=0, le=1)] = 0.6
    rare_threshold: Share = 0.35
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    eval_every: Positive = 3
    seed: Annotated[int, Field(ge=0)] = 0
    training_data: str | None = None
    licence: str | None = None
    attribution: str | None = None

    @property
    def start_file(self) -> Path | None:
        """The network that the run goes on from; None where it starts from a backbone or from nothing."""
        return None if self.weights in (None, "imagenet") else Path(str(self.weights))

    @model_validator(mode="after")
    def _teachable(self) -> DetectorConfig:
        if self.distill is not None and self.head != "anchor-free":
            raise ValueError("--distill needs --head anchor-free: only that head learns from a teacher's answers")
        return self

    @field_validator("size")
    @classmethod
    def _whole_cells(cls, size: int) -> int:
        if size % 32:
            raise ValueError("expected a multiple of 32")
        return size
