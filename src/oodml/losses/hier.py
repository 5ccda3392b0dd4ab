"""Hierarchical regularization in hyperbolic space (HIER, Kim et al. 2023, arXiv 2212.14258)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from oodml.losses._base import RandomLabelLoss, ball_distances, to_ball
from oodml.shapes import Labels, Scalar, Vectors


class Loss(RandomLabelLoss):
    """Learns ancestors (proxies in the Poincaré ball) of related rows; add it to another loss.

    Rows i and j are related if each is among the nearest neighbors of the other, and k is
    unrelated to i. The lowest common ancestor of some rows is the proxy whose largest distance to
    them is smallest. i and j must be closer to their ancestor than to that of i, j, and k by
    `margin`, and k closer to the latter. The same term applies to the proxies themselves. Without
    a generator, ancestors are exact, and the four nearest related and unrelated rows are used;
    in training, rows are drawn, and so is the noise of the choice of ancestors.

    Args:
        proxies, lr_factor: number of proxies, and their learning rate in base learning rates.
        margin, temperature: the required difference of distances, and of the choice of ancestors.
        neighbors: number of nearest neighbors, at most half of the rows, first of the same class.
        draws: triplets per row; the paper draws 50, at 13 times the cost.
        curvature, clip: the ball has the curvature -curvature, and longer embeddings are shortened
            to the length `clip`, unless it is None.
    """

    def __init__(
        self,
        dim: int,
        proxies: int = 512,
        margin: float = 0.1,
        temperature: float = 0.1,
        neighbors: int = 30,
        draws: int = 8,
        curvature: float = 0.1,
        clip: float | None = 2.3,
        lr_factor: float = 10.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.margin, self.temperature = margin, temperature
        self.neighbors, self.draws = neighbors, draws
        self.curvature, self.clip, self.lr_factor = curvature, clip, lr_factor
        length = 0.9 * (clip or 1) / dim**0.5
        self.proxies = nn.Parameter(torch.randn(proxies, dim, generator=generator) * length)

    def compute_random(self, rows: Vectors, labels: Labels, generator: Generator | None) -> Scalar:
        points = to_ball(rows, self.curvature, self.clip)
        proxies = to_ball(self.proxies, self.curvature, self.clip)
        term = self.hierarchy(points, proxies, labels[:, None] == labels, generator)
        return term + self.hierarchy(proxies, proxies, None, generator)

    def hierarchy(
        self,
        points: Vectors,
        proxies: Float[Tensor, "p d"],
        same: Bool[Tensor, "n n"] | None,
        generator: Generator | None,
    ) -> Scalar:
        """The term of some points, of which some pairs have the same class."""
        between = ball_distances(points.detach(), points.detach(), self.curvature)
        closeness = (-between).exp() + (0 if same is None else same.float())
        j, k, valid = self.related_rows(closeness, generator)
        to_proxy = ball_distances(points, proxies, self.curvature)
        of_i, of_j, of_k = to_proxy[:, None].expand(-1, j.shape[1], -1), to_proxy[j], to_proxy[k]
        both = torch.maximum(of_i, of_j)
        low, high = self.ancestor(both, generator), self.ancestor(both.maximum(of_k), generator)
        differences = (of_i, low - high), (of_j, low - high), (of_k, high - low)
        i, j, k = (((x * y).sum(2) + self.margin).relu() for x, y in differences)
        differ = low.argmax(2) != high.argmax(2)
        return torch.where(valid & differ, i + j + k, 0).sum() / valid.sum().clamp(min=1)

    def related_rows(
        self, closeness: Float[Tensor, "n n"], generator: Generator | None
    ) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n t"], Bool[Tensor, "n t"]]:
        """For each row, related rows, unrelated rows, and which of these pairs exist."""
        n = len(closeness)
        near = torch.zeros_like(closeness, dtype=torch.bool)
        near.scatter_(1, closeness.topk(min(self.neighbors, (n + 1) // 2)).indices, True)
        others = ~torch.eye(n, dtype=torch.bool, device=closeness.device)
        related, score, size = near & near.T & others, closeness, min(4, n)
        if generator is not None:
            score = torch.rand((n, n), generator=generator, device=generator.device).to(closeness)
            size = min(self.draws, n)
        j = score.masked_fill(~related, -torch.inf).topk(size)
        k = score.masked_fill(related | ~others, -torch.inf).topk(size)
        return j.indices, k.indices, j.values.isfinite() & k.values.isfinite()

    def ancestor(
        self, largest: Float[Tensor, "n t p"], generator: Generator | None
    ) -> Float[Tensor, "n t p"]:
        """The chosen proxy as a one-hot vector with the gradient of a softmax."""
        logits = -largest / self.temperature
        if generator is not None:
            noise = torch.rand(logits.shape, generator=generator, device=generator.device)
            logits = logits - (-noise.clamp(1e-20, 1 - 1e-7).log()).log().to(logits)
        soft = logits.softmax(2)
        hard = torch.zeros_like(soft).scatter_(2, soft.argmax(2, keepdim=True), 1.0)
        return hard + soft - soft.detach()
