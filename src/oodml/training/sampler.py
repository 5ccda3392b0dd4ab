"""Class-balanced batches of distinct images."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError


class ClassBalanced:
    """Samples batches of batch_size / per_class classes with per_class distinct images each.

    If there are fewer classes, every batch contains all of them with more images per class. A class
    with fewer images contributes all of them. The original study samples images with replacement,
    so that an image can be its own positive; here it cannot.

    Args:
        labels: [n] the class of each image. An epoch has ⌊n / batch_size⌋ batches, at least one.
    """

    def __init__(self, labels: NDArray[np.int64], batch_size: int, per_class: int) -> None:
        if batch_size < 2 * per_class:
            problem = (
                f"train.batch_size {batch_size} must be at least twice train.per_class {per_class}"
            )
            raise OodmlError(problem, "train.batch_size", batch_size)
        order = np.argsort(labels, kind="stable")
        bounds = np.flatnonzero(np.diff(labels[order])) + 1
        self.members = [rows for rows in np.split(order, bounds) if len(rows)]
        if len(self.members) < 2:
            problem = f"training needs at least two classes; given {len(self.members)}"
            raise OodmlError(problem, "train classes", len(self.members))
        self.classes = min(len(self.members), batch_size // per_class)
        self.per_class = max(per_class, batch_size // self.classes)
        self.batches = max(1, len(labels) // batch_size)

    def __len__(self) -> int:
        return self.batches

    def sample_epoch(self, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """The rows of each batch of one epoch."""
        for _ in range(self.batches):
            classes = random.choice(len(self.members), self.classes, replace=False)
            yield np.concatenate([self._sample_images(self.members[c], random) for c in classes])

    def _sample_images(
        self, members: NDArray[np.int64], random: np.random.Generator
    ) -> NDArray[np.int64]:
        count = min(self.per_class, len(members))
        return members[random.permutation(len(members))[:count]]
