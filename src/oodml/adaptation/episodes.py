"""Few-shot adaptation: metrics on the same queries before and after, all episodes at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from oodml.adaptation.batches import Support, support_of
from oodml.adaptation.heads import Heads
from oodml.adaptation.prototypes import class_means, prototype_heads, ridge_heads
from oodml.adaptation.settings import BASELINES, AdaptSettings
from oodml.adaptation.steps import adapted_heads
from oodml.errors import OodmlError, unknown
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.randomness import generator

Metrics = dict[str, float]


@dataclass(frozen=True)
class AdaptResult:
    """What adapting brought, one entry an episode.

    before, after: metrics on the query images. heads: the adapted layers [e d f].
    """

    before: tuple[Metrics, ...]
    after: tuple[Metrics, ...]
    heads: Heads


@torch.no_grad()
def adapt(
    features: Float[Tensor, "n f"],
    classes: ArrayLike,
    episodes: Sequence[Mapping[str, Sequence[int]]],
    head: Heads,
    settings: AdaptSettings | None = None,
    *,
    support_views: Mapping[int, Float[Tensor, "v f"]] | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> AdaptResult:
    """Adapt the last layer to the support images of each episode, on features of a frozen trunk.

    features: of one test view of every test image. classes: [n] the class of each.
    episodes: the rows of the support images of each class; all other rows are queries.
    head: the layer that all episodes start from; see `heads_of`.
    support_views: features of augmented views of each support row; without, the test view serves.
    numbers: what each episode is called; seed and number decide its random draws, so that an
        episode adapted alone does the same. By default they count from 0.
    """
    settings = settings or AdaptSettings()
    if settings.layers == "all":
        raise OodmlError(
            'layers = "all" adapts a network through its images; features allow "last"'
        )
    labels = np.unique(np.asarray(classes), return_inverse=True)[1]
    names = list(range(len(episodes))) if numbers is None else list(numbers)
    check_episodes(episodes, np.asarray(classes), len(features))
    rows, views = _views(features, episodes, support_views)
    place = {row: position for position, row in enumerate(rows)}
    support = [
        support_of({name: [place[row] for row in members] for name, members in one.items()})
        for one in episodes
    ]
    tests = [Queries(labels, one, settings.metrics) for one in episodes]
    start = head.embed(features[None])[0]
    before = tuple(test.measure(start) for test in tests)
    generators = [generator(seed, "episode", number) for number in names]
    heads = _adapted(head, views, support, generators, settings)
    after = tuple(
        test.measure(heads[episode].embed(features[None])[0], settings.objective in BASELINES)
        for episode, test in enumerate(tests)
    )
    return AdaptResult(before, after, heads)


def _adapted(
    head: Heads,
    views: Float[Tensor, "s v f"],
    support: Sequence[Support],
    generators: Sequence[torch.Generator],
    settings: AdaptSettings,
) -> Heads:
    if settings.objective == "prototypes":
        return prototype_heads(head, views, support)
    if settings.objective == "linear":
        return ridge_heads(head, views, support, settings.ridge)
    shots = min(int(one.counts.min()) for one in support)
    return adapted_heads(head, views, support, generators, settings, settings.steps(shots))


class Queries:
    """The query images of one episode, and how well they are embedded."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        support: Mapping[str, Sequence[int]],
        metrics: Sequence[str],
    ) -> None:
        rows = [row for members in support.values() for row in members]
        self.queries = np.setdiff1d(np.arange(len(labels)), rows)
        self.labels = labels
        self.support = support_of(support)
        self.support_labels = labels[[members[0] for members in support.values()]]
        self.metrics = metrics

    def measure(self, embeddings: Float[Tensor, "n d"], scores: bool = False) -> Metrics:
        """The wanted metrics of the queries among each other.

        scores: embeddings are one number a support class, how much an image looks like it.
        """
        vectors = embeddings[self.queries].cpu().numpy()
        ks = {int(name.split("@")[1]) for name in self.metrics if name.startswith("recall@")}
        found = retrieval_metrics(vectors, self.labels[self.queries], ks=sorted(ks) or (1,))
        if "accuracy" in self.metrics:
            found["accuracy"] = self._accuracy(embeddings, scores)
        for name in self.metrics:
            if name not in found:
                raise unknown("metric", name, [*found, "accuracy"], "adapt")
        return {name: found[name] for name in self.metrics}

    def _accuracy(self, embeddings: Float[Tensor, "n d"], scores: bool) -> float:
        labels = self.labels[self.queries]
        if not np.isin(labels, self.support_labels).all():
            raise OodmlError(
                'adapt: the metric "accuracy" needs support images of every class of the queries; '
                "class-wise episodes have none"
            )
        found = embeddings[self.queries]
        if not scores:
            means = class_means(embeddings[:, None], self.support)
            found = found @ torch.nn.functional.normalize(means, dim=1).T
        nearest = found[:, : len(self.support_labels)].argmax(1).cpu().numpy()
        return float((self.support_labels[nearest] == labels).mean())


def _views(
    features: Float[Tensor, "n f"],
    episodes: Sequence[Mapping[str, Sequence[int]]],
    support_views: Mapping[int, Float[Tensor, "v f"]] | None,
) -> tuple[list[int], Float[Tensor, "s v f"]]:
    """The support rows of any episode and their views."""
    rows = sorted({row for one in episodes for members in one.values() for row in members})
    if support_views is None:
        return rows, features[rows][:, None]
    missing = [row for row in rows if row not in support_views]
    if missing:
        raise OodmlError(f"support_views has no views of row {missing[0]}, a support image")
    return rows, torch.stack([support_views[row] for row in rows]).to(features)


def check_episodes(
    episodes: Sequence[Mapping[str, Sequence[int]]], classes: NDArray[Any], n: int
) -> None:
    """Refuse episodes whose support rows are none, out of range, or of another class."""
    if not episodes:
        raise OodmlError("there is no episode to adapt to")
    if len(classes) != n:
        raise OodmlError(f"{len(classes)} classes for {n} features")
    for number, one in enumerate(episodes):
        for name, rows in one.items():
            if not len(rows):
                raise OodmlError(f"episode {number}: class {name!r} has no support image")
            for row in rows:
                if not 0 <= row < n:
                    raise OodmlError(
                        f"episode {number}: row {row} of class {name!r} is not in 0 … {n - 1}"
                    )
                if str(classes[row]) != str(name):
                    raise OodmlError(
                        f"episode {number}: row {row} of class {name!r} is of class "
                        f"{str(classes[row])!r}"
                    )
