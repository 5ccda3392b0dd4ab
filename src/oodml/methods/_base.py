"""What a method is to the training loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from oodml.model import Embedder


@dataclass(frozen=True)
class Space:
    """The sizes a method is built for.

    n_classes: train classes. dim: of the embedding. feature_dim: of the pooled features.
    """

    n_classes: int
    dim: int
    feature_dim: int


@dataclass(frozen=True)
class Batch:
    """One training batch as a method sees it.

    features: [n f] pooled, un-normalised output of the backbone.
    heads: the outputs of the method's head by name; `embeddings` is the one called "embedding".
    labels: [n] in 0 … n_classes-1.
    step: training step, from 0.
    generator: the source of all randomness of the step, on the CPU.
    images: [m 3 h w] uint8, or None when training on cached features.
    second_features, second_images: the same images under another augmentation, where the method
        asks for two views: features in head mode, images in finetune mode.
    encode: pooled features [n f] of such images by a model, in the precision of the training.
        Where several processes train, each holds a share of the images only; this gives all.
    """

    features: Float[Tensor, "n f"]
    heads: dict[str, Float[Tensor, "n _"]]
    labels: Int[Tensor, " n"]
    step: int
    generator: torch.Generator
    images: UInt8[Tensor, "m 3 h w"] | None = None
    second_features: Float[Tensor, "n f"] | None = None
    second_images: UInt8[Tensor, "m 3 h w"] | None = None
    encode: Callable[[Embedder, Tensor], Tensor] = Embedder.features

    @property
    def embeddings(self) -> Float[Tensor, "n d"]:
        return self.heads["embedding"]


class BaseMethod(nn.Module):
    """A method: its loss terms, its own modules and how they are optimised.

    A subclass overrides what it needs; the loop knows nothing else of a method. A checkpoint holds
    its weights and buffers, and what it keeps in attributes: numbers, text, tensors, numpy arrays,
    lists, tuples, dictionaries, deques and sets of them; and what optimisers, generators, modules
    and other objects hold, a miner's counters say, that `__init__` or `prepare` makes. What it
    can't hold, such as iterators, is named in a warning; `oodml check` tries whether it matters.
    """

    modes: ClassVar[dict[str, str]] = {"finetune": "", "head": ""}
    """The training modes; one that makes no sense for the method has the reason beside it."""

    n_views: ClassVar[int] = 1
    """How many views of each image a batch holds: 1 or 2."""

    trains: ClassVar[bool] = True
    """Whether there is anything to train."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def head(self) -> nn.Module | None:
        """The module from features to heads, or None for one linear, L2-normalised layer."""
        return None

    def prepare(self, model: Embedder) -> None:
        """Called once before the first step, e.g. to copy the model for a momentum encoder."""

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss terms of a batch by name; their sum is minimised, each is logged."""
        raise NotImplementedError

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimiser groups of the method's own parameters (never weight-decayed by default)."""
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": own, "lr": lr, "weight_decay": 0.0}] if own else []

    def after_step(self, batch: Batch, model: Embedder) -> None:
        """Called after each optimiser step, e.g. to update a momentum encoder."""
