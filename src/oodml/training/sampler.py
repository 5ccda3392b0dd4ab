"""Class-balanced batches of distinct images."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError


class ClassBalanced:
    """Batches of batch_size / per_class classes with per_class distinct images each.

    With fewer classes than that, every batch holds all classes and more images of each. A class
    with fewer images than wanted gives all it has. The original draws images with replacement,
    so that an image can be its own positive; here it cannot.

    labels: [n]. An epoch has ⌊n / batch_size⌋ batches, at least one.
    """

    def __init__(self, labels: NDArray[np.int64], batch_size: int, per_class: int) -> None:
        if batch_size < 2 * per_class:
            raise OodmlError(
                f"batch_size {batch_size} holds fewer than two classes of per_class {per_class}"
            )
        order = np.argsort(labels, kind="stable")
        bounds = np.flatnonzero(np.diff(labels[order])) + 1
        self.members = [part for part in np.split(order, bounds) if len(part)]
        if len(self.members) < 2:
            raise OodmlError(f"training needs two classes; there are {len(self.members)}")
        self.classes = min(len(self.members), batch_size // per_class)
        self.per_class = max(per_class, batch_size // self.classes)
        self.batches = max(1, len(labels) // batch_size)

    def __len__(self) -> int:
        return self.batches

    def epoch(self, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """The rows of each batch of one epoch."""
        for _ in range(self.batches):
            chosen = random.choice(len(self.members), self.classes, replace=False)
            yield np.concatenate([self._images(self.members[c], random) for c in chosen])

    def _images(self, members: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        count = min(self.per_class, len(members))
        return members[random.permutation(len(members))[:count]]
