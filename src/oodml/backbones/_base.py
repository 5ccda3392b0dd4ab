"""The interface of a backbone, and loading its weights from a file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from oodml.errors import OodmlError, error_at, unknown

Pooling = Literal["model", "cls", "cls+avg", "gem", "avg", "max", "avg+max"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
SUMS = {"avg+max": ("avg", "max"), "cls+avg": ("cls", "avg")}
"""The poolings that are composed of others: a sum, and a concatenation."""
GEM_POWER = 3.0

TestTransform = Callable[[Image.Image, int], NDArray[Any]]
"""Maps an image and a side in pixels to [side side 3], uint8 or floating point in [0, 1]."""


def pool_features(maps: Float[Tensor, "n c rows columns"], pooling: str) -> Float[Tensor, "n c"]:
    """Pool feature maps over positions by "avg" (mean), "max", "avg+max" (the sum of both), or
    "gem", the generalized mean with exponent 3 of the positive part (arXiv 1711.02512)."""
    if pooling == "avg":
        return maps.mean((2, 3))
    if pooling == "max":
        return maps.amax((2, 3))
    if pooling == "gem":
        return maps.clamp(min=1e-6).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)
    return maps.mean((2, 3)) + maps.amax((2, 3))


def combine_poolings(pooled: Mapping[str, Tensor], pooling: str) -> Tensor:
    """A pooling from its parts: the sum for "avg+max", the concatenation for "cls+avg"."""
    if pooling == "avg+max":
        return pooled["avg"] + pooled["max"]
    if pooling == "cls+avg":
        return torch.cat([pooled["cls"], pooled["avg"]], dim=1)
    return pooled[pooling]


class Backbone(nn.Module):
    """A network from images to a feature map, with the input normalization that it expects.

    Args:
        network: from normalized images to its feature map or tokens, by its `forward_features` if
            it has one; `features` is the number of channels.
        image_size: side of the square input that it was trained on, in pixels.
        mean, std: per-channel mean and standard deviation that normalize images in [0, 1].
        channels_last: whether the network runs faster in that memory format.
        pool, dim: maps the network and its output to the embedding [n dim] that its authors deploy;
            by default the mean of the feature map, and `features`.
        test_transform: the authors' own, from an image and a side in pixels; by default "base".
        only_pooled: whether the network's output is the embedding itself, without a feature map.
        encode_text: maps texts to vectors [n d] in the same space, if there is a text tower.
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
        *,
        pool: Callable[[Any, Tensor], Tensor] | None = None,
        dim: int | None = None,
        test_transform: TestTransform | None = None,
        only_pooled: bool = False,
        encode_text: Callable[[list[str]], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.encode_text = encode_text
        self.network = network
        self.set_memory_format(torch.channels_last if channels_last else torch.contiguous_format)
        self.features, self.image_size, self.test_transform = features, image_size, test_transform
        self.dim = dim or features
        self._pool, self._only_pooled = pool, only_pooled
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def set_memory_format(self, memory_format: torch.memory_format) -> None:
        self.memory_format = memory_format
        self.network.to(memory_format=memory_format)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c rows columns"]:
        """The feature map of images in [0, 1]; tokens of a transformer form a single row."""
        return self._to_map(self._run(images))

    def pooled(
        self, images: Float[Tensor, "n 3 h w"], poolings: Sequence[str]
    ) -> dict[str, Float[Tensor, "n _"]]:
        """Several poolings of images in [0, 1] from one pass through the network."""
        for name in poolings:
            self.check_pooling(name)
        output = self._run(images)
        wanted = {part for name in poolings for part in SUMS.get(name, (name,))}
        parts = {}
        if "model" in wanted and (self._pool is not None or self._only_pooled):
            parts["model"] = output if self._pool is None else self._pool(self.network, output)
        if "cls" in wanted:
            parts["cls"] = output[:, 0]
        if wanted - parts.keys():
            feature_map = self._to_map(output)
            for name in wanted - parts.keys():
                parts[name] = pool_features(feature_map, "avg" if name == "model" else name)
        return {name: combine_poolings(parts, name) for name in poolings}

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings that the network has."""
        if self._only_pooled:
            return ("model",)
        tokens = int(getattr(self.network, "num_prefix_tokens", 0))
        has_class_token = tokens > int(getattr(self.network, "num_reg_tokens", 0) or 0)
        return POOLINGS if has_class_token else tuple(p for p in POOLINGS if "cls" not in p)

    def check_pooling(self, pooling: str) -> None:
        """Raise OodmlError if the network lacks a pooling, such as "cls" without a class token."""
        if pooling not in self.poolings:
            raise unknown("pooling of this network", pooling, self.poolings, "pooling")

    def width(self, pooling: str) -> int:
        """The dimension of the features under a pooling."""
        if pooling == "model":
            return self.dim
        return self.features * (2 if pooling == "cls+avg" else 1)

    def _run(self, images: Tensor) -> Tensor:
        normalized = (images - self.mean) / self.std
        normalized = normalized.contiguous(memory_format=self.memory_format)
        extract = getattr(self.network, "forward_features", self.network)
        try:
            return extract(normalized)  # type: ignore[no-any-return]
        except AssertionError as error:  # timm's networks of a fixed input size
            height, width = images.shape[2:]
            problem = f"the network does not accept images of {height}×{width} pixels: {error}"
            advice = f"Remove image_size to use its own, {self.image_size}."
            allowed = (str(self.image_size),)
            raise OodmlError(f"{problem}. {advice}", "image_size", height, allowed) from error

    def _to_map(self, output: Tensor) -> Tensor:
        if output.ndim == 2:
            return output[:, :, None, None]
        if output.ndim == 3:
            prefix = getattr(self.network, "num_prefix_tokens", 0)
            return output[:, prefix:].transpose(1, 2).unsqueeze(2)
        if output.ndim == 4 and output.shape[1] != self.features:
            return output.permute(0, 3, 1, 2)
        return output


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a .pth file that contains only tensors."""
    if not path.exists():
        raise error_at(path, "no such weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types of exceptions
        reason = str(error).partition("\n")[0]
        raise error_at(path, f"cannot read weights: {reason}") from error
    if isinstance(state, Mapping):
        state = state.get("state_dict", state)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise error_at(path, "expected a mapping of names to tensors")
    return state


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights by name. Tensors that the network lacks, such as a classifier's, are ignored."""
    wanted = network.state_dict()
    given = {key: value for key, value in read_weights(path).items() if key in wanted}
    if missing := sorted(key for key in set(wanted) - set(given) if "num_batches" not in key):
        problem = f"{len(missing)} tensors of the network are missing, first {missing[0]!r}"
        raise error_at(path, problem, missing)
    for key, value in given.items():
        shape, expected = tuple(value.shape), tuple(wanted[key].shape)
        if shape != expected:
            raise error_at(path, f"{key} has the shape {shape}; expected {expected}", shape)
    network.load_state_dict(given, strict=False)
