"""Losses and miners of pytorch-metric-learning, available as `pml.NAME`."""

import importlib
import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor

from oodml.errors import error_at, unknown
from oodml.losses._base import BaseLoss, full_precision, next_of_class
from oodml.shapes import Labels, Mask, Scalar, Triplets, Vectors

BASES = {"losses": "BaseMetricLossFunction", "miners": "BaseMiner"}
SIZES = {"num_classes": "n_classes", "embedding_size": "dim"}  # options, and their names in oodml


def wrapper_of(kind: str, name: str) -> Any:
    """A function that builds a class of `pytorch_metric_learning.losses` or `.miners`.

    Its signature is that of the class, with the names of sizes in oodml (`SIZES`).
    """
    package = importlib.import_module(f"pytorch_metric_learning.{kind}")
    base = getattr(package, BASES[kind])
    classes = {
        key: value
        for key, value in vars(package).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }
    if name not in classes:
        raise unknown("name", f"pml.{name}", (f"pml.{key}" for key in classes))
    options: dict[str, inspect.Parameter] = {}
    for owner in classes[name].__mro__[:-1]:
        if owner.__module__.startswith("pytorch_metric_learning."):
            for key, one in inspect.signature(owner).parameters.items():
                if one.kind is one.POSITIONAL_OR_KEYWORD:
                    key = SIZES.get(key, key)
                    options.setdefault(key, one.replace(name=key, kind=one.KEYWORD_ONLY))
    parameters = [one.replace(annotation=one.empty) for one in options.values()]
    make = partial({"losses": Loss, "miners": Miner}[kind], classes[name])
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return make


def _make(wrapped: type, options: dict[str, Any]) -> Any:
    names = {ours: theirs for theirs, ours in SIZES.items()}
    try:
        return wrapped(**{names.get(key, key): value for key, value in options.items()})
    except (TypeError, AssertionError) as error:
        raise error_at(f"pml.{wrapped.__name__}", str(error)) from error


class Loss(BaseLoss):
    """A loss of pytorch-metric-learning; VICRegLoss compares each row with another of its class."""

    def __init__(self, wrapped: type, **options: Any) -> None:
        super().__init__()
        self.inner = _make(wrapped, options)

    def forward(
        self,
        embeddings: Vectors,
        labels: Labels,
        triplets: Triplets | None = None,
        valid: Mask | None = None,
    ) -> Scalar:
        """Return the loss of a batch, on the valid triplets if triplets are given."""
        if triplets is not None and valid is not None:
            triplets = triplets[valid]
        tuples = None if triplets is None else triplets.unbind(1)
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = full_precision(embeddings)
            if type(self.inner).__name__ == "VICRegLoss":
                value: Tensor = self.inner(rows, ref_emb=rows[next_of_class(labels)])
            else:
                value = self.inner(rows, labels, tuples)
            # Without pairs the wrapped loss is a constant; adding 0 keeps it differentiable.
            return value.reshape(()) + 0 * embeddings.sum()


class Miner:
    """A miner of pytorch-metric-learning as one of oodml; pairs are converted to triplets."""

    def __init__(self, wrapped: type, **options: Any) -> None:
        self.inner = _make(wrapped, options)

    def __call__(self, embeddings: Vectors, labels: Labels, generator: torch.Generator) -> Triplets:
        from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets

        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(), torch.autocast(embeddings.device.type, enabled=False):
            torch.manual_seed(seed)
            tuples = self.inner(full_precision(embeddings.detach()), labels)
            triplets = convert_to_triplets(tuples, labels, labels)
        return torch.stack([column.to(labels.device) for column in triplets], 1)
