"""Few-shot adaptation to the episodes of a split, as rows of results."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from oodml.adaptation.episodes import AdaptResult, adapt
from oodml.adaptation.heads import heads_of
from oodml.adaptation.images import adapt_network
from oodml.adaptation.settings import AdaptSettings
from oodml.errors import OodmlError, error_at
from oodml.evaluate.query_lists import query_lists
from oodml.images.image_set import ImageSet
from oodml.model import Embedder
from oodml.results.schema import Stage
from oodml.shift.splits import Episode
from oodml.vectors import VectorSet

BackboneFeatures = Callable[[ImageSet, int | None], VectorSet]
"""Computes the pooled features of images under the frozen backbone, for a number of an augmented
view or None for the test view."""


def adapt_split(
    test: ImageSet,
    features_of: BackboneFeatures,
    head: nn.Module,
    episodes: Sequence[Episode],
    settings: AdaptSettings,
    shots: int,
    seed: int,
    model: Embedder | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows (stage, shots, episode, metric, value) of all episodes, before and after.

    `test` are the images of the test classes; `layers = "all"` requires `model`, the whole model.
    """
    if settings.layers == "last":
        result = adapt_to_episodes(test, features_of, head, episodes, settings, seed)
        before, after = result.before, result.after
    elif model is None:
        problem = 'adapt: layers = "all" requires the model in addition to its features'
        raise OodmlError(problem, "adapt.layers", "all")
    else:
        rows, device = support_rows(test, episodes), _device_of(head)
        before, after = adapt_network(model, test, rows, settings, seed=seed, device=device)
    for stage, measured in ((Stage.BEFORE, before), (Stage.AFTER, after)):
        for episode, metrics in enumerate(measured):
            row = {"stage": str(stage), "shots": shots, "episode": episode}
            yield from (row | {"metric": name, "value": value} for name, value in metrics.items())


def adapt_to_episodes(
    test: ImageSet,
    features_of: BackboneFeatures,
    head: nn.Module,
    episodes: Sequence[Episode],
    settings: AdaptSettings,
    seed: int,
) -> AdaptResult:
    """Adapt a model's last layer to the support images of each episode; see `adapt_split`."""

    def vectors(images: ImageSet, view: int | None) -> torch.Tensor:
        features = features_of(images, view)
        if not np.array_equal(features.ids, images.ids):
            raise OodmlError(f"{images.name}: the features belong to other images than requested")
        return torch.from_numpy(features.vectors)

    supports, device = support_rows(test, episodes), _device_of(head)
    features = vectors(test, None)
    views = None
    if not settings.closed_form:
        rows = np.unique([row for one in supports for members in one.values() for row in members])
        parts = [vectors(test.select(rows), view) for view in range(settings.views)]
        views = dict(zip(rows.tolist(), torch.stack(parts, 1), strict=True))
    heads, lists = heads_of(head, features.shape[1]).to(device), query_lists(test)
    options: dict[str, Any] = {"support_views": views, "seed": seed, "lists": lists}
    return adapt(features.to(device), test.classes, supports, heads, settings, **options)


def _device_of(head: nn.Module) -> torch.device:
    return next((parameter.device for parameter in head.parameters()), torch.device("cpu"))


def support_rows(test: ImageSet, episodes: Sequence[Episode]) -> list[dict[str, list[int]]]:
    """The rows of the support images of each episode, by class."""
    row_of = {name: row for row, name in enumerate(test.ids.tolist())}
    supports: list[dict[str, list[int]]] = [{} for _ in episodes]
    for number, episode in enumerate(episodes):
        for name, ids in episode.support.items():
            if unknown := [image for image in ids if image not in row_of]:
                problem = f"support image {unknown[0]!r} of class {name!r} is not among the test"
                where = f"episode {number}"
                raise error_at(where, f"{problem} images of {test.name}", unknown[0])
            rows = [row_of[image] for image in ids]
            if episode.class_wise and not ids:
                rows = np.flatnonzero(test.classes == name).tolist()
            supports[number][name] = rows
    return supports
