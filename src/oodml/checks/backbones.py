"""Requirements on a backbone: feature maps of images, and a state that can be saved."""

import torch
from torch import Tensor

from oodml.backbones import Backbone
from oodml.checks.requirement import Make, Violation, require, skip_unless


def untrained_backbone(make: Make) -> Backbone:
    """The backbone without pretrained weights, in evaluation mode."""
    backbone = make(weights="none")
    if not isinstance(backbone, Backbone):
        remedy = "Return oodml.backbones.Backbone(network, features, image_size, mean, std)"
        raise Violation(f"it returns a {type(backbone).__name__}", remedy)
    return backbone.eval()


def random_images(backbone: Backbone, n: int = 2) -> Tensor:
    side = backbone.image_size
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def check_feature_maps(make: Make) -> None:
    """Feature maps of images of its own size are finite and [n features rows columns]."""
    backbone = untrained_backbone(make)
    with torch.inference_mode():
        maps = backbone(random_images(backbone))
    if maps.ndim != 4 or maps.shape[:2] != (2, backbone.features):
        remedy = "Set `features` to the channels of the last feature map, before pooling"
        raise Violation(f"{tuple(maps.shape)} for features={backbone.features}", remedy)
    finite = maps.isfinite().all()
    require(finite, "a map is not finite", "Check the normalization (mean, std) and weights")


def check_independence(make: Make) -> None:
    """An image's features are the same alone, in a batch, and in a second pass."""
    backbone = untrained_backbone(make)
    batch = random_images(backbone)
    with torch.inference_mode():
        together, again, alone = backbone(batch), backbone(batch), backbone(batch[:1])
    same, equal = torch.equal(together, again), torch.allclose(together[:1], alone, 1e-3, 1e-4)
    require(same, "two passes differ", "Use no randomness in evaluation mode")
    require(equal, "they depend on the batch", "Use no batch statistics in evaluation mode")


def check_input_use(make: Make) -> None:
    """Different images have different features."""
    backbone = untrained_backbone(make)
    with torch.inference_mode():
        maps = backbone(random_images(backbone))
    differ = not torch.equal(maps[0], maps[1])
    require(differ, "two images have equal features", "Check that the network uses its input")


def check_gradient(make: Make) -> None:
    """A gradient reaches its parameters in finetune mode."""
    backbone = untrained_backbone(make)
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    skip_unless(parameters, "it has no parameters")
    backbone(random_images(backbone)).square().sum().backward()
    if all(p.grad is None or not p.grad.abs().sum() > 0 for p in parameters):
        raise Violation("no parameter has a gradient", "Use no detach() or no_grad()")


def check_initialization(make: Make) -> None:
    """Untrained weights depend only on the global random generator, seeded by each run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = untrained_backbone(make).state_dict()
        torch.manual_seed(0)
        second = untrained_backbone(make).state_dict()
    same = all(torch.equal(first[key], second[key]) for key in first)
    remedy = "Initialize with torch's functions and seed nothing"
    require(same, "the same seed gives two different networks", remedy)


def check_state(make: Make) -> None:
    """Its state can be saved and loaded."""
    backbone, restored = untrained_backbone(make), untrained_backbone(make)
    restored.load_state_dict(backbone.state_dict())
    images = random_images(backbone)
    with torch.inference_mode():
        if not torch.equal(backbone(images), restored(images)):
            raise Violation("features differ", "Keep all state in parameters and buffers")


BASIC = (check_feature_maps,)
