"""Few-shot adaptation on images, of the last layer or of the whole network.

`adapt_model` adapts to one set of support images and tests on another, `adapt_network` to several
episodes. Adapting the whole network decodes, augments, and embeds the images of each step; episodes
are adapted one after another, each in its own copy.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from oodml import catalog
from oodml.adaptation.episodes import AdaptResult, Metrics, Queries, adapt, check_episodes
from oodml.adaptation.heads import heads_of, make_optimizer
from oodml.adaptation.settings import AdaptSettings
from oodml.adaptation.support import SupportBatch, SupportBatches, support_of
from oodml.devices import resolve_device
from oodml.embedding import backbone_features, embed
from oodml.errors import OodmlError
from oodml.evaluate.query_lists import QueryLists, query_lists
from oodml.images.image_set import ImageSet
from oodml.images.transforms import batches, recipe, train_views
from oodml.model import Embedder, finetune_settings
from oodml.model_input import input_images
from oodml.progress import track
from oodml.randomness import derived_seed, generator

_TOLERANCE = 1e-5
_CANDIDATES = 5
_BLOCK = 1024


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


def adapt_model(
    model: Embedder,
    support: ImageSet,
    query: ImageSet,
    settings: AdaptSettings | None = None,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> tuple[Embedder, AdaptResult]:
    """Adapt a model to support images, and evaluate it on query images before and after.

    For the last layer, all images are embedded once, support images also once per augmented view.
    For all layers, each step augments and embeds its own batch, and the returned model includes
    its whole network. Query images that are also support images are left out, with a note in the
    result.
    """
    settings = settings or AdaptSettings()
    resolved = resolve_device(device)
    if settings.layers == "all":
        require_loss(settings)
    notes = check_classes(support, query)
    covered = set(query.class_names) <= set(support.class_names)
    if covered and "accuracy" not in settings.metrics:
        settings = settings.model_copy(update={"metrics": (*settings.metrics, "accuracy")})
    features = {
        name: backbone_features(images, model, device=resolved)
        for name, images in (("support", support), ("query", query))
    }
    query, features["query"], left_out = leave_out_copies(
        query, features["query"], {"support": (support, features["support"])}
    )
    task = _Task(model, support, query, features, settings, seed, resolved)
    adapted, result = task.adapt_head() if settings.layers == "last" else task.adapt_all()
    return adapted, replace(result, notes=(*left_out, *notes))


def check_classes(support: ImageSet, query: ImageSet) -> tuple[str, ...]:
    """Notes about query classes without support images."""
    for part, images in (("support", support), ("query", query)):
        if len(images.class_names) < 2:
            problem = (
                f"all {part} images are of one class, {images.class_names[0]!r}; at least two are "
                "needed. To add one class to those you have, give their images as a gallery "
                "(--gallery FOLDER)"
            )
            raise OodmlError(problem, part, images.class_names)
    known = set(support.class_names)
    missing = [name for name in query.class_names if name not in known]
    if len(missing) == len(query.class_names):
        problem = (
            f"no class of the queries ({missing[0]!r}, …) is among the support classes "
            f"({support.class_names[0]!r}, …); the folders of a class must have the same name in "
            "both"
        )
        raise OodmlError(problem, "query", missing[0], support.class_names)
    if not missing:
        return ()
    named = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
    verb = "class has" if len(missing) == 1 else "classes have"
    return (
        f"{len(missing)} query {verb} no support images: {named}. Accuracy is not computed; the "
        "other metrics include their images",
    )


def leave_out_copies(
    query: ImageSet,
    features: Float[np.ndarray, "n f"],
    others: Mapping[str, tuple[ImageSet, Float[np.ndarray, "m f"]]],
) -> tuple[ImageSet, Float[np.ndarray, "q f"], tuple[str, ...]]:
    """The queries, and their features, without images that are also in another set.

    Args:
        features: [n f] their features.
        others: name, images, and features of the other sets.
    """
    notes = []
    for name, (images, other_features) in others.items():
        copies = find_copies(query, features, images, other_features)
        if not copies.any():
            continue
        example = str(query.ids[np.flatnonzero(copies)[0]])
        if copies.all():
            problem = (
                f"every query image is also a {name} image ({example!r}, …). Give other images as "
                "queries"
            )
            raise OodmlError(problem, "query", example)
        number = int(copies.sum())
        what = (
            f"query image is also a {name} image and is"
            if number == 1
            else (f"query images are also {name} images and are")
        )
        notes.append(f"{number} {what} left out: {example!r}{', …' if number > 1 else ''}")
        query, features = query.select(~copies), features[~copies]
    return query, features, tuple(notes)


@dataclass(frozen=True)
class _Task:
    model: Embedder
    support: ImageSet
    query: ImageSet
    features: Mapping[str, Float[np.ndarray, "_ f"]]
    settings: AdaptSettings
    seed: int
    device: torch.device

    def adapt_head(self) -> tuple[Embedder, AdaptResult]:
        """Adapt the last layer on features."""
        parts = [self.features["support"], self.features["query"]]
        features = torch.from_numpy(np.concatenate(parts)).to(self.device)
        result = adapt(
            features,
            np.concatenate([self.support.classes, self.query.classes]),
            [rows_by_class(self.support)],
            heads_of(self.model.head, features.shape[1]).to(self.device),
            self.settings,
            support_views=view_features(
                self.support, self.model, self.settings, self.seed, self.device
            ),
            seed=self.seed,
            lists=self._lists(),
        )
        head = result.heads.module(self.model.head)
        return Embedder(self.model.settings, head, self.model.backbone).eval(), result

    def adapt_all(self) -> tuple[Embedder, AdaptResult]:
        """Adapt the whole network on images."""
        whole = finetune_settings(self.model.settings)
        images = input_images(self.support, whole)
        rows = rows_by_class(self.support)
        trained = finetune_on_support(
            self.model, images, rows, self.settings, self.seed, 0, self.device
        )
        adapted = Embedder(whole, trained.head, trained.backbone)
        classes = np.concatenate([self.support.classes, self.query.classes])
        labels = np.unique(classes, return_inverse=True)[1]
        queries = Queries(labels, rows, self.settings.metrics, self._lists())
        metrics = []
        for model in (self.model, adapted):
            parts = [
                embed(images, model, device=self.device).vectors
                for images in (self.support, self.query)
            ]
            metrics.append(queries.evaluate(torch.from_numpy(np.concatenate(parts))))
        heads = heads_of(adapted.head, adapted.require_backbone().features)
        return adapted.eval(), AdaptResult((metrics[0],), (metrics[1],), heads)

    def _lists(self) -> QueryLists | None:
        lists = query_lists(self.query)
        if lists is None:
            return None
        before = np.zeros(len(self.support), dtype=np.bool_)
        masks = (np.concatenate([before, mask]) for mask in (lists.queries, lists.gallery))
        return QueryLists(*masks)


def rows_by_class(images: ImageSet, first: int = 0) -> dict[str, list[int]]:
    """The rows of each class, counted from `first`."""
    return {
        name: (first + np.flatnonzero(images.classes == name)).tolist()
        for name in images.class_names
    }


def view_features(
    images: ImageSet, model: Embedder, settings: AdaptSettings, seed: int, device: torch.device
) -> dict[int, Float[torch.Tensor, "v f"]] | None:
    """The features of the augmented views of each image; None for an objective without views."""
    if settings.closed_form:
        return None
    views = [
        backbone_features(images, model, view=view, seed=seed, device=device)
        for view in range(settings.views)
    ]
    return dict(enumerate(torch.from_numpy(np.stack(views, axis=1))))


def find_copies(
    images: ImageSet,
    features: Float[np.ndarray, "n f"],
    others: ImageSet,
    other_features: Float[np.ndarray, "m f"],
) -> Bool[np.ndarray, " n"]:
    """Which images have the same pixels as one of the others, whatever their names and formats.

    The features only select candidates; the decoded pixels decide.

    Args:
        features, other_features: [n f], [m f] their features under one network.
    """
    copies = np.zeros(len(images), dtype=bool)
    rows, columns = _unit(features), _unit(other_features)
    for start in range(0, len(rows), _BLOCK):
        distances = 1 - rows[start : start + _BLOCK] @ columns.T
        for row in np.flatnonzero(distances.min(axis=1) < _TOLERANCE):
            order = np.argsort(distances[row])[:_CANDIDATES]
            candidates = order[distances[row][order] < _TOLERANCE]
            copies[start + row] = _is_any(images, start + int(row), others, candidates.tolist())
    return copies


def _unit(features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, np.finfo(np.float32).tiny))


def _is_any(images: ImageSet, row: int, others: ImageSet, candidates: list[int]) -> bool:
    pixels = np.asarray(images.read(row))
    return any(np.array_equal(pixels, np.asarray(others.read(other))) for other in candidates)
