"""Settings of a training run."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainSettings(BaseModel):
    """How long and how fast to train.

    Attributes:
        epochs: maximum number of epochs; the epoch with the best `select` on the validation
            classes is used.
        batch_size: images per batch, from batch_size / per_class classes.
        per_class: images per class in a batch.
        lr: learning rate of Adam; by default 1e-5 (as published) in finetune mode and 1e-3 in
            head mode.
        head_lr: learning rate of the head, if it differs.
        weight_decay: L2 penalty on the weights of backbone and head, added to the gradient.
        warmup_epochs: number of initial epochs with the backbone frozen.
        evaluate_every: number of epochs between two evaluations of the validation classes.
        select: the retrieval metric that selects the epoch, or a sum of several,
            "recall@1+map@1000".
        refit: after selecting the epoch, train again on all training classes for that many epochs.
        keep_epochs: also evaluate the test classes, to show what selecting by them would have
            given. It never changes which epoch is selected.
        precision: precision of the backbone; losses are always computed in float32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(40, ge=0)
    batch_size: int = Field(112, ge=4)
    per_class: int = Field(2, ge=2)
    lr: float | None = Field(None, gt=0)
    head_lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(4e-4, ge=0)
    warmup_epochs: int = Field(0, ge=0)
    evaluate_every: int = Field(1, ge=1)
    select: str = "recall@1"
    refit: bool = False
    keep_epochs: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
