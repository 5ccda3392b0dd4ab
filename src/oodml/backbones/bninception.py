"""BN-Inception, as used in older publications; its weights are read from a local file."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from oodml.backbones._base import Backbone, load_weights
from oodml.errors import OodmlError

WEIGHTS = "bn_inception-52deb4733.pth"
MEAN = (128 / 255, 117 / 255, 104 / 255)  # of red, green, blue; the range is 0 … 255
STD = (1 / 255,) * 3

# Of each block: 1×1; 3×3 reduced, 3×3; double 3×3 reduced, first, second; pooling's projection.
# Blocks that halve the map have no 1×1 and no projection.
BLOCKS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}
MAX_POOLED = ("3c", "4e", "5b")


def backbone(weights: str | None = None) -> Backbone:
    """BN-Inception (Ioffe & Szegedy, 2015), 10.3 M parameters without its classifier.

    The weights are bninception's own file, or one with the same tensor names; "none" for untrained.
    """
    if weights is None:
        source = f'local file {WEIGHTS} (from the package pretrainedmodels), or to "none"'
        problem = f'backbone "bninception": set weights to the {source} for untrained weights'
        raise OodmlError(problem, location="weights")
    network = BNInception()
    if weights != "none":
        load_weights(network, Path(weights))
    return Backbone(network, 1024, 224, MEAN, STD, channels_last=True)


class BNInception(nn.Module):
    """The network from RGB images in 0 … 255 minus the mean to its last feature map.

    Modules are named as in the published file: `inception_3a_1x1`, `inception_3a_1x1_bn` …
    """

    def __init__(self) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", 3, 64, 7, 2)
        self._add("conv2_3x3_reduce", 64, 64)
        self._add("conv2_3x3", 64, 192, 3)
        width = 192
        for block, (single, reduced, plain, double_reduced, double, projected) in BLOCKS.items():
            stride = 1 if single else 2
            layers = {
                "1x1": (width, single),
                "3x3_reduce": (width, reduced),
                "3x3": (reduced, plain, 3, stride),
                "double_3x3_reduce": (width, double_reduced),
                "double_3x3_1": (double_reduced, double, 3),
                "double_3x3_2": (double, double, 3, stride),
                "pool_proj": (width, projected),
            }
            for name, sizes in layers.items():
                if sizes[1]:
                    self._add(f"inception_{block}_{name}", *sizes)
            width = single + plain + double + (projected or width)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1024 rows columns"]:
        x = self._layer("conv1_7x7_s2", images.flip(1))  # it was trained on BGR
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self._layer("conv2_3x3", self._layer("conv2_3x3_reduce", x))
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        for block in BLOCKS:
            x = self._block(block, x)
        return x

    def _add(self, name: str, before: int, after: int, kernel: int = 1, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(before, after, kernel, stride, kernel // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(after))

    def _layer(self, name: str, x: Tensor) -> Tensor:
        return functional.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)))

    def _block(self, block: str, x: Tensor) -> Tensor:
        def path(*layers: str, x: Tensor = x) -> Tensor:
            for layer in layers:
                x = self._layer(f"inception_{block}_{layer}", x)
            return x

        halves = not BLOCKS[block][0]
        parts = [] if halves else [path("1x1")]
        parts.append(path("3x3_reduce", "3x3"))
        parts.append(path("double_3x3_reduce", "double_3x3_1", "double_3x3_2"))
        if halves:
            parts.append(functional.max_pool2d(x, 3, 2, ceil_mode=True))
        else:
            pool = functional.max_pool2d if block in MAX_POOLED else functional.avg_pool2d
            parts.append(path("pool_proj", x=pool(x, 3, 1, 1)))
        return torch.cat(parts, 1)
