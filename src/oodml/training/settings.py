"""Settings of a training run."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Retain(BaseModel):
    """Weights of the penalties for the distance to the pretrained model; see `Retention`.

    Attributes:
        embedding: weight of the distance of backbone features.
        relation: weight of the distillation of similarities within a batch.
        weights: weight of the distance of parameters.
        teacher: "cached" compares with pretrained features of the test view, computed once; "live"
            with those of the same augmented view, at the cost of another forward pass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: float = Field(0.0, ge=0)
    relation: float = Field(0.0, ge=0)
    weights: float = Field(0.0, ge=0)
    teacher: Literal["cached", "live"] = "cached"


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
        keep_epochs: also evaluate the test classes; they never select the epoch.
        precision: precision of the backbone; losses are always computed in float32.
        layer_decay: factor on the learning rate of each backbone layer further from the output.
        gradient_checkpointing: compute activations of the backbone again in the backward pass.
        chunk_size: images that pass through the backbone at a time; gradients are those of the
            whole batch (gradient caching, Gao et al. 2021, arXiv 2101.06983).
        retain: penalties for the distance to the pretrained model.
        ema: decay of an exponential moving average of the weights, which is evaluated and used.
        average: shares of the trained weights in averages with the pretrained weights, of which
            the best on the validation classes is used.
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
    layer_decay: float = Field(1.0, gt=0, le=1)
    gradient_checkpointing: bool = False
    chunk_size: int | None = Field(None, ge=1)
    retain: Retain = Retain.model_validate({})
    ema: float | None = Field(None, gt=0, lt=1)
    average: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
