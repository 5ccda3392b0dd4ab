"""A backbone: images in, feature maps out, with the input that it expects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodml.errors import OodmlError


class Backbone(nn.Module):
    """A network from normalised images to a feature map.

    features: channels of the map. image_size: pixels of the square input it was trained on.
    mean, std: of the three channels, by which images in [0, 1] are normalised.
    channels_last: whether the network is faster on images in that layout.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        features: int,
        image_size: int,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.lay_out(torch.channels_last if channels_last else torch.contiguous_format)
        self.features = features
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def lay_out(self, layout: torch.memory_format) -> None:
        """Keep images and convolutions in this layout from now on."""
        self.layout = layout
        self.network.to(memory_format=layout)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c rows columns"]:
        """The feature map of images in [0, 1]; token networks give their tokens as one row."""
        normal = (images - self.mean) / self.std
        normal = normal.contiguous(memory_format=self.layout)
        extract = getattr(self.network, "forward_features", self.network)
        found = extract(normal)
        if found.ndim == 3:
            prefix = getattr(self.network, "num_prefix_tokens", 0)
            return found[:, prefix:].transpose(1, 2).unsqueeze(2)  # type: ignore[no-any-return]
        if found.ndim == 4 and found.shape[1] != self.features:
            return found.permute(0, 3, 1, 2)  # type: ignore[no-any-return]
        return found  # type: ignore[no-any-return]


def timm_names(filter: str = "") -> list[str]:
    """The networks of timm whose name contains `filter`, with and without the weights' tag."""
    pattern = f"*{filter}*" if filter else ""
    return [*timm.list_models(pattern), *timm.list_pretrained(pattern)]


def timm_backbone(name: str, weights: str | None = None) -> Backbone:
    """A timm network without its classifier; weights as in `load_backbone`."""
    try:
        network: Any = timm.create_model(name, pretrained=weights is None, num_classes=0)
    except Exception as error:  # the hub client fails in many ways; each means no weights
        raise OodmlError(
            f"backbone {name!r}: its weights cannot be had ({type(error).__name__}: {error}). "
            'Give a local file (weights = "FILE") or weights = "none".'
        ) from error
    config = network.pretrained_cfg
    if weights not in (None, "none"):
        load_weights(network, Path(str(weights)))
    return Backbone(
        network,
        network.num_features,
        config["input_size"][-1],
        tuple(config["mean"]),
        tuple(config["std"]),
        channels_last=True,
    )


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth that holds tensors only."""
    if not path.exists():
        raise OodmlError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torn or foreign files fail in many ways
        raise OodmlError(f"{path}: not a readable file of weights: {error}") from error
    return state.get("state_dict", state)  # type: ignore[no-any-return]


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights by name; a classifier in the file is passed over, anything else must fit."""
    wanted = network.state_dict()
    given = {key: value for key, value in read_tensors(path).items() if key in wanted}
    missing = sorted(set(wanted) - set(given) - {k for k in wanted if "num_batches" in k})
    if missing:
        raise OodmlError(f"{path}: lacks {len(missing)} tensors of the network, {missing[0]!r} …")
    network.load_state_dict(given, strict=False)
