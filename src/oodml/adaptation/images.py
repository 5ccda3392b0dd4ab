"""Few-shot adaptation of a model to one collection of support images, tested on another."""

from typing import Any

import numpy as np
import torch

from oodml.adaptation.episodes import AdaptResult, Metrics, Queries, adapt
from oodml.adaptation.heads import heads_of
from oodml.adaptation.network import adapted_network, refuse_baselines
from oodml.adaptation.settings import AdaptSettings
from oodml.embedding import default_device, embed, trunk_features
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import input_images
from oodml.model import Embedder


def adapt_model(
    model: Embedder,
    support: ImageSet,
    query: ImageSet,
    settings: AdaptSettings | None = None,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> tuple[Embedder, AdaptResult]:
    """The model adapted to the support images, its last layer or all, and what that brought.

    Of the last layer, every query image is embedded once, every support image once a view, and the
    trunk serves both models. Of all layers, every step reads, augments and embeds its batch, and
    the model that comes back holds its whole network. The result has one episode: metrics on the
    query images, before and after, with "accuracy" where there are support images of every query
    class. The model given stays as it is.
    """
    settings = settings or AdaptSettings()
    place = torch.device(device) if device is not None else default_device()
    with_support = set(query.class_names) <= set(support.class_names)
    if not set(query.class_names) & set(support.class_names):
        raise OodmlError(
            f"no class of the queries ({query.class_names[0]!r} …) is among the support classes "
            f"({support.class_names[0]!r} …); the folders of a class must have the same name"
        )
    if with_support and "accuracy" not in settings.metrics:
        settings = settings.model_copy(update={"metrics": (*settings.metrics, "accuracy")})
    rows = {name: np.flatnonzero(support.classes == name).tolist() for name in support.class_names}
    adapting = _last_layer if settings.layers == "last" else _all_layers
    return adapting(model, support, query, rows, settings, seed, place)


def _last_layer(
    model: Embedder,
    support: ImageSet,
    query: ImageSet,
    rows: dict[str, list[int]],
    settings: AdaptSettings,
    seed: int,
    device: torch.device,
) -> tuple[Embedder, AdaptResult]:
    parts = [trunk_features(images, model, device=device) for images in (support, query)]
    views = [
        trunk_features(support, model, view=view, seed=seed, device=device)
        for view in range(settings.views)
    ]
    features = torch.from_numpy(np.concatenate(parts)).to(device)
    result = adapt(
        features,
        np.concatenate([support.classes, query.classes]),
        [rows],
        heads_of(model.head, features.shape[1]).to(device),
        settings,
        support_views=dict(enumerate(torch.from_numpy(np.stack(views, axis=1)))),
        seed=seed,
    )
    adapted = Embedder(model.settings, result.heads.module(model.head))
    adapted.trunk = model.backbone
    return adapted.eval(), result


def _all_layers(
    model: Embedder,
    support: ImageSet,
    query: ImageSet,
    rows: dict[str, list[int]],
    settings: AdaptSettings,
    seed: int,
    device: torch.device,
) -> tuple[Embedder, AdaptResult]:
    refuse_baselines(settings)
    changes: dict[str, Any] = {"mode": "finetune"}
    if model.settings.mode == "head":  # it read every image from its file, and goes on to
        changes["input_cache"] = "off"
    whole = model.settings.model_copy(update=changes)
    seen = input_images(support, whole)
    found = adapted_network(model, seen, rows, settings, seed, 0, device)
    adapted = Embedder(whole, found.head)
    adapted.trunk = found.backbone
    labels = np.unique(np.concatenate([support.classes, query.classes]), return_inverse=True)[1]
    queries = Queries(labels, rows, settings.metrics)

    def measured(one: Embedder) -> Metrics:
        parts = [embed(images, one, device=device).vectors for images in (support, query)]
        return queries.measure(torch.from_numpy(np.concatenate(parts)))

    heads = heads_of(adapted.head, adapted.backbone.features)
    return adapted.eval(), AdaptResult((measured(model),), (measured(adapted),), heads)
