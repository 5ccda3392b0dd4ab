"""Methods with a momentum copy of the model and a queue of its keys."""

import copy
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.model import Embedder


class MomentumMethod(BaseMethod):
    """Encodes second views with a momentum copy of the model and queues the resulting keys.

    `terms` calls `encode_keys` once per step; `after_step` appends these keys to the queue.

    Args:
        momentum: momentum of the copy.
        queue_batches: length of the queue, in batches.
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
        """Copy the model, or only its head in head mode."""
        self.teacher = copy.deepcopy(model.trained).requires_grad_(False)
        self.queue = []

    def queued_keys(self, batch: Batch) -> Float[Tensor, "m d"]:
        """The keys of earlier batches."""
        return torch.cat(self.queue) if self.queue else batch.outputs[self.key_output].detach()[:0]

    @torch.no_grad()
    def encode_keys(self, batch: Batch) -> Float[Tensor, "n d"]:
        """The keys of a batch: the momentum copy's outputs for the second views."""
        if batch.second_features is not None:
            outputs = self.teacher(batch.second_features)
        else:
            assert batch.second_images is not None
            outputs = self.teacher.head(batch.encode(self.teacher, batch.second_images))
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
