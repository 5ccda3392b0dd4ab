"""What a run trains and evaluates on: cached features of a frozen backbone, or live images."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from oodml.backbones import Backbone, load_backbone
from oodml.embedding import backbone_features, embed, evaluation_mode
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, FinetuneSettings, HeadSettings
from oodml.model_input import input_images
from oodml.study.plan import Run
from oodml.study.prepare import Context, frozen_features
from oodml.training.sources import BatchSource, FeatureSource, ImageSource
from oodml.vectors import VectorSet


class CachedFeatures:
    """Features of all images under a frozen backbone, computed once per view and cached."""

    def __init__(
        self, settings: HeadSettings, images: ImageSet, device: torch.device, adapts: bool = False
    ) -> None:
        self.settings, self.images, self.device, self.adapts = settings, images, device, adapts
        self.features = cache(lambda view: frozen_features(settings, images, view, device))

    def load_backbone(self) -> Backbone | None:
        """The backbone for a new model; None unless a run adapts it."""
        settings = self.settings
        return load_backbone(settings.backbone, settings.weights) if self.adapts else None

    def width(self, model: Embedder) -> int:
        return int(self.features(None).vectors.shape[1])

    def source(self, classes: Sequence[str], model: Embedder) -> BatchSource:
        """Training batches of some classes; labels are positions in the sorted class names."""
        rows, labels = class_rows(self.images, classes)
        views = [self.features(view).vectors[rows] for view in range(self.settings.views)]
        return FeatureSource(torch.from_numpy(np.stack(views)), labels)

    def embed(self, model: Embedder, classes: Sequence[str]) -> VectorSet:
        return self._embed(model, self.features(None).select(class_rows(self.images, classes)[0]))

    def embed_images(self, model: Embedder, images: ImageSet) -> VectorSet:
        return self._embed(model, frozen_features(self.settings, images, device=self.device))

    def _embed(self, model: Embedder, chosen: VectorSet) -> VectorSet:
        with evaluation_mode(model):
            features = torch.from_numpy(chosen.vectors).to(self.device)
            vectors = model.head.embed(features).cpu().numpy()  # type: ignore[operator]
        return replace(chosen, vectors=vectors)

    def backbone_features(
        self, model: Embedder, images: ImageSet, view: int | None, seed: int
    ) -> VectorSet:
        """The features that the head is applied to, under the test view or a training view."""
        features: VectorSet = self.features(view)
        return features.select(np.isin(features.ids, images.ids))


class LiveImages:
    """Images that are decoded, augmented, and run through the whole network."""

    def __init__(
        self, settings: FinetuneSettings, images: ImageSet, device: torch.device, seed: int
    ) -> None:
        self.settings, self.device, self.seed = settings, device, seed
        self.images = input_images(images, settings)

    def load_backbone(self) -> Backbone | None:
        return load_backbone(self.settings.backbone, self.settings.weights, self.seed)

    def width(self, model: Embedder) -> int:
        return model.require_backbone().width(self.settings.pooling)

    def source(self, classes: Sequence[str], model: Embedder) -> BatchSource:
        rows, labels = class_rows(self.images, classes)
        images = self.images.select(rows)
        return ImageSource(images, labels, model.image_size, self.settings.augmentation)

    def embed(self, model: Embedder, classes: Sequence[str]) -> VectorSet:
        rows, _ = class_rows(self.images, classes)
        return self.embed_images(model, self.images.select(rows))

    def embed_images(self, model: Embedder, images: ImageSet) -> VectorSet:
        return embed(images, model, device=self.device)

    def backbone_features(
        self, model: Embedder, images: ImageSet, view: int | None, seed: int
    ) -> VectorSet:
        vectors = backbone_features(images, model, view=view, seed=seed, device=self.device)
        return VectorSet(vectors, images.classes, images.ids, images.superclasses)


RunInputs = CachedFeatures | LiveImages


def open_run_inputs(run: Run, context: Context) -> RunInputs:
    if isinstance(run.model, HeadSettings):
        adapts = bool(run.shots) and run.adapt.layers == "all"
        return CachedFeatures(run.model, context.images, context.device, adapts)
    return LiveImages(run.model, context.images, context.device, run.seed)


def class_rows(
    images: ImageSet, classes: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of some classes, and the label of each: the position among the sorted names."""
    rows = np.flatnonzero(np.isin(images.classes, classes))
    return rows, np.unique(images.classes[rows], return_inverse=True)[1]
