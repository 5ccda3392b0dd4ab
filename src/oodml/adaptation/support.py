"""The support images of an episode."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.errors import OodmlError

STEPS_PER_DRAW = 32
"""Steps whose random numbers are drawn together; the results of a seed depend on it."""


@dataclass(frozen=True)
class Support:
    """The images of one episode: rows of each class, of which the first `counts` are used."""

    names: tuple[str, ...]
    members: Int[Tensor, "c k"]
    counts: Int[Tensor, " c"]


def support_of(members: Mapping[str, Sequence[int]]) -> Support:
    """The support images from the rows of each class."""
    counts = torch.tensor([len(rows) for rows in members.values()])
    table = torch.zeros(len(members), int(counts.max()), dtype=torch.long)
    for line, rows in zip(table, members.values(), strict=True):
        line[: len(rows)] = torch.tensor(rows)
    return Support(tuple(members), table, counts)


def class_means(embeddings: Float[Tensor, "s d"], support: Support) -> Float[Tensor, "c d"]:
    """The mean embedding of each support class."""
    present = torch.arange(support.members.shape[1]) < support.counts[:, None]
    weights = (present / support.counts[:, None]).to(embeddings)
    members = support.members.to(embeddings.device)
    return torch.einsum("ckd,ck->cd", embeddings[members], weights)


@dataclass(frozen=True)
class SupportBatch:
    """One step's batch of every episode; the `b` images are grouped by class.

    `rows` are positions among the flattened views, `classes` positions in `Support.names`, and
    `uniform` random numbers in [0, 1) for mining.
    """

    rows: Int[Tensor, "e b"]
    classes: Int[Tensor, "e b"]
    uniform: Float[Tensor, "e 2 b"]


class SupportBatches:
    """Class-balanced batches of distinct images, with a random view of each.

    An image is never its own positive. With fewer classes than a batch has room for, batches
    contain all classes with more images of each. Classes with fewer than `per_class` images are
    left out. The batches of an episode do not depend on the other episodes if all have the same
    numbers of classes and shots.

    (The original code draws images with replacement, so most positive pairs are an image and
    itself, and takes no step with fewer classes than a batch needs.)
    """

    def __init__(
        self,
        support: Sequence[Support],
        generators: Sequence[torch.Generator],
        views: int,
        batch_size: int,
        per_class: int,
    ) -> None:
        self.usable = [_usable_classes(one, per_class) for one in support]
        self.support, self.generators, self.views = support, generators, views
        self.classes = min(batch_size // per_class, *map(len, self.usable))
        counts = [s.counts[rows] for s, rows in zip(support, self.usable, strict=True)]
        fewest = min(int(count.min()) for count in counts)
        self.slots = min(fewest, max(per_class, batch_size // self.classes))

    def labels(self) -> Int[Tensor, " b"]:
        """Which images of a batch share a class; the same for all batches and episodes."""
        return torch.arange(self.classes).repeat_interleave(self.slots)

    def draw(self, steps: int) -> Iterator[SupportBatch]:
        """Draw one batch per step."""
        for start in range(0, steps, STEPS_PER_DRAW):
            parts = [self._draw_steps(episode) for episode in range(len(self.support))]
            rows, classes, uniform = (torch.stack(part) for part in zip(*parts, strict=True))
            for step in range(min(STEPS_PER_DRAW, steps - start)):
                yield SupportBatch(rows[:, step], classes[:, step], uniform[:, step].contiguous())

    def _draw_steps(self, episode: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [t b], classes [t b], and random numbers [t 2 b] of an episode's next steps."""
        support, usable = self.support[episode], self.usable[episode]
        generator = self.generators[episode]
        keys = torch.rand(STEPS_PER_DRAW, len(usable), generator=generator)
        classes = usable[keys.argsort(1)[:, : self.classes]]
        members, counts = support.members[classes], support.counts[classes]
        keys = torch.rand(members.shape, generator=generator)
        absent = torch.arange(members.shape[2]) >= counts[..., None]
        order = keys.masked_fill(absent, 2.0).argsort(2)[..., : self.slots]
        images = members.gather(2, order)
        view = torch.randint(self.views, images.shape, generator=generator)
        batch = self.classes * self.slots
        uniform = torch.rand(STEPS_PER_DRAW, 2, batch, generator=generator)
        return (
            (images * self.views + view).view(-1, batch),
            classes.repeat_interleave(self.slots, 1),
            uniform,
        )


def _usable_classes(support: Support, per_class: int) -> Int[Tensor, " u"]:
    usable = torch.nonzero(support.counts >= per_class).flatten()
    if len(usable) < 2:
        most = int(support.counts.max())
        problem = (
            f"an episode has {len(usable)} classes with at least per_class = {per_class} support "
            f"images (of {len(support.names)} classes with at most {most} images each), but a loss "
            'needs two. Use objective = "prototypes" or "linear", or add images'
        )
        raise OodmlError(problem, "support", len(usable))
    return usable
