"""The pixels themselves instead of a network: a baseline that every network should exceed."""

from torch import nn

from oodml.backbones._base import Backbone
from oodml.errors import OodmlError


def backbone(weights: str | None = None, grid: int = 16) -> Backbone:
    """The image averaged over grid × grid cells; each channel of each cell is one feature."""
    if weights not in (None, "none"):
        raise OodmlError("backbone 'pixels' has no weights", location="weights", given=weights)
    network = nn.Sequential(
        nn.AdaptiveAvgPool2d(grid), nn.Flatten(), nn.Unflatten(1, (3 * grid**2, 1, 1))
    )
    return Backbone(network, 3 * grid**2, 64)
