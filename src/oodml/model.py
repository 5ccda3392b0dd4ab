"""The model that is trained: a backbone, pooling, and a head."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ModelSettings(BaseModel):
    """What is trained.

    backbone: a name of `names("backbones")` or of a timm network, or an import path.
    mode: "head" trains one layer on features embedded once, "finetune" the whole network.
    dim: of the embedding. image_size: pixels of the square input; None is the backbone's own.
    views: augmented views of every train image that are embedded in head mode.
    weights: a local file of weights instead of the backbone's own; "none" for no weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "lite0"
    mode: Literal["head", "finetune"] = "head"
    dim: int = Field(128, ge=1)
    pooling: Literal["avg", "max", "avg+max"] = "avg"
    normalize: bool = True
    image_size: int | None = Field(None, ge=8)
    views: int = Field(4, ge=1)
    weights: str | None = None
    freeze_batch_norm: bool = True
