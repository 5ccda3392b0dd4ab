"""Where training batches come from: features embedded once, or images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.images.loader import batches, train_views
from oodml.images.transforms import recipe
from oodml.randomness import derived_seed

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Views:
    """One batch as a source gives it: features or images, of one or two views."""

    rows: Rows
    features: list[Float[Tensor, "n f"]] = field(default_factory=list)
    images: list[UInt8[Tensor, "n 3 h w"]] = field(default_factory=list)


@runtime_checkable
class Source(Protocol):
    """Where training batches come from."""

    labels: Rows

    def batches(self, rows: Iterator[Rows], seed: int, n_views: int) -> Iterator[Views]:
        """The batches of one epoch; `seed` fixes the views that are drawn."""


class FeatureSource:
    """Cached features of several views of every image: [v n f]."""

    def __init__(self, views: Float[Tensor, "v n f"], labels: Rows) -> None:
        self.views = views
        self.labels = labels

    def batches(self, rows: Iterator[Rows], seed: int, n_views: int) -> Iterator[Views]:
        if len(self.views) < n_views:
            raise OodmlError(f"model.views: {len(self.views)}; the method needs {n_views}")
        random = np.random.Generator(np.random.PCG64(seed))
        for chosen in rows:
            order = random.random((len(self.views), len(chosen))).argsort(axis=0)
            drawn = order[:n_views]  # of each image, views that differ
            index = torch.from_numpy(chosen)
            yield Views(chosen, [self.views[torch.from_numpy(view), index] for view in drawn])


class ImageSource:
    """Images, augmented as they are read."""

    def __init__(self, images: ImageSet, labels: Rows, size: int, augmentation: str) -> None:
        self.images = images
        self.labels = labels
        self.size = size
        self.recipe = recipe(augmentation)

    def batches(self, rows: Iterator[Rows], seed: int, n_views: int) -> Iterator[Views]:
        order = list(rows)
        jobs = (
            (chosen, train_views(self.images, self.size, self.recipe, derived_seed(seed, b, v)))
            for b, chosen in enumerate(order)
            for v in range(n_views)
        )
        made = batches(jobs)
        for chosen in order:
            yield Views(chosen, images=[next(made) for _ in range(n_views)])
