"""Requirements on a few-shot adapter: it adapts a head to the support images of each episode."""

import torch
from torch import Tensor, nn

from oodml.adaptation.episodes import AdaptResult, adapt
from oodml.adaptation.heads import Heads
from oodml.adaptation.settings import AdaptSettings
from oodml.checks.requirement import Make, Violation, require

CLASSES, IMAGES, SHOTS, FEATURES, DIM = 6, 10, 3, 16, 5


def _samples() -> tuple[Tensor, Heads]:
    """Features of images around the centers of classes, and a random head."""
    random = torch.Generator().manual_seed(0)
    centers = 2 * torch.randn(CLASSES, 1, FEATURES, generator=random)
    features = centers + torch.randn(CLASSES, IMAGES, FEATURES, generator=random)
    return features.flatten(0, 1), Heads(torch.randn(1, DIM, FEATURES, generator=random) / 4)


def adapt_samples(make: Make, *numbers: int) -> AdaptResult:
    features, head = _samples()
    name = make.name  # type: ignore[attr-defined]
    steps = {"iterations": 5, "batch_size": 12, "metrics": ("recall@1", "accuracy")}
    settings = AdaptSettings.model_validate({"objective": name, **steps})
    episodes = [
        {f"c{c}": [c * IMAGES + number + shot for shot in range(SHOTS)] for c in range(CLASSES)}
        for number in numbers
    ]
    classes = [f"c{row // IMAGES}" for row in range(len(features))]
    return adapt(features, classes, episodes, head, settings, numbers=numbers)


def check_adaptation(make: Make) -> None:
    """It returns one head per episode, with finite embeddings that have changed."""
    result, (features, head) = adapt_samples(make, 0, 1), _samples()
    embedded = result.heads.embed(features[None])
    problem = f"{len(result.heads.weight)} heads for two episodes"
    require(len(result.heads.weight) == 2, problem, "Return one head per episode")
    remedy = "Guard divisions, roots, and logarithms"
    require(embedded.isfinite().all(), "an embedding is not finite", remedy)
    changed = not torch.equal(embedded[0], head.embed(features[None])[0])
    require(changed, "no embedding changes", "Compute the loss from the given embeddings")


def check_determinism(make: Make) -> None:
    """Two adaptations with one seed are equal bit for bit."""
    first, second = adapt_samples(make, 0), adapt_samples(make, 0)
    if not torch.equal(first.heads.weight, second.heads.weight):
        raise Violation("two adaptations differ", "Use the random numbers of the batch only")


def check_independence(make: Make) -> None:
    """An episode does not depend on the others."""
    together, alone = adapt_samples(make, 0, 1), adapt_samples(make, 1)
    features = _samples()[0][None]
    expected = alone.heads.embed(features)[0]
    if not torch.allclose(together.heads.embed(features)[1], expected, atol=1e-5):
        raise Violation("an episode alone gives another head", "Take no mean over episodes")


def check_saved_head(make: Make) -> None:
    """The adapted head can be saved as a module."""
    heads, features = adapt_samples(make, 0).heads, _samples()[0]
    module, expected = heads.module(nn.Identity()), heads.embed(features[None])[0]
    if not torch.allclose(module.embed(features), expected, atol=1e-5):  # type: ignore[operator]
        raise Violation("the module computes other embeddings", "Return linear heads")


BASIC = (check_adaptation,)
