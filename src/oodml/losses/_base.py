"""Base classes of losses: signature, precision, and default triplets; and shared geometry."""

import inspect
from dataclasses import InitVar, dataclass, field
from typing import Any, dataclass_transform

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from oodml.miners._base import negative_mask, positive_mask, squared_distance_matrix
from oodml.shapes import Labels, Mask, PerTriplet, Scalar, Triplets, Vectors


@dataclass_transform(eq_default=False)
class BaseLoss(nn.Module):
    """A loss. Unless it defines `__init__`, its annotated attributes are its options, as in a
    dataclass, and it creates parameters in `__post_init__`.

    Their learning rate is `own_lr` or, if that is None, the base learning rate times `lr_factor`.
    """

    lr_factor: float = 1.0
    own_lr: float | None = None

    def __init_subclass__(cls) -> None:
        if "__init__" not in vars(cls):
            dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        super().__init__()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimizer groups of the loss's parameters, given the base learning rate `lr`."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        own_lr = lr * self.lr_factor if self.own_lr is None else self.own_lr
        return [{"params": parameters, "lr": own_lr, "weight_decay": 0.0}] if parameters else []


class LabelLoss(BaseLoss):
    """A loss computed from embeddings and labels; `triplets`, as other losses have, is None."""

    def forward(self, embeddings: Vectors, labels: Labels, triplets: None = None) -> Scalar:
        """Return the loss of a batch, computed in full precision even under autocast."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.compute(full_precision(embeddings), labels)

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        """Return the loss of embeddings that have at least single precision."""
        raise NotImplementedError


class ClassVectorLoss(LabelLoss):
    """A label loss with learnable `vectors` [dim], one or `proxies` per class."""

    proxies = 1
    n_classes: int
    dim: int
    generator: InitVar[Generator | None] = field(default=None, kw_only=True)

    def __post_init__(self, generator: Generator | None = None) -> None:
        super().__post_init__()
        self.vectors = class_vectors(self.n_classes * self.proxies, self.dim, generator)


class RandomLabelLoss(LabelLoss):
    """A label loss that draws random numbers if it is given a generator, as in training."""

    def forward(
        self,
        embeddings: Vectors,
        labels: Labels,
        triplets: None = None,
        generator: Generator | None = None,
    ) -> Scalar:
        """Return the loss of a batch; without a generator it is deterministic."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.compute_random(full_precision(embeddings), labels, generator)

    def compute_random(self, rows: Vectors, labels: Labels, generator: Generator | None) -> Scalar:
        """Return the loss of embeddings that have at least single precision."""
        raise NotImplementedError


class TripletLoss(BaseLoss):
    """A loss computed from triplets of rows: anchor, positive, negative."""

    def forward(
        self,
        embeddings: Vectors,
        labels: Labels,
        triplets: Triplets | None = None,
        valid: Mask | None = None,
    ) -> Scalar:
        """Return the loss of a batch, computed in full precision even under autocast.

        By default all triplets that the labels allow count; see `BaseMiner.masked` for `valid`.
        """
        if triplets is None:
            triplets, valid = all_triplets(labels), None
        if valid is None:
            valid = triplets.new_ones(len(triplets), dtype=torch.bool)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.compute(full_precision(embeddings), labels, triplets, valid)

    def compute(self, rows: Vectors, labels: Labels, triplets: Triplets, valid: Mask) -> Scalar:
        """Return the loss of the valid triplets; 0 if there are none."""
        raise NotImplementedError


def accepts_triplets(loss: Any) -> bool:
    """Whether a loss takes the argument `triplets`, with a type other than None."""
    parameter = inspect.signature(getattr(loss, "forward", loss)).parameters.get("triplets")
    return parameter is not None and parameter.annotation not in (None, type(None), "None")


def full_precision(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert half-precision values to single precision; return others unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def all_triplets(labels: Labels) -> Triplets:
    """Every triplet (anchor, positive, negative) that the labels allow, in row order."""
    return (positive_mask(labels)[:, :, None] & negative_mask(labels)[:, None, :]).nonzero()


def next_of_class(labels: Labels) -> Labels:
    """The next row of each row's class, cyclically; the row itself if it has no other."""
    rows = torch.arange(len(labels), device=labels.device)
    ahead = (rows - rows[:, None] - 1) % len(labels)  # 0 for the following row
    return ahead.masked_fill(labels[:, None] != labels, len(labels)).argmin(1)


def squared_distances(embeddings: Vectors, triplets: Triplets) -> tuple[PerTriplet, PerTriplet]:
    """Squared Euclidean distances anchor-positive and anchor-negative of each triplet."""
    anchor, positive, negative = triplets.unbind(1)
    if len(triplets) <= 4 * len(embeddings):
        a, p, n = (embeddings.index_select(0, rows) for rows in (anchor, positive, negative))
        return (a - p).square().sum(-1), (a - n).square().sum(-1)
    # With many triplets per row, looking distances up is cheaper than copying the rows.
    between = squared_distance_matrix(embeddings)
    return between[anchor, positive], between[anchor, negative]


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Scalar:
    """Mean of the values where the mask is True; 0 with zero gradient if it is all False."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def log1p_sum_exp(values: Float[Tensor, "n m"], mask: Bool[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """log(1 + sum of exp over the masked entries) of each row, without overflow."""
    hidden = values.masked_fill(~mask, -torch.inf)
    return torch.cat([hidden.new_zeros(len(hidden), 1), hidden], dim=1).logsumexp(1)


def class_vectors(n_classes: int, dim: int, generator: Generator | None) -> nn.Parameter:
    """One learnable vector per class, with a uniformly random direction and expected length 1."""
    return nn.Parameter(torch.randn(n_classes, dim, generator=generator) / dim**0.5)


def class_mask(labels: Labels, n_classes: int) -> Bool[Tensor, "n c"]:
    """Whether each row belongs to each class."""
    return labels[:, None] == torch.arange(n_classes, device=labels.device)


def cosines(rows: Float[Tensor, "n d"], vectors: Float[Tensor, "c d"]) -> Float[Tensor, "n c"]:
    """Cosine similarity of each row to each vector."""
    return normalize(rows, dim=1) @ normalize(vectors, dim=1).T


def to_ball(vectors: Vectors, curvature: float, clip: float | None) -> Vectors:
    """Map vectors into the Poincaré ball by the exponential map at its center (arXiv 2203.10833).

    The ball has the curvature -curvature and the radius curvature^-½. Vectors that are longer than
    `clip` are shortened first (feature clipping).
    """
    lengths = (vectors.square().sum(1, keepdim=True) + 1e-12).sqrt()
    if clip is not None:
        vectors = vectors * (clip / lengths).clamp(max=1)
        lengths = lengths.clamp(max=clip)
    scaled = curvature**0.5 * lengths
    # float32 tanh reaches 1, where distances are infinite
    points: Tensor = vectors * (scaled.tanh().clamp(max=1 - 1e-5) / scaled)
    return points


def ball_distances(a: Vectors, b: Float[Tensor, "m d"], curvature: float) -> Float[Tensor, "n m"]:
    """Hyperbolic distances of all pairs of points of the ball."""
    norms_a, norms_b = a.square().sum(1, keepdim=True), b.square().sum(1)
    squared = (norms_a + norms_b - 2 * a @ b.T).clamp(min=0)
    ratio = curvature * squared / ((1 - curvature * norms_a) * (1 - curvature * norms_b))
    distances: Tensor = 2 / curvature**0.5 * torch.asinh((ratio + 1e-12).sqrt())
    return distances
