"""Contrastive loss with hyperbolic distances (Hyp, Ermolov et al. 2022, arXiv 2203.10833)."""

from oodml.losses._base import LabelLoss, ball_distances, to_ball
from oodml.losses.supcon import contrast
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
    """Each positive is identified among all other rows by its distance in the Poincaré ball.

    With two rows per class this is the loss of the paper. Combine it with `space = "poincare"`,
    which evaluates by hyperbolic distance: with embeddings of unit length it ranks like the cosine.
    `temperature` divides the distances; `curvature` and `clip` are as in the loss hier.
    """

    temperature: float = 0.2
    curvature: float = 0.1
    clip: float | None = 2.3

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        points = to_ball(rows, self.curvature, self.clip)
        return contrast(-ball_distances(points, points, self.curvature) / self.temperature, labels)
