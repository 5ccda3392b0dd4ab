"""The interface of a backbone, and loading its weights from a file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodml.errors import OodmlError


class Backbone(nn.Module):
    """A network from images to a feature map, with the input normalization that it expects.

    Args:
        network: the network from normalized images to its feature map or tokens. Its
            `forward_features` is called if it has one.
        features: number of channels of the feature map.
        image_size: side of the square input that it was trained on, in pixels.
        mean: per-channel mean that is subtracted from images in [0, 1].
        std: per-channel standard deviation that they are divided by.
        channels_last: whether the network runs faster in that memory format.
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
        self.set_memory_format(torch.channels_last if channels_last else torch.contiguous_format)
        self.features = features
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def set_memory_format(self, memory_format: torch.memory_format) -> None:
        """Use this memory format for the network's weights and inputs."""
        self.memory_format = memory_format
        self.network.to(memory_format=memory_format)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c rows columns"]:
        """The feature map of images in [0, 1]; tokens of a transformer form a single row.

        Raises:
            OodmlError: if the network does not accept images of this size.
        """
        normalized = (images - self.mean) / self.std
        normalized = normalized.contiguous(memory_format=self.memory_format)
        extract = getattr(self.network, "forward_features", self.network)
        try:
            output: Tensor = extract(normalized)
        except AssertionError as error:  # timm's networks of a fixed input size
            height, width = images.shape[2:]
            raise OodmlError(
                f"the network does not accept images of {height}×{width} pixels: {error}. Remove "
                f"image_size to use its own, {self.image_size}.",
                location="image_size",
                given=height,
                allowed=(str(self.image_size),),
            ) from error
        if output.ndim == 3:
            prefix = getattr(self.network, "num_prefix_tokens", 0)
            return output[:, prefix:].transpose(1, 2).unsqueeze(2)
        if output.ndim == 4 and output.shape[1] != self.features:
            return output.permute(0, 3, 1, 2)
        return output


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a .pth file that contains only tensors.

    Raises:
        OodmlError: if the file is missing or cannot be read.
    """
    location = str(path)
    if not path.exists():
        raise OodmlError(f"{path}: no such weights file", location=location)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types of exceptions
        reason = str(error).partition("\n")[0]
        raise OodmlError(f"{path}: cannot read weights: {reason}", location=location) from error
    if isinstance(state, Mapping):
        state = state.get("state_dict", state)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise OodmlError(f"{path}: expected a mapping of names to tensors", location=location)
    return state


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights by name. Tensors that the network lacks, such as a classifier's, are ignored.

    Raises:
        OodmlError: if a tensor of the network is missing from the file or has another shape.
    """
    location = str(path)
    wanted = network.state_dict()
    given = {key: value for key, value in read_weights(path).items() if key in wanted}
    missing = sorted(key for key in set(wanted) - set(given) if "num_batches" not in key)
    if missing:
        raise OodmlError(
            f"{path}: {len(missing)} tensors of the network are missing, first {missing[0]!r}",
            location=location,
            given=missing,
        )
    for key, value in given.items():
        if value.shape != wanted[key].shape:
            raise OodmlError(
                f"{path}: {key} has the shape {tuple(value.shape)}; "
                f"expected {tuple(wanted[key].shape)}",
                location=location,
                given=tuple(value.shape),
            )
    network.load_state_dict(given, strict=False)
