"""A small network to train from scratch."""

from pathlib import Path

from torch import nn

from oodml.backbones._base import Backbone, load_weights


def backbone(weights: str | None = None, width: int = 24) -> Backbone:
    """Four strided 3×3 convolutions with group norm, 0.14 M parameters, for 64×64 images.

    Group norm has no running statistics, so class-balanced batches do not bias it. The first
    feature map has `width` channels; the weights are untrained unless a local file is given.
    """
    widths = [3, width, 2 * width, 4 * width, 4 * width]
    layers: list[nn.Module] = []
    for before, after, stride in zip(widths, widths[1:], (2, 2, 2, 1), strict=False):
        layers += [
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.GroupNorm(8, after),
            nn.ReLU(),
        ]
    network = nn.Sequential(*layers)
    if weights not in (None, "none"):
        load_weights(network, Path(str(weights)))
    return Backbone(network, widths[-1], 64)
