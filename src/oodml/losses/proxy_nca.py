"""ProxyNCA (Movshovitz-Attias et al. 2017, arXiv 1703.07464) and ProxyNCA++ (arXiv 2004.01113)."""

import torch
from torch import Generator

from oodml.errors import unknown
from oodml.losses._base import ClassVectorLoss, class_mask, cosines
from oodml.shapes import Labels, Scalar, Vectors

SIMILARITIES = ("squared", "plain", "cosine")


class Loss(ClassVectorLoss):
    """Log ratio of an embedding's similarity to its class vector and to all other class vectors.

    Embeddings and class vectors are scaled to length `radius` before they are compared.

    Args:
        similarity: "squared" or "plain" for the negative (squared) Euclidean distance, "cosine"
            for the inner product; divided by `temperature`.
        to_probability: include the correct class in the denominator (ProxyNCA++): cross-entropy.
        lr_factor: learning rate of the class vectors as a multiple of the base learning rate.
        published: divide only the similarity to the correct class, as the original code does.
    """

    radius: float = 3.0
    similarity: str = "squared"
    to_probability: bool = False
    temperature: float = 1.0
    lr_factor: float = 50.0
    published: bool = False

    def __post_init__(self, generator: Generator | None = None) -> None:
        super().__post_init__(generator)
        if self.similarity not in SIMILARITIES:
            raise unknown("similarity", self.similarity, SIMILARITIES, "loss proxy_nca")

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        cosine = cosines(rows, self.vectors)
        squared = 2 * self.radius**2 * (1 - cosine).clamp(min=0)
        if self.similarity == "cosine":
            similarities = self.radius**2 * cosine
        else:
            similarities = -squared if self.similarity == "squared" else -(squared + 1e-12).sqrt()
        own = class_mask(labels, len(self.vectors))
        logits = similarities if self.published else similarities / self.temperature
        if not self.to_probability:
            logits = logits.masked_fill(own, -torch.inf)
        to_own = torch.where(own, similarities, 0).sum(1) / self.temperature
        return (logits.logsumexp(1) - to_own).mean()
