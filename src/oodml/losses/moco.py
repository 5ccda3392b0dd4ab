"""Momentum contrast: two views of an image against a queue of other images (arXiv 1911.05722)."""

import torch
from jaxtyping import Float
from torch import Tensor

from oodml.losses._base import BaseLoss, full_precision
from oodml.shapes import Scalar, Vectors


class Loss(BaseLoss):
    """Cross-entropy of a query's own key among the queue; `temperature` divides inner products."""

    temperature: float = 0.01

    def forward(self, queries: Vectors, keys: Vectors, queue: Float[Tensor, "m d"]) -> Scalar:
        """Return the loss of first views, given keys of their second views and of other images."""
        with torch.autocast(queries.device.type, enabled=False):
            queries, keys, queue = (full_precision(part) for part in (queries, keys, queue))
            to_key = (queries * keys).sum(1, keepdim=True) / self.temperature
            logits = torch.cat([to_key, self.to_queue(queries, queue)], 1)
            return -logits.log_softmax(1)[:, 0].mean()

    def to_queue(self, queries: Vectors, queue: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """Logits of the keys in the queue."""
        return queries @ queue.T / self.temperature
