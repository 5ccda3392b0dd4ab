"""The Poincaré ball: points from embeddings, and distances (Ermolov et al., arXiv 2203.10833)."""

import torch
from jaxtyping import Float
from torch import Tensor


def to_ball(
    vectors: Float[Tensor, "n d"], curvature: float, clip: float | None
) -> Float[Tensor, "n d"]:
    """Map vectors to points of the ball by the exponential map at its center.

    Args:
        vectors: vectors [n d].
        curvature: the ball has the curvature -curvature and the radius curvature^-½.
        clip: length that longer vectors are shortened to first (feature clipping), or None.
    """
    lengths = (vectors.square().sum(1, keepdim=True) + 1e-12).sqrt()
    if clip is not None:
        vectors = vectors * (clip / lengths).clamp(max=1)
        lengths = lengths.clamp(max=clip)
    scaled = curvature**0.5 * lengths
    # float32 tanh reaches 1, where distances are infinite
    points: Tensor = vectors * (scaled.tanh().clamp(max=1 - 1e-5) / scaled)
    return points


def ball_distances(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], curvature: float
) -> Float[Tensor, "n m"]:
    """Hyperbolic distances of all pairs of points of the ball."""
    norms_a, norms_b = a.square().sum(1, keepdim=True), b.square().sum(1)
    squared = (norms_a + norms_b - 2 * a @ b.T).clamp(min=0)
    ratio = curvature * squared / ((1 - curvature * norms_a) * (1 - curvature * norms_b))
    distances: Tensor = 2 / curvature**0.5 * torch.asinh((ratio + 1e-12).sqrt())
    return distances
