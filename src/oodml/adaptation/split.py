"""Few-shot adaptation of a split's episodes, as rows of results."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from oodml.adaptation.episodes import AdaptResult, adapt
from oodml.adaptation.heads import heads_of
from oodml.adaptation.network import adapt_network
from oodml.adaptation.settings import AdaptSettings
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.model import Embedder
from oodml.shift.splits import Episode
from oodml.vectors import VectorSet

Trunk = Callable[[ImageSet, int | None], VectorSet]
"""From images and a view (None: the test view) to pooled features of the frozen trunk."""


def adapt_split(
    test: ImageSet,
    trunk: Trunk,
    head: nn.Module,
    episodes: Sequence[Episode],
    settings: AdaptSettings,
    shots: int,
    seed: int,
    model: Embedder | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows (stage, shots, episode, metric, value) of all episodes, before and after.

    test: the images of the test classes. Query images are embedded once, support images once a
    view; the rest happens in feature space. model: needed to adapt all its layers.
    """
    if settings.layers == "last":
        result = adapt_to_episodes(test, trunk, head, episodes, settings, seed)
        before, after = result.before, result.after
    elif model is None:
        raise OodmlError('adapt: layers = "all" needs the model, not only its features')
    else:
        before, after = adapt_network(
            model, test, support_rows(test, episodes), settings, seed=seed
        )
    for stage, found in (("before", before), ("after", after)):
        for episode, metrics in enumerate(found):
            for metric, value in metrics.items():
                yield {"stage": stage, "shots": shots, "episode": episode, "metric": metric,
                       "value": value}  # fmt: skip


def adapt_to_episodes(
    test: ImageSet,
    trunk: Trunk,
    head: nn.Module,
    episodes: Sequence[Episode],
    settings: AdaptSettings,
    seed: int,
) -> AdaptResult:
    """Adapt a model's last layer to the support images of each episode."""
    supports = support_rows(test, episodes)
    features = torch.from_numpy(_vectors(trunk, test, None))
    rows = np.unique([row for one in supports for members in one.values() for row in members])
    chosen = test.select(rows)
    views = np.stack([_vectors(trunk, chosen, view) for view in range(settings.views)], axis=1)
    start = heads_of(head, features.shape[1])
    device = next((parameter.device for parameter in head.parameters()), torch.device("cpu"))
    return adapt(
        features.to(device),
        test.classes,
        supports,
        start.to(device),
        settings,
        support_views=dict(zip(rows.tolist(), torch.from_numpy(views), strict=True)),
        seed=seed,
    )


def _vectors(trunk: Trunk, images: ImageSet, view: int | None) -> np.ndarray:
    found = trunk(images, view)
    if not np.array_equal(found.ids, images.ids):
        raise OodmlError(f"{images.name}: the features are not of the images asked for")
    return found.vectors


def support_rows(test: ImageSet, episodes: Sequence[Episode]) -> list[dict[str, list[int]]]:
    """The rows of the support images of each episode, by class."""
    row_of = {name: row for row, name in enumerate(test.ids.tolist())}
    return [_rows(number, one, row_of, test) for number, one in enumerate(episodes)]


def _rows(
    number: int, episode: Episode, row_of: dict[str, int], test: ImageSet
) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for support_class, ids in episode.support.items():
        if episode.class_wise and not ids:
            rows[support_class] = np.flatnonzero(test.classes == support_class).tolist()
            continue
        for image in ids:
            if image not in row_of:
                raise OodmlError(
                    f"episode {number}: support image {image!r} of class {support_class!r} is not "
                    f"among the test images of {test.name}"
                )
        rows[support_class] = [row_of[image] for image in ids]
    return rows
