"""Few-shot adaptation through the images: every step decodes, augments and embeds its batch anew.

It can adapt the whole network, and is the path that the adaptation on features stands in for. One
episode after another, since each has a network of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from oodml.adaptation.batches import Batch, SupportBatches, support_of
from oodml.adaptation.episodes import Metrics, Queries, check_episodes
from oodml.adaptation.settings import BASELINES, AdaptSettings
from oodml.adaptation.steps import episode_losses, make_optimizer
from oodml.embedding import default_device, embed
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.images.loader import batches, train_views
from oodml.images.pixel_cache import input_images
from oodml.images.transforms import recipe
from oodml.model import Embedder
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
    """Adapt the last layer or, with `layers="all"`, the whole network, an episode at a time.

    Gives each episode's metrics on its queries, before and after.
    episodes: rows of `test` that are the support images of each class; the rest are queries.
    """
    refuse_baselines(settings)
    place = torch.device(device) if device is not None else default_device()
    test = input_images(test, model.settings)
    check_episodes(episodes, test.classes, len(test))
    tests = [Queries(test.labels, one, settings.metrics) for one in episodes]
    start = torch.from_numpy(embed(test, model, device=place).vectors)
    after = []
    for number, (one, queries) in enumerate(zip(episodes, tests, strict=True)):
        adapted = adapted_network(model, test, one, settings, seed, number, place)
        after.append(queries.measure(torch.from_numpy(embed(test, adapted, device=place).vectors)))
    return tuple(one.measure(start) for one in tests), tuple(after)


def refuse_baselines(settings: AdaptSettings) -> None:
    """Raise an error if the objective is in closed form, which adapts no network."""
    if settings.objective in BASELINES:
        raise OodmlError(
            f"objective {settings.objective!r} takes no step and knows no whole network; use it "
            'with layers = "last", on features'
        )


def adapted_network(
    model: Embedder,
    images: ImageSet,
    members: Mapping[str, Sequence[int]],
    settings: AdaptSettings,
    seed: int,
    number: int,
    device: torch.device,
) -> Embedder:
    """A copy of the model after the steps on one episode's support images."""
    support = support_of(members)
    drawn = SupportBatches(
        [support], [generator(seed, "episode", number)], 1, settings.batch_size, settings.per_class
    )
    labels = drawn.labels().to(device)
    model.backbone  # noqa: B018  made here, so that the copy has it
    adapted = deepcopy(model).to(device)
    beta = torch.full((1, len(support.names)), settings.beta, device=device, requires_grad=True)
    whole = settings.layers == "all"
    adapted.train(whole)
    learnt = list((adapted if whole else adapted.head).parameters())
    optimizer = make_optimizer(learnt, beta, settings)
    steps = list(drawn.draw(settings.steps(int(support.counts.min()))))
    for batch, pixels in zip(steps, _views(model, images, steps, seed, number), strict=True):
        with torch.set_grad_enabled(whole):
            features = adapted.features(pixels.to(device))
        embeddings = adapted.head.embed(features)  # type: ignore[operator]
        loss = episode_losses(embeddings[None], labels, batch, beta, settings).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return adapted.eval()


def _views(
    model: Embedder, images: ImageSet, steps: Sequence[Batch], seed: int, number: int
) -> Iterator[Tensor]:
    """The augmented images of each step, each step's its own."""
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
