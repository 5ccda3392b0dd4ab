"""Proxy-Anchor loss (Kim et al. 2020, arXiv 2003.13911)."""

from torch import Generator

from oodml.errors import unknown
from oodml.losses._base import ClassVectorLoss, class_mask, cosines, masked_mean
from oodml.losses._base import log1p_sum_exp as soft_sum
from oodml.shapes import Labels, Scalar, Vectors

MODES = ("anchor", "nca")
SIMILARITIES = ("cosine", "euclidean")


class Loss(ClassVectorLoss):
    """Each class vector attracts the embeddings of its class and repels all others.

    Hard embeddings have the largest weights. The attraction is averaged over the classes in the
    batch, the repulsion over all classes.

    Args:
        alpha, delta: sharpness and margin.
        lr_factor: learning rate of the class vectors as a multiple of the base learning rate.
        mode: "anchor", or "nca" to sum over class vectors for each embedding.
        similarity: "cosine", or "euclidean" for the negative distance of normalized vectors.
        published: reproduce the original code: the attraction of a class (in mode "nca", its
            exponential) is multiplied by its number of rows in the batch, and with "euclidean" the
            sign of delta is reversed.
    """

    alpha: float = 32.0
    delta: float = 0.1
    lr_factor: float = 2000.0
    mode: str = "anchor"
    similarity: str = "cosine"
    published: bool = False

    def __post_init__(self, generator: Generator | None = None) -> None:
        super().__post_init__(generator)
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES, "loss proxy_anchor")
        if self.similarity not in SIMILARITIES:
            raise unknown("similarity", self.similarity, SIMILARITIES, "loss proxy_anchor")

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        similarities, delta = cosines(self.vectors, rows), self.delta
        if self.similarity == "euclidean":
            similarities = -(2 - 2 * similarities).clamp(min=1e-12).sqrt()
            delta = -delta if self.published else delta
        own = class_mask(labels, len(self.vectors)).T
        pulls, pushes = self.alpha * (delta - similarities), self.alpha * (delta + similarities)
        if self.mode == "nca":
            if self.published:
                pulls = pulls + own.sum(1, keepdim=True).clamp(min=1).log()
            return (soft_sum(pulls.T, own.T) + soft_sum(pushes.T, ~own.T)).mean()
        pull, push = soft_sum(pulls, own), soft_sum(pushes, ~own)
        if self.published:
            return (own.sum(1) * pull).sum() / len(labels) + push.mean()
        return masked_mean(pull, own.any(1)) + push.mean()
