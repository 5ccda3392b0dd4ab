"""Fast MoCo: momentum contrast with a distance-weighted queue (arXiv 2004.13458)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from oodml.losses import moco
from oodml.miners.distance import log_inverse_density
from oodml.shapes import Vectors


class Loss(moco.Loss):
    """Momentum contrast that weights each key of the queue by its distance to the query.

    The weight is the inverse density of that distance on the unit sphere. The weights of a query
    have mean 1 over the queue, so equal weights give plain momentum contrast.

    Args:
        temperature: divisor of the inner products.
        lowest, highest: distances are at least `lowest`; keys from `highest` on have weight 0.
        published: reproduce the original code: weights sum to 1 over the queries of each key and
            multiply the logits.
    """

    lowest: float = 0.5
    highest: float = 1.4
    published: bool = False

    def to_queue(self, queries: Vectors, queue: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        products = queries @ queue.T
        logits = products / self.temperature
        norms = queries.square().sum(1, keepdim=True) + queue.square().sum(1)
        between = (norms - 2 * products).detach().clamp(min=self.lowest**2).sqrt()
        log_weights = log_inverse_density(between, queries.shape[1])
        log_weights = log_weights.masked_fill(between >= self.highest, -torch.inf)
        if self.published:
            return log_weights.softmax(0).nan_to_num(0.0) * logits
        shares = log_weights.log_softmax(1).nan_to_num(-torch.inf)
        return logits + shares + math.log(max(len(queue), 1))
