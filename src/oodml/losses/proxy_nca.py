"""ProxyNCA and its variants (Movshovitz-Attias et al. 2017, arXiv 1703.07464; ++ 2004.01113)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.errors import unknown
from oodml.losses._base import LabelLoss
from oodml.losses._proxies import class_vectors, cosines, of_class

SIMILARITIES = ("squared", "plain", "cosine")


class Loss(LabelLoss):
    """How much nearer an embedding is to the vector of its class than to all the others'.

    Embeddings and class vectors are scaled to length `radius` before they are compared by
    "squared" or "plain" Euclidean distance, or by "cosine", their inner product; all that is
    divided by `temperature`.
    n_classes, dim: of the class vectors; generator: of their first values.
    similarity: one of these three names.
    to_probability: the own class counts among the others, so that the loss is a cross-entropy.
    lr_factor: of the class vectors' learning rate over the base.
    published: the temperature divides the own class's part alone, as in the original.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        radius: float = 3.0,
        similarity: str = "squared",
        to_probability: bool = False,
        temperature: float = 1.0,
        lr_factor: float = 50.0,
        published: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if similarity not in SIMILARITIES:
            raise unknown("similarity", similarity, SIMILARITIES, "loss proxy_nca")
        self.radius = radius
        self.temperature = temperature
        self.published = published
        self.similarity = similarity
        self.to_probability = to_probability
        self.lr_factor = lr_factor
        self.vectors = class_vectors(n_classes, dim, generator)

    def compute(
        self, embeddings: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        nearness = self.nearness(cosines(embeddings, self.vectors))
        own = of_class(labels, len(self.vectors))
        compared = nearness if self.published else nearness / self.temperature
        if not self.to_probability:
            compared = compared.masked_fill(own, -torch.inf)
        to_own = torch.where(own, nearness, 0).sum(1) / self.temperature
        return (compared.logsumexp(1) - to_own).mean()

    def nearness(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """How near an embedding is to each class vector, given their cosines."""
        if self.similarity == "cosine":
            return self.radius**2 * cosine
        squared = 2 * self.radius**2 * (1 - cosine).clamp(min=0)
        return -squared if self.similarity == "squared" else -(squared + 1e-12).sqrt()

    def own_lr(self, lr: float) -> float:
        return lr * self.lr_factor
