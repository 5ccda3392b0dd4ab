"""Few-shot adaptation of a model to one set of support images, tested on another."""

from dataclasses import dataclass

import numpy as np
import torch

from oodml.adaptation.episodes import AdaptResult, Metrics, Queries, adapt
from oodml.adaptation.heads import heads_of
from oodml.adaptation.network import finetune_on_support, require_loss
from oodml.adaptation.settings import AdaptSettings
from oodml.devices import resolve_device
from oodml.embedding import backbone_features, embed
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, finetune_settings
from oodml.model_input import input_images


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
    its whole network.

    Args:
        model: the model to adapt; it is not modified.
        support: the labeled images to adapt to.
        query: the images to test on.
        settings: how to adapt.
        seed: random seed for views and batches.
        device: where to compute; by default CUDA if available, else the CPU.

    Returns:
        The adapted model and a result with one episode. The metrics include "accuracy" if every
        query class has support images.

    Raises:
        OodmlError: if support and queries have no class in common, or are too small.
    """
    settings = settings or AdaptSettings()
    resolved = resolve_device(device)
    if not set(query.class_names) & set(support.class_names):
        raise OodmlError(
            f"no class of the queries ({query.class_names[0]!r}, …) is among the support classes "
            f"({support.class_names[0]!r}, …); the folders of a class must have the same name in "
            "both",
            location="query",
            given=query.class_names[0],
            allowed=support.class_names,
        )
    covered = set(query.class_names) <= set(support.class_names)
    if covered and "accuracy" not in settings.metrics:
        settings = settings.model_copy(update={"metrics": (*settings.metrics, "accuracy")})
    task = _Task(model, support, query, settings, seed, resolved)
    return task.adapt_head() if settings.layers == "last" else task.adapt_all()


@dataclass(frozen=True)
class _Task:
    model: Embedder
    support: ImageSet
    query: ImageSet
    settings: AdaptSettings
    seed: int
    device: torch.device

    @property
    def rows(self) -> dict[str, list[int]]:
        """The rows of the support images of each class."""
        classes = self.support.classes
        return {name: np.flatnonzero(classes == name).tolist() for name in self.support.class_names}

    def adapt_head(self) -> tuple[Embedder, AdaptResult]:
        """Adapt the last layer on features."""
        model, device = self.model, self.device
        parts = [
            backbone_features(images, model, device=device) for images in (self.support, self.query)
        ]
        views = [
            backbone_features(self.support, model, view=view, seed=self.seed, device=device)
            for view in range(self.settings.views)
        ]
        features = torch.from_numpy(np.concatenate(parts)).to(device)
        result = adapt(
            features,
            np.concatenate([self.support.classes, self.query.classes]),
            [self.rows],
            heads_of(model.head, features.shape[1]).to(device),
            self.settings,
            support_views=dict(enumerate(torch.from_numpy(np.stack(views, axis=1)))),
            seed=self.seed,
        )
        adapted = Embedder(model.settings, result.heads.module(model.head), model.backbone)
        return adapted.eval(), result

    def adapt_all(self) -> tuple[Embedder, AdaptResult]:
        """Adapt the whole network on images."""
        require_loss(self.settings)
        whole = finetune_settings(self.model.settings)
        images = input_images(self.support, whole)
        trained = finetune_on_support(
            self.model, images, self.rows, self.settings, self.seed, 0, self.device
        )
        adapted = Embedder(whole, trained.head, trained.backbone)
        classes = np.concatenate([self.support.classes, self.query.classes])
        labels = np.unique(classes, return_inverse=True)[1]
        queries = Queries(labels, self.rows, self.settings.metrics)
        metrics = [self._evaluate(one, queries) for one in (self.model, adapted)]
        heads = heads_of(adapted.head, adapted.require_backbone().features)
        return adapted.eval(), AdaptResult((metrics[0],), (metrics[1],), heads)

    def _evaluate(self, model: Embedder, queries: Queries) -> Metrics:
        parts = [
            embed(images, model, device=self.device).vectors
            for images in (self.support, self.query)
        ]
        return queries.evaluate(torch.from_numpy(np.concatenate(parts)))
