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

    Args:
        test: the images of the test classes. All are embedded once; for a loss, support images
            also once per augmented view.
        model: the whole model, required for `layers = "all"`.
    """
    if settings.layers == "last":
        result = adapt_to_episodes(test, features_of, head, episodes, settings, seed)
        before, after = result.before, result.after
    elif model is None:
        problem = 'adapt: layers = "all" requires the model in addition to its features'
        raise OodmlError(problem, "adapt.layers", "all")
    else:
        supports = support_rows(test, episodes)
        before, after = adapt_network(
            model, test, supports, settings, seed=seed, device=_device_of(head)
        )
    for stage, measured in ((Stage.BEFORE, before), (Stage.AFTER, after)):
        for episode, metrics in enumerate(measured):
            for metric, value in metrics.items():
                yield {"stage": str(stage), "shots": shots, "episode": episode, "metric": metric,
                       "value": value}  # fmt: skip


def adapt_to_episodes(
    test: ImageSet,
    features_of: BackboneFeatures,
    head: nn.Module,
    episodes: Sequence[Episode],
    settings: AdaptSettings,
    seed: int,
) -> AdaptResult:
    """Adapt a model's last layer to the support images of each episode; see `adapt_split`."""
    supports = support_rows(test, episodes)
    features = torch.from_numpy(_vectors(features_of, test, None))
    rows = np.unique([row for one in supports for members in one.values() for row in members])
    chosen = test.select(rows)
    numbers = () if settings.closed_form else range(settings.views)
    views = [torch.from_numpy(_vectors(features_of, chosen, view)) for view in numbers]
    start = heads_of(head, features.shape[1])
    device = _device_of(head)
    return adapt(
        features.to(device),
        test.classes,
        supports,
        start.to(device),
        settings,
        support_views=dict(zip(rows.tolist(), torch.stack(views, 1), strict=True))
        if views
        else None,
        seed=seed,
        lists=query_lists(test),
    )


def _device_of(head: nn.Module) -> torch.device:
    return next((parameter.device for parameter in head.parameters()), torch.device("cpu"))


def _vectors(features_of: BackboneFeatures, images: ImageSet, view: int | None) -> np.ndarray:
    features = features_of(images, view)
    if not np.array_equal(features.ids, images.ids):
        raise OodmlError(f"{images.name}: the features belong to other images than requested")
    return features.vectors


def support_rows(test: ImageSet, episodes: Sequence[Episode]) -> list[dict[str, list[int]]]:
    """The rows of the support images of each episode, by class."""
    row_of = {name: row for row, name in enumerate(test.ids.tolist())}
    supports: list[dict[str, list[int]]] = [{} for _ in episodes]
    for number, episode in enumerate(episodes):
        for name, ids in episode.support.items():
            unknown = [image for image in ids if image not in row_of]
            if unknown:
                problem = (
                    f"support image {unknown[0]!r} of class {name!r} is not among the test images "
                    f"of {test.name}"
                )
                raise error_at(f"episode {number}", problem, unknown[0])
            rows = [row_of[image] for image in ids]
            if episode.class_wise and not ids:
                rows = np.flatnonzero(test.classes == name).tolist()
            supports[number][name] = rows
    return supports
