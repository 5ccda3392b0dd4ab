"""Few-shot adaptation on features: metrics of the same queries before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from oodml import catalog
from oodml.adaptation.heads import Heads, train_heads
from oodml.adaptation.settings import AdaptSettings
from oodml.adaptation.support import class_means, support_of
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.query_lists import QueryLists
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.randomness import generator
from oodml.results.metrics import cutoffs

Metrics = dict[str, float]


@dataclass(frozen=True)
class AdaptResult:
    """The effect of adaptation, one entry per episode."""

    before: tuple[Metrics, ...]
    after: tuple[Metrics, ...]
    heads: Heads
    notes: tuple[str, ...] = ()


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
    lists: QueryLists | None = None,
) -> AdaptResult:
    """Adapt the last layer to the support images of each episode, on features of a frozen backbone.

    Args:
        features: [n f] of one test view of every test image, whose classes are `classes` [n].
        episodes: for each episode, the rows of the support images of each class; all other rows
            are queries.
        head: the layer that all episodes start from; see `heads_of`.
        support_views: features [v f] of augmented views of each support row; by default the test
            view is used.
        numbers: the number of each episode; seed and number determine its random draws, so that
            an episode adapted alone gives the same result. By default they count from 0.
        lists: which images are queries and which the gallery; support images are neither. By
            default each query searches all others.

    Raises:
        OodmlError: if an episode is invalid, or too small for the objective.
    """
    settings = settings or AdaptSettings()
    if settings.layers == "all":
        problem = 'layers = "all" adapts a network on images; on features, use layers = "last"'
        raise OodmlError(problem, "adapt.layers", "all", ("last",))
    labels = np.unique(np.asarray(classes), return_inverse=True)[1]
    ids = range(len(episodes)) if numbers is None else numbers
    check_episodes(episodes, np.asarray(classes), len(features))
    tests = [Queries(labels, one, settings.metrics, lists) for one in episodes]
    start = head.embed(features[None])[0]
    before = tuple(test.evaluate(start) for test in tests)
    heads = fit_heads(features, episodes, head, settings, support_views, seed, ids)
    adapter = catalog.get_class("few_shot_adapters", settings.objective)
    scores = adapter.closed_form and adapter.scores_classes
    after = tuple(
        test.evaluate(heads[episode].embed(features[None])[0], scores)
        for episode, test in enumerate(tests)
    )
    return AdaptResult(before, after, heads)


@torch.no_grad()
def fit_heads(
    features: Float[Tensor, "n f"],
    episodes: Sequence[Mapping[str, Sequence[int]]],
    head: Heads,
    settings: AdaptSettings,
    support_views: Mapping[int, Float[Tensor, "v f"]] | None = None,
    seed: int = 0,
    numbers: Sequence[int] = (0,),
) -> Heads:
    """The head of each episode after adaptation; the arguments are those of `adapt`."""
    rows = sorted({row for one in episodes for members in one.values() for row in members})
    position = {row: index for index, row in enumerate(rows)}
    support = [
        support_of({name: [position[row] for row in members] for name, members in one.items()})
        for one in episodes
    ]
    if settings.closed_form:
        adapter = catalog.load("few_shot_adapters", settings.objective, settings=settings)
        heads: Heads = adapter.heads(head, features[rows], support)
        return heads
    views = features[rows][:, None]
    if support_views is not None:
        if missing := [row for row in rows if row not in support_views]:
            problem = f"support_views has no views of support row {missing[0]}"
            raise OodmlError(problem, "support_views", missing[0])
        views = torch.stack([support_views[row] for row in rows]).to(features)
    generators = [generator(seed, "episode", number) for number in numbers]
    steps = settings.steps(min(int(one.counts.min()) for one in support))
    return train_heads(head, views, support, generators, settings, steps)


class Queries:
    """The query images of one episode."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        support: Mapping[str, Sequence[int]],
        metrics: Sequence[str],
        lists: QueryLists | None = None,
    ) -> None:
        rows = [row for members in support.values() for row in members]
        every = np.ones(len(labels), dtype=np.bool_)
        self.lists = (lists or QueryLists(every, every)).without(rows)
        self.labels, self.metrics, self.support = labels, metrics, support_of(support)
        self.support_labels = labels[[members[0] for members in support.values()]]

    def evaluate(self, embeddings: Float[Tensor, "n d"], scores: bool = False) -> Metrics:
        """The metrics of the queries in the gallery, or among each other, from embeddings of all
        images, which may consist of one score per support class (`scores`)."""
        arguments = self.lists.arguments(embeddings.cpu().numpy(), self.labels)
        values = retrieval_metrics(**arguments, ks=cutoffs(self.metrics) or (1,))
        if "accuracy" in self.metrics:
            values["accuracy"] = self._accuracy(embeddings, scores)
        for name in self.metrics:
            if name not in values:
                raise unknown("metric", name, [*values, "accuracy"], "adapt")
        return {name: values[name] for name in self.metrics}

    def _accuracy(self, embeddings: Float[Tensor, "n d"], scores: bool) -> float:
        queries = np.flatnonzero(self.lists.queries)
        labels = self.labels[queries]
        if not np.isin(labels, self.support_labels).all():
            problem = (
                'adapt: the metric "accuracy" requires support images of every class of the '
                "queries; class-wise episodes have none"
            )
            raise OodmlError(problem, "adapt.metrics", "accuracy")
        similarities = embeddings[queries]
        if not scores:
            means = class_means(embeddings, self.support)
            similarities = similarities @ torch.nn.functional.normalize(means, dim=1).T
        nearest = similarities[:, : len(self.support_labels)].argmax(1).cpu().numpy()
        return float((self.support_labels[nearest] == labels).mean())


def check_episodes(
    episodes: Sequence[Mapping[str, Sequence[int]]], classes: NDArray[Any], n: int
) -> None:
    """Check that the support rows of each episode exist and have the stated class."""
    if not episodes:
        raise OodmlError("no episodes were given; at least one is required", location="episodes")
    if len(classes) != n:
        raise OodmlError(f"{len(classes)} classes for {n} features", location="classes")
    for number, one in enumerate(episodes):
        for name, rows in one.items():
            location = f"episode {number}: class {name!r}"
            if not len(rows):
                raise OodmlError(f"{location} has no support image", location=location)
            for row in rows:
                if not 0 <= row < n:
                    raise error_at(location, f"row {row} is not in 0 … {n - 1}", row)
                if str(classes[row]) != str(name):
                    raise error_at(location, f"row {row} has class {str(classes[row])!r}", row)
