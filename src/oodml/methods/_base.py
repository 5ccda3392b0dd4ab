"""The interface between a method and the training loop, and methods with a momentum encoder."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from oodml.model import Embedder


@dataclass(frozen=True)
class Sizes:
    """The sizes that a method is built for."""

    n_classes: int
    dim: int
    feature_dim: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """One training batch as a method receives it."""

    features: Float[Tensor, "n f"]  # pooled, unnormalized backbone features
    outputs: dict[str, Float[Tensor, "n _"]]  # of the head by name; one is called "embedding"
    labels: Int[Tensor, " n"]  # the class of each row, in 0 … n_classes - 1
    step: int  # from 0
    generator: torch.Generator  # the only source of randomness for the step, on the CPU
    images: UInt8[Tensor, "m 3 h w"] | None = None
    """Images of this process's share in distributed training; None with cached features."""
    second_features: Float[Tensor, "n f"] | None = None  # of a second view, if `n_views` is 2
    second_images: UInt8[Tensor, "m 3 h w"] | None = None  # instead, in finetune mode
    encode: Callable[[Embedder, Tensor], Tensor] = Embedder.features
    """Computes features [n f] of images, of all processes, in the precision of the training."""

    @property
    def embeddings(self) -> Float[Tensor, "n d"]:
        """The embeddings that are trained."""
        return self.outputs["embedding"]


class BaseMethod(nn.Module):
    """A method: its loss terms, its own modules, and how they are optimized.

    A subclass overrides what it needs. A checkpoint stores the method's parameters and buffers;
    override `get_extra_state` and `set_extra_state` for other state, such as optimizers, queues,
    and counters. `oodml check` tests that training resumes exactly.
    """

    modes: ClassVar[dict[str, str]] = {"finetune": "", "head": ""}
    """Maps each training mode to "" if the method supports it, else to the reason it does not."""
    n_views: ClassVar[int] = 1
    """Number of augmented views of each image in a batch: 1 or 2."""
    trains: ClassVar[bool] = True
    """Whether the method has anything to train."""
    rotates: bool = False
    """Whether training rotates images by random quarter turns, whose number is then the label."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes

    def head(self) -> nn.Module | None:
        """The head on the pooled features, or None for one linear, L2-normalized layer."""
        return None

    def prepare(self, model: Embedder) -> None:
        """Set up before the first step, such as copying the model for a momentum encoder."""

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss terms of a batch by name. Their sum is minimized; each one is logged."""
        raise NotImplementedError

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimizer groups of the method's own parameters, without weight decay by default."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": parameters, "lr": lr, "weight_decay": 0.0}] if parameters else []

    def after_step(self, batch: Batch, model: Embedder) -> None:
        """Update state after each optimizer step, such as a momentum encoder."""


class MomentumMethod(BaseMethod):
    """Encodes second views with a momentum copy of the model and queues the resulting keys.

    `terms` calls `encode_keys` once per step; `after_step` appends these keys to the queue.
    """

    n_views: ClassVar[int] = 2
    key_output: ClassVar[str] = "embedding"
    """The output of the head that keys are taken from."""

    def __init__(self, sizes: Sizes, momentum: float, queue_batches: int) -> None:
        super().__init__(sizes)
        self.momentum, self.queue_batches = momentum, queue_batches
        self.teacher: Any = None
        self.queue: list[Tensor] = []

    def prepare(self, model: Embedder) -> None:
        self.teacher = copy.deepcopy(model.trained).requires_grad_(False)
        self.queue = []

    def queued_keys(self, batch: Batch) -> Float[Tensor, "m d"]:
        """The keys of earlier batches."""
        return torch.cat(self.queue) if self.queue else batch.outputs[self.key_output].detach()[:0]

    @torch.no_grad()
    def encode_keys(self, batch: Batch) -> Float[Tensor, "n d"]:
        """The keys of a batch: the momentum copy's outputs for the second views."""
        if batch.second_images is not None:
            outputs = self.teacher.head(batch.encode(self.teacher, batch.second_images))
        else:
            outputs = self.teacher(batch.second_features)
        keys: Tensor = outputs[self.key_output]
        self.keys = keys
        return keys

    @torch.no_grad()
    def after_step(self, batch: Batch, model: Embedder) -> None:
        """Move the momentum copy toward the model and append the batch's keys to the queue."""
        current: list[Tensor] = list(model.trained.parameters())
        torch._foreach_lerp_(list(self.teacher.parameters()), current, 1 - self.momentum)
        self.queue = [*self.queue, self.keys][-self.queue_batches :]

    def get_extra_state(self) -> dict[str, Any]:
        return {"queue": self.queue}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.queue = state["queue"]
