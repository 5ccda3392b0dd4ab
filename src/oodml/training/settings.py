"""How to train."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainSettings(BaseModel):
    """How long and how fast to train.

    epochs: at the most; the one with the best `select` on the validation classes is kept.
    batch_size: images a batch, `per_class` of each of batch_size / per_class classes.
    lr: of Adam; None is 1e-5 (the paper's) in finetune mode and 1e-3 in head mode.
    head_lr: of the head, if different. weight_decay: coupled L2, of the network only.
    warmup_epochs: first epochs in which the backbone rests.
    evaluate_every: epochs between two looks at the validation classes.
    select: a retrieval metric, or the sum of several, "recall@1+map@1000".
    refit: after choosing the epoch, train anew on all train classes for as many epochs.
    keep_epochs: score the test classes after each look, too, to show afterwards what choosing by
        them would have given; nothing is chosen by it.
    precision: of the backbone's pass; losses are always computed in float32.
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
