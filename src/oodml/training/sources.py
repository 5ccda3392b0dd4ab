"""Sources of training batches: cached features, or images."""

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
from oodml.images.transforms import batches, recipe, train_views
from oodml.randomness import derived_seed

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Views:
    """One batch: one or two augmented views of each image, as features or as images."""

    rows: Rows
    features: list[Float[Tensor, "n f"]] = field(default_factory=list)
    images: list[UInt8[Tensor, "n 3 h w"]] = field(default_factory=list)


@runtime_checkable
class BatchSource(Protocol):
    """A source of training batches; `labels` [n] is the class of each image."""

    labels: Rows

    def batches(self, rows: Iterator[Rows], seed: int, n_views: int) -> Iterator[Views]:
        """The batches of one epoch, with `n_views` different views of each image."""


class FeatureSource:
    """Cached features [v n f] of several augmented views of every image."""

    def __init__(self, views: Float[Tensor, "v n f"], labels: Rows) -> None:
        self.views, self.labels = views, labels

    def batches(self, rows: Iterator[Rows], seed: int, n_views: int) -> Iterator[Views]:
        if len(self.views) < n_views:
            problem = f"model.views: given {len(self.views)}; the method needs at least {n_views}"
            raise OodmlError(problem, "model.views", len(self.views))
        random = np.random.Generator(np.random.PCG64(seed))
        for batch in rows:
            order = random.random((len(self.views), len(batch))).argsort(axis=0)
            index = torch.from_numpy(batch)
            selected = [self.views[torch.from_numpy(view), index] for view in order[:n_views]]
            yield Views(batch, features=selected)


class ImageSource:
    """Images that are augmented as they are read, to square views of `size` pixels."""

    def __init__(self, images: ImageSet, labels: Rows, size: int, augmentation: str) -> None:
        self.images, self.labels, self.size = images, labels, size
        self.recipe = recipe(augmentation)

    def batches(self, rows: Iterator[Rows], seed: int, n_views: int) -> Iterator[Views]:
        order = list(rows)
        jobs = (
            (batch, train_views(self.images, self.size, self.recipe, derived_seed(seed, b, v)))
            for b, batch in enumerate(order)
            for v in range(n_views)
        )
        loaded = batches(jobs)
        for batch in order:
            yield Views(batch, images=[next(loaded) for _ in range(n_views)])


class ClassBalanced:
    """Samples batches of batch_size / per_class classes with per_class distinct images each.

    If there are fewer classes, every batch contains all of them with more images per class. Unlike
    in the original study, no image is its own positive. An epoch has ⌊n / batch_size⌋ batches, at
    least one.
    """

    def __init__(self, labels: NDArray[np.int64], batch_size: int, per_class: int) -> None:
        if batch_size < 2 * per_class:
            problem = f"{batch_size} must be at least twice train.per_class {per_class}"
            raise OodmlError(f"train.batch_size {problem}", "train.batch_size", batch_size)
        order = np.argsort(labels, kind="stable")
        bounds = np.flatnonzero(np.diff(labels[order])) + 1
        self.members = [rows for rows in np.split(order, bounds) if len(rows)]
        if len(self.members) < 2:
            problem = f"training needs at least two classes; given {len(self.members)}"
            raise OodmlError(problem, "train classes", len(self.members))
        self.classes = min(len(self.members), batch_size // per_class)
        self.per_class = max(per_class, batch_size // self.classes)
        self.batches = max(1, len(labels) // batch_size)

    def sample_epoch(self, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        for _ in range(self.batches):
            classes = random.choice(len(self.members), self.classes, replace=False)
            members = [self.members[c] for c in classes]
            chosen = [rows[random.permutation(len(rows))[: self.per_class]] for rows in members]
            yield np.concatenate(chosen)
