"""What a training run depends on; a run folder keeps it as ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge.spec.model import Color, Resize

AugmentName = Literal["photos", "digits", "clothing", "none"]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(BaseModel):
    """A run of `edge train classifier` or `edge train localizer`.

    Attributes:
        task: What is trained.
        data: Labelled pictures, see `edge.labelled`.
        model: A name of `models.MODELS`.
        size_wh: Input width and height in pixels; None for the network's published ones.
        color: Channel order of the input; None for what the network's weights, else its input shape, ask for.
        resize: How pictures are fitted to the input, in training and later on the device.
        weights: "imagenet", a `.keras` file whose layers of the same name and shape are taken, or None for random ones.
        epochs: Epochs with the whole network, or with its upper part where `fine_tune_from` says so.
        freeze_epochs: Epochs before those in which only the new head learns (feature extraction).
        fine_tune_from: Where learning begins after the frozen epochs: a layer's name, or a fraction 0..1 of the base's
            layers that stay frozen. Batch normalisation of a pretrained base stays frozen throughout.
        batch_size: Pictures per step.
        learning_rate: Peak of the cosine schedule while everything or the head alone learns.
        fine_tune_rate: Peak of the schedule of the epochs after the frozen ones.
        weight_decay: AdamW's, on kernels only.
        label_smoothing: Probability taken from the true class and spread over all.
        dropout: Share of features dropped before the class head; None for the network's own.
        augment: A policy of `models.training.augment.POLICIES`; None for "digits" on gray pictures, else "photos".
        balance: Draw every class equally often.
        val_fraction: Share of the training pictures held out where the data has no validation split.
        loss_weights: Of the class and of the box loss of a localiser.
        patience: Epochs without a better validation after which a phase ends; 0 to never.
        seed: Of weights, splits, order and augmentation.
        mixed_precision: Compute in 16-bit floats (bfloat16 on a CPU, float16 on a GPU); weights stay float32.
        training_data: Name, version and author of the data, for the file that is deployed.
        licence: SPDX identifier of the licence of the result.
        attribution: Text that must travel with the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["classifier", "localizer"]
    data: Path
    model: str
    size_wh: tuple[Positive, Positive] | None = None
    color: Color | None = None
    resize: Resize = "stretch"
    weights: str | None = None
    epochs: Annotated[int, Field(ge=0)] = 20
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    fine_tune_from: str | Share = 0.0
    batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    fine_tune_rate: Annotated[float, Field(gt=0)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    label_smoothing: Share = 0.0
    dropout: Share | None = None
    augment: AugmentName | None = None
    balance: bool = False
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    loss_weights: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.8, 0.2)
    patience: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    mixed_precision: bool = False
    training_data: str | None = None
    licence: str | None = None
    attribution: str | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> TrainConfig:
        if self.epochs + self.freeze_epochs < 1:
            raise ValueError("there is no epoch to train, expected 1 or more")
        if self.freeze_epochs and self.weights is None:
            raise ValueError("--freeze-epochs keeps what --weights brings; without these there is nothing to keep")
        return self
