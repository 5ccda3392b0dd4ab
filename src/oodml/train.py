"""The one training loop, for every method, zero-shot and few-shot."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainSettings(BaseModel):
    """How long and how fast to train; the defaults are the paper's, but for the epochs.

    epochs: at the most; the one with the best `select` on the validation classes is kept.
    batch_size: images a batch, `per_class` of each of batch_size / per_class classes.
    lr: of Adam; head_lr: of the head if different. weight_decay: coupled L2, network only.
    warmup_epochs: first epochs in which only the head trains.
    evaluate_every: epochs between two looks at the validation classes.
    refit: after choosing the epoch, train anew on all train classes for as many epochs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(40, ge=0)
    batch_size: int = Field(112, ge=2)
    per_class: int = Field(2, ge=2)
    lr: float = Field(1e-5, gt=0)
    head_lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(4e-4, ge=0)
    warmup_epochs: int = Field(0, ge=0)
    evaluate_every: int = Field(1, ge=1)
    select: str = "recall@1"
    refit: bool = False
    precision: Literal["no", "bf16", "fp16"] = "no"
