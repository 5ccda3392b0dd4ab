"""Few-shot adaptation on images, of the last layer or of the whole network."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from oodml import catalog
from oodml.adaptation.episodes import AdaptResult, Metrics, Queries, adapt, check_episodes
from oodml.adaptation.heads import heads_of, make_optimizer
from oodml.adaptation.settings import AdaptSettings
from oodml.adaptation.support import SupportBatches, support_of
from oodml.devices import resolve_device
from oodml.embedding import backbone_features, embed
from oodml.errors import OodmlError
from oodml.evaluate.neighbors import unit_vectors
from oodml.evaluate.query_lists import QueryLists, query_lists
from oodml.images.image_set import ImageSet
from oodml.images.transforms import batches, recipe, train_views
from oodml.model import Embedder, finetune_settings
from oodml.model_input import input_images
from oodml.progress import track
from oodml.randomness import derived_seed, generator, repeatable

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

    `episodes` are rows of `test` by class, the support images; all other rows are queries.
    """
    _require_loss(settings)
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


def _require_loss(settings: AdaptSettings) -> None:
    if settings.closed_form:
        problem = f'objective {settings.objective!r} is in closed form; use layers = "last"'
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
    """A copy of the model, trained on the support images of an episode: rows by class."""
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
    size, augmentation = model.image_size, recipe(model.settings.augmentation)
    seeds = [derived_seed(seed, "episode", number, "step", step) for step in range(len(steps))]
    views = batches(
        (batch.rows[0].numpy().astype(np.int64), train_views(images, size, augmentation, own))
        for batch, own in zip(steps, seeds, strict=True)
    )
    shown = track(views, "Adapting", len(steps), "steps")
    with repeatable(device):
        for batch, pixels in zip(steps, shown, strict=True):
            with torch.set_grad_enabled(whole):
                features = adapted.features(pixels.to(device))
            embeddings = adapted.head.embed(features)  # type: ignore[operator]
            loss = adapter.losses(embeddings[None], labels, batch, beta).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return adapted.eval()


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
        _require_loss(settings)
    notes = _check_classes(support, query)
    covered = set(query.class_names) <= set(support.class_names)
    if covered and "accuracy" not in settings.metrics:
        settings = settings.model_copy(update={"metrics": (*settings.metrics, "accuracy")})
    own, others = (backbone_features(images, model, device=resolved) for images in (support, query))
    query, others, left_out = leave_out_copies(query, others, {"support": (support, own)})
    if settings.layers == "all":
        adapted, result = _adapt_all(model, support, query, settings, seed, resolved)
    else:
        features = torch.from_numpy(np.concatenate([own, others])).to(resolved)
        result = adapt(
            features,
            np.concatenate([support.classes, query.classes]),
            [rows_by_class(support)],
            heads_of(model.head, features.shape[1]).to(resolved),
            settings,
            support_views=view_features(support, model, settings, seed, resolved),
            seed=seed,
            lists=_lists_after(support, query),
        )
        adapted = Embedder(model.settings, result.heads.module(model.head), model.backbone)
    return adapted.eval(), replace(result, notes=(*left_out, *notes))


def _adapt_all(
    model: Embedder,
    support: ImageSet,
    query: ImageSet,
    settings: AdaptSettings,
    seed: int,
    device: torch.device,
) -> tuple[Embedder, AdaptResult]:
    whole, rows = finetune_settings(model.settings), rows_by_class(support)
    images = input_images(support, whole)
    trained = finetune_on_support(model, images, rows, settings, seed, 0, device)
    adapted = Embedder(whole, trained.head, trained.backbone)
    labels = np.unique(np.concatenate([support.classes, query.classes]), return_inverse=True)[1]
    queries = Queries(labels, rows, settings.metrics, _lists_after(support, query))
    metrics = []
    for one in (model, adapted):
        parts = [embed(images, one, device=device).vectors for images in (support, query)]
        metrics.append(queries.evaluate(torch.from_numpy(np.concatenate(parts))))
    heads = heads_of(adapted.head, adapted.require_backbone().features)
    return adapted, AdaptResult((metrics[0],), (metrics[1],), heads)


def _lists_after(support: ImageSet, query: ImageSet) -> QueryLists | None:
    """The lists of the queries, in the rows of the support images followed by the queries."""
    if (lists := query_lists(query)) is None:
        return None
    before = np.zeros(len(support), dtype=np.bool_)
    return QueryLists(*(np.concatenate([before, m]) for m in (lists.queries, lists.gallery)))


def _check_classes(support: ImageSet, query: ImageSet) -> tuple[str, ...]:
    """Notes about query classes without support images."""
    for part, images in (("support", support), ("query", query)):
        if len(images.class_names) < 2:
            problem = f"all {part} images are of one class, {images.class_names[0]!r}; two are "
            remedy = "needed, or images of known classes as a gallery (--gallery FOLDER)"
            raise OodmlError(problem + remedy, part, images.class_names)
    known = set(support.class_names)
    missing = [name for name in query.class_names if name not in known]
    if len(missing) == len(query.class_names):
        problem = (
            f"no class of the queries ({missing[0]!r}, …) is among the support classes "
            f"({support.class_names[0]!r}, …); a class must have the same name in both"
        )
        raise OodmlError(problem, "query", missing[0], support.class_names)
    if not missing:
        return ()
    verb = "class has" if len(missing) == 1 else "classes have"
    return (
        f"{len(missing)} query {verb} no support images: {list_some(missing)}. Accuracy is not "
        "computed; the other metrics include their images",
    )


def list_some(names: Sequence[str]) -> str:
    """Up to five names in quotes."""
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")


def leave_out_copies(
    query: ImageSet,
    features: Float[np.ndarray, "n f"],
    others: Mapping[str, tuple[ImageSet, Float[np.ndarray, "m f"]]],
) -> tuple[ImageSet, Float[np.ndarray, "q f"], tuple[str, ...]]:
    """The queries and their features, without images that are also in another set; and notes."""
    notes = []
    for name, (images, other_features) in others.items():
        copies = _find_copies(query, features, images, other_features)
        if not copies.any():
            continue
        example, number = str(query.ids[np.flatnonzero(copies)[0]]), int(copies.sum())
        if copies.all():
            problem = f"every query image is also a {name} image ({example!r}, …)"
            raise OodmlError(f"{problem}. Give other images as queries", "query", example)
        one = f"1 query image is also a {name} image and is left out: {example!r}"
        many = f"{number} query images are also {name} images and are left out: {example!r}, …"
        notes.append(one if number == 1 else many)
        query, features = query.select(~copies), features[~copies]
    return query, features, tuple(notes)


def _find_copies(
    images: ImageSet,
    features: Float[np.ndarray, "n f"],
    others: ImageSet,
    other_features: Float[np.ndarray, "m f"],
) -> Bool[np.ndarray, " n"]:
    """Which images have the same pixels as another; the features only select candidates."""
    copies = np.zeros(len(images), dtype=bool)
    rows, columns = unit_vectors(features), unit_vectors(other_features)
    for start in range(0, len(rows), _BLOCK):
        distances = 1 - rows[start : start + _BLOCK] @ columns.T
        for row in np.flatnonzero(distances.min(axis=1) < _TOLERANCE):
            order = np.argsort(distances[row])[:_CANDIDATES]
            pixels = np.asarray(images.read(start + int(row)))
            copies[start + row] = any(
                np.array_equal(pixels, np.asarray(others.read(int(other))))
                for other in order[distances[row][order] < _TOLERANCE]
            )
    return copies


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
