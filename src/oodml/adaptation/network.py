"""Few-shot adaptation on images: each step decodes, augments, and embeds its own batch.

This can adapt the whole network. Episodes are adapted one after another, each in its own copy.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from oodml import catalog
from oodml.adaptation.episodes import Metrics, Queries, check_episodes
from oodml.adaptation.heads import make_optimizer
from oodml.adaptation.settings import AdaptSettings
from oodml.adaptation.support import SupportBatch, SupportBatches, support_of
from oodml.devices import resolve_device
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.evaluate.query_lists import query_lists
from oodml.images.image_set import ImageSet
from oodml.images.loader import batches, train_views
from oodml.images.transforms import recipe
from oodml.model import Embedder
from oodml.model_input import input_images
from oodml.progress import track
from oodml.randomness import derived_seed, generator


def adapt_network(
    model: Embedder,
    test: ImageSet,
    episodes: Sequence[Mapping[str, Sequence[int]]],
    settings: AdaptSettings,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> tuple[tuple[Metrics, ...], tuple[Metrics, ...]]:
    """Adapt the last layer or, with `layers = "all"`, the whole network to each episode.

    Args:
        episodes: for each episode, the rows of `test` that are the support images of each class;
            all other rows are queries.
    """
    require_loss(settings)
    resolved = resolve_device(device)
    test = input_images(test, model.settings)
    check_episodes(episodes, test.classes, len(test))
    lists = query_lists(test)
    tests = [Queries(test.labels, one, settings.metrics, lists) for one in episodes]
    start = torch.from_numpy(embed(test, model, device=resolved).vectors)
    after = []
    for number, (one, queries) in enumerate(zip(episodes, tests, strict=True)):
        adapted = finetune_on_support(model, test, one, settings, seed, number, resolved)
        vectors = embed(test, adapted, device=resolved).vectors
        after.append(queries.evaluate(torch.from_numpy(vectors)))
    return tuple(one.evaluate(start) for one in tests), tuple(after)


def require_loss(settings: AdaptSettings) -> None:
    """Check that the objective is a loss, which can adapt a network."""
    if settings.closed_form:
        problem = (
            f"objective {settings.objective!r} is in closed form and cannot adapt a whole network; "
            'use it with layers = "last"'
        )
        raise OodmlError(problem, "adapt.objective", settings.objective)


def finetune_on_support(
    model: Embedder,
    images: ImageSet,
    members: Mapping[str, Sequence[int]],
    settings: AdaptSettings,
    seed: int,
    number: int,
    device: torch.device,
) -> Embedder:
    """A copy of the model, trained on the support images of one episode.

    Args:
        members: the rows of the support images of each class.
    """
    support = support_of(members)
    sampler = SupportBatches(
        [support], [generator(seed, "episode", number)], 1, settings.batch_size, settings.per_class
    )
    labels = sampler.labels().to(device)
    adapter = catalog.load("few_shot_adapters", settings.objective, settings=settings)
    adapted = deepcopy(model).to(device)
    beta = torch.full((1, len(support.names)), settings.beta, device=device, requires_grad=True)
    whole = settings.layers == "all"
    adapted.train(whole)
    trained = list((adapted if whole else adapted.head).parameters())
    optimizer = make_optimizer(trained, beta, settings)
    steps = list(sampler.draw(settings.steps(int(support.counts.min()))))
    views = track(_views(model, images, steps, seed, number), "Adapting", len(steps), "steps")
    for batch, pixels in zip(steps, views, strict=True):
        with torch.set_grad_enabled(whole):
            features = adapted.features(pixels.to(device))
        embeddings = adapted.head.embed(features)  # type: ignore[operator]
        loss = adapter.losses(embeddings[None], labels, batch, beta).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return adapted.eval()


def _views(
    model: Embedder, images: ImageSet, steps: Sequence[SupportBatch], seed: int, number: int
) -> Iterator[Tensor]:
    augmentation = recipe(model.settings.augmentation)
    return batches(
        (
            batch.rows[0].numpy().astype(np.int64),
            train_views(
                images,
                model.image_size,
                augmentation,
                derived_seed(seed, "episode", number, "step", step),
            ),
        )
        for step, batch in enumerate(steps)
    )
