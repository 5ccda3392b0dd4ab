"""What a backbone promises: feature maps of images, and a state that can be kept."""

import torch
from torch import Tensor

from oodml.backbones import Backbone
from oodml.contract.promise import Broken, Make, NotPromised, Promise, explained


def untrained(make: Make) -> Backbone:
    """The backbone without trained weights, in evaluation mode."""
    found = make(weights="none")
    if not isinstance(found, Backbone):
        raise Broken(f"it gives a {type(found).__name__}", "Return oodml.backbones.Backbone("
                     "network, features, image_size, mean, std)")  # fmt: skip
    return found.eval()


def images(backbone: Backbone, n: int = 2) -> Tensor:
    """Random images of its size."""
    side = backbone.image_size
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def maps_have_the_stated_width(make: Make) -> None:
    """Maps of images of its own size are [n features rows columns], all finite."""
    backbone = untrained(make)
    with torch.inference_mode():
        found = backbone(images(backbone))
    if found.ndim != 4 or found.shape[:2] != (2, backbone.features):
        raise Broken(f"{tuple(found.shape)} for features={backbone.features}", "State the "
                     "channels of the last map, before pooling")  # fmt: skip
    if not found.isfinite().all():
        raise Broken("a map is not finite", "Look at the normalisation (mean, std) and weights")


def images_do_not_mix(make: Make) -> None:
    """An image's features are the same alone and in a batch, and twice the same."""
    backbone = untrained(make)
    batch = images(backbone)
    with torch.inference_mode():
        together, again, alone = backbone(batch), backbone(batch), backbone(batch[:1])
    if not torch.equal(together, again):
        raise Broken("two passes differ", "Nothing may be drawn in evaluation mode")
    if not torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-4):
        raise Broken("the batch changes them", "Use no batch statistics in evaluation mode")


def images_matter(make: Make) -> None:
    """Different images have different features."""
    backbone = untrained(make)
    with torch.inference_mode():
        found = backbone(images(backbone))
    if torch.equal(found[0], found[1]):
        raise Broken("two images have equal features", "Does the network use its input?")


def gradient_reaches_every_parameter(make: Make) -> None:
    """In finetune mode a gradient reaches its parameters."""
    backbone = untrained(make)
    named = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    if not named:
        raise NotPromised("it has no parameters")
    backbone(images(backbone)).square().sum().backward()
    if all(parameter.grad is None or not parameter.grad.abs().sum() > 0 for _, parameter in named):
        raise Broken("no parameter has a gradient", "No detach() or no_grad() in the network")


def untrained_weights_are_the_same(make: Make) -> None:
    """Untrained weights come from the global generator, which a run seeds, and nothing else."""
    with torch.random.fork_rng(devices=[]):
        states = []
        for _ in range(2):
            torch.manual_seed(0)
            states.append(untrained(make).state_dict())
    if any(not torch.equal(states[0][key], states[1][key]) for key in states[0]):
        raise Broken("two networks from one seed differ", "Initialise with torch's own functions, "
                     "without seeding anything")  # fmt: skip


def state_comes_back(make: Make) -> None:
    """Its state can be saved and loaded."""
    backbone, other = untrained(make), untrained(make)
    other.load_state_dict(backbone.state_dict())
    with torch.inference_mode():
        if not torch.equal(backbone(images(backbone)), other(images(backbone))):
            raise Broken("features differ", "Keep all state in parameters and buffers")


def options_are_explained(make: Make) -> None:
    """Its docstring says what its options mean."""
    explained(getattr(make, "thing", make), ("weights",))


PROMISES: tuple[Promise, ...] = (
    maps_have_the_stated_width,
    images_do_not_mix,
    images_matter,
    gradient_reaches_every_parameter,
    untrained_weights_are_the_same,
    state_comes_back,
    options_are_explained,
)
