"""Losses and miners of pytorch-metric-learning, under the names `pml.NAME`."""

import importlib
import inspect
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.errors import OodmlError, unknown
from oodml.losses._base import BaseLoss, full_precision

BASES = {"losses": "BaseMetricLossFunction", "miners": "BaseMiner"}
SIZES = {"num_classes": "n_classes", "embedding_size": "dim"}


def adapted(kind: str, name: str) -> Any:
    """A function that makes the loss or miner `name`, e.g. "SupConLoss", from its options.

    It has the signature of the original, but `n_classes` and `dim` where that says
    `num_classes` and `embedding_size`.
    """
    package = importlib.import_module(f"pytorch_metric_learning.{kind}")
    base = getattr(package, BASES[kind])
    things = {
        key: thing
        for key, thing in vars(package).items()
        if inspect.isclass(thing) and issubclass(thing, base) and thing is not base
    }
    if name not in things:
        raise unknown("name", f"pml.{name}", (f"pml.{key}" for key in things))
    make = partial({"losses": Loss, "miners": Miner}[kind], things[name])
    make.__signature__ = _signature(things[name])  # type: ignore[attr-defined]
    return make


def _signature(thing: type) -> inspect.Signature:
    """All options that a class and its bases name."""
    found: dict[str, inspect.Parameter] = {}
    for owner in thing.__mro__[:-1]:
        if not owner.__module__.startswith("pytorch_metric_learning."):
            continue
        for key, parameter in inspect.signature(owner).parameters.items():
            key = SIZES.get(key, key)
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and key not in found:
                kind = inspect.Parameter.KEYWORD_ONLY
                found[key] = inspect.Parameter(key, kind, default=parameter.default)
    return inspect.Signature(list(found.values()))


def _make(thing: type, options: dict[str, Any]) -> Any:
    names = {ours: theirs for theirs, ours in SIZES.items()}
    try:
        return thing(**{names.get(key, key): value for key, value in options.items()})
    except (TypeError, AssertionError) as error:
        raise OodmlError(f"pml.{thing.__name__}: {error}") from error


class Loss(BaseLoss):
    """A loss of pytorch-metric-learning, called as ours are."""

    def __init__(self, thing: type, **options: Any) -> None:
        super().__init__()
        self.inner = _make(thing, options)

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        triplets: Int[Tensor, "t 3"] | None = None,
        valid: Bool[Tensor, " t"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of a batch, on the valid triplets if given."""
        if triplets is not None and valid is not None:
            triplets = triplets[valid]
        tuples = None if triplets is None else triplets.unbind(1)
        with torch.autocast(embeddings.device.type, enabled=False):
            found: Tensor = self.inner(full_precision(embeddings), labels, tuples)
            # An empty loss is a constant there, and would not let a gradient through.
            return found.reshape(()) + 0 * embeddings.sum()


class Miner:
    """A miner of pytorch-metric-learning, called as ours are; pairs become triplets."""

    def __init__(self, thing: type, **options: Any) -> None:
        self.inner = _make(thing, options)

    def __call__(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Int[Tensor, "t 3"]:
        """The triplets found."""
        from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets

        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(), torch.autocast(embeddings.device.type, enabled=False):
            torch.manual_seed(seed)
            found = self.inner(full_precision(embeddings.detach()), labels)
            found = convert_to_triplets(found, labels, labels)
        return torch.stack([column.to(labels.device) for column in found], 1)
