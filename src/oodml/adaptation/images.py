"""Few-shot adaptation of a model to one collection of support images, tested on another."""

import numpy as np
import torch

from oodml.adaptation.episodes import AdaptResult, adapt
from oodml.adaptation.heads import heads_of
from oodml.adaptation.settings import AdaptSettings
from oodml.embedding import default_device, trunk_features
from oodml.errors import OodmlError
from oodml.images import ImageSet
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
    """The model with its last layer adapted to the support images, and what that brought.

    Every query image is embedded once, every support image once a view. The result has one
    episode: metrics on the query images, before and after, with "accuracy" where there are support
    images of every query class. The model given stays as it is; the trunk serves both.
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
    parts = [trunk_features(images, model, device=place) for images in (support, query)]
    views = [
        trunk_features(support, model, view=view, seed=seed, device=place)
        for view in range(settings.views)
    ]
    features = torch.from_numpy(np.concatenate(parts)).to(place)
    rows = {name: np.flatnonzero(support.classes == name).tolist() for name in support.class_names}
    result = adapt(
        features,
        np.concatenate([support.classes, query.classes]),
        [rows],
        heads_of(model.head, features.shape[1]).to(place),
        settings,
        support_views=dict(enumerate(torch.from_numpy(np.stack(views, axis=1)))),
        seed=seed,
    )
    adapted = Embedder(model.settings, result.heads.module(model.head))
    adapted.trunk = model.backbone
    return adapted.eval(), result
