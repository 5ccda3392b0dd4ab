"""Base class of miners, pair masks, distances, and weighted sampling of rows."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn.functional import normalize

from oodml.shapes import Labels, MaskedTriplets, Rows, Square, Triplets, Uniform, Vectors

Pairs = Bool[Tensor, "n n"]
Partners = tuple[Rows, Rows]


class BaseMiner:
    """Chooses triplets of rows (anchor, positive, negative) from a batch."""

    relation: ClassVar[str] = "ordinary"
    """Relation between the labels of a triplet.

    "ordinary": the positive has the anchor's class, the negative another one. "within": all three
    rows have one class. "across": they have three classes. "ordinary or apart": ordinary, or the
    anchor, itself as the positive, and another row of its class as the negative.
    """
    draws = 2
    """Number of random numbers that `choose` needs for each row."""

    def __call__(self, embeddings: Vectors, labels: Labels, generator: Generator) -> Triplets:
        """Return triplets; an anchor without a positive or negative has none."""
        triplets, valid = self.masked(embeddings, labels, generator)
        return triplets[valid]

    def masked(self, embeddings: Vectors, labels: Labels, generator: Generator) -> MaskedTriplets:
        """Return a fixed number of triplets and a mask of the valid ones, on the device."""
        shape, device = (self.draws, len(labels)), generator.device
        uniform = torch.rand(shape, generator=generator, device=device).to(labels.device)
        embeddings = embeddings.detach()
        if embeddings.dtype in (torch.float16, torch.bfloat16):
            embeddings = embeddings.float()
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.choose(embeddings, labels, uniform)

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        """Return triplets and a mask of the valid ones, given `draws` numbers from U[0, 1) per row.

        Shapes do not depend on the data, so it works under `torch.func.vmap`; at least float32.
        """
        raise NotImplementedError


class PairMiner(BaseMiner):
    """Chooses one positive and one negative of each row, which is the anchor."""

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        partners = self.partners(embeddings, positives, negatives, uniform)
        return one_triplet_per_row(*partners), positives.any(1) & negatives.any(1)

    def partners(self, rows: Vectors, same: Pairs, other: Pairs, uniform: Uniform) -> Partners:
        """Return a positive and a negative of each row, from masks of its class and of others."""
        raise NotImplementedError


def positive_mask(labels: Labels) -> Pairs:
    """Mask of pairs of different rows with the same label."""
    diagonal = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (labels[:, None] == labels) & ~diagonal


def negative_mask(labels: Labels) -> Pairs:
    """Mask of pairs of rows with different labels."""
    return labels[:, None] != labels


def draw(weights: Float[Tensor, "n m"], uniform: Float[Tensor, " n"]) -> Rows:
    """Draw one column per row in proportion to its weight (>= 0); any column if all are 0."""
    cumulative = weights.cumsum(1)
    # Below the total, so that rounding cannot select a column after the last positive weight.
    threshold = uniform.to(weights.dtype) * (1 - 1e-6) * cumulative[:, -1]
    chosen = torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]
    return chosen.clamp(max=weights.shape[1] - 1)


def draw_from(mask: Bool[Tensor, "n m"], uniform: Float[Tensor, " n"]) -> Rows:
    """Draw one column per row uniformly from the mask; arbitrary where the mask is empty."""
    return draw(mask.to(torch.float32), uniform)


def prefer(choice: Bool[Tensor, "n m"], otherwise: Bool[Tensor, "n m"]) -> Bool[Tensor, "n m"]:
    """Replace rows of `choice` that are all False by the rows of `otherwise`."""
    return torch.where(choice.any(1, keepdim=True), choice, otherwise)


def distances(embeddings: Vectors) -> Square:
    """Euclidean distances between all rows."""
    return squared_distance_matrix(embeddings).sqrt()


def squared_distance_matrix(embeddings: Vectors) -> Square:
    """Squared Euclidean distances between all rows."""
    products = embeddings @ embeddings.T
    norms = products.diagonal()
    return (norms[:, None] + norms - 2 * products).clamp(min=0)


def unit_distances(embeddings: Vectors) -> Square:
    """Euclidean distances between all rows after scaling them to unit length."""
    unit = normalize(embeddings, dim=1)
    return (2 - 2 * unit @ unit.T).clamp(min=0).sqrt()


def one_triplet_per_row(positive: Rows, negative: Rows) -> Triplets:
    """Triplets in which every row is the anchor once."""
    return torch.stack([torch.arange(len(positive), device=positive.device), positive, negative], 1)
