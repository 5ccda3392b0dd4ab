"""Support images of many episodes, and batches drawn from all of them at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.errors import OodmlError

DRAWN_AT_ONCE = 32
"""Steps whose random numbers are drawn together; part of what a seed means."""


@dataclass(frozen=True)
class Support:
    """The labelled images of one episode.

    names: the classes. members: [c k] their rows among the support views, the rest unused.
    counts: [c] how many of the k are there.
    """

    names: tuple[str, ...]
    members: Int[Tensor, "c k"]
    counts: Int[Tensor, " c"]


@dataclass(frozen=True)
class Batch:
    """One step's batch of every episode: `b` images, the slots of a class beside each other.

    rows: [e b] positions in the flattened views. classes: [e b] positions in `Support.names`.
    uniform: [e 2 b] numbers in [0, 1) for mining.
    """

    rows: Int[Tensor, "e b"]
    classes: Int[Tensor, "e b"]
    uniform: Float[Tensor, "e 2 b"]


def support_of(members: Mapping[str, Sequence[int]]) -> Support:
    """From the rows of each class."""
    counts = torch.tensor([len(rows) for rows in members.values()])
    table = torch.zeros(len(members), int(counts.max()), dtype=torch.long)
    for line, rows in zip(table, members.values(), strict=True):
        line[: len(rows)] = torch.tensor(rows)
    return Support(tuple(members), table, counts)


class SupportBatches:
    """Class-balanced batches of distinct images, a random view of each.

    The original draws images with replacement, so that most pairs it pulls together are one image
    twice, and takes no step at all with fewer classes than a batch wants. Here an image is never
    its own positive; fewer classes make a smaller batch. A class with fewer images than a batch
    takes of each is left out. What an episode draws does not depend on the episodes beside it if
    all have the same classes and shots.

    generators: one an episode; they alone decide.
    """

    def __init__(
        self,
        support: Sequence[Support],
        generators: Sequence[torch.Generator],
        views: int,
        batch_size: int,
        per_class: int,
    ) -> None:
        self.usable = [_usable(one, per_class) for one in support]
        self.support, self.generators, self.views = support, generators, views
        self.classes = min(batch_size // per_class, *(len(rows) for rows in self.usable))
        fewest = min(
            int(s.counts[rows].min()) for s, rows in zip(support, self.usable, strict=True)
        )
        self.slots = min(fewest, max(per_class, batch_size // self.classes))

    def labels(self) -> Int[Tensor, " b"]:
        """Which images of a batch are of one class: the same for every batch and episode."""
        return torch.arange(self.classes).repeat_interleave(self.slots)

    def draw(self, steps: int) -> Iterator[Batch]:
        """The batches of so many steps."""
        for start in range(0, steps, DRAWN_AT_ONCE):
            parts = [self._drawn(episode) for episode in range(len(self.support))]
            rows, classes, uniform = (torch.stack(part) for part in zip(*parts, strict=True))
            for step in range(min(DRAWN_AT_ONCE, steps - start)):
                yield Batch(rows[:, step], classes[:, step], uniform[:, step].contiguous())

    def _drawn(self, episode: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [t b], classes [t b] and uniform numbers [t 2 b] of one episode's next steps."""
        support, usable = self.support[episode], self.usable[episode]
        generator = self.generators[episode]
        lots = torch.rand(DRAWN_AT_ONCE, len(usable), generator=generator)
        classes = usable[lots.argsort(1)[:, : self.classes]]
        members, counts = support.members[classes], support.counts[classes]
        lots = torch.rand(members.shape, generator=generator)
        absent = torch.arange(members.shape[2]) >= counts[..., None]
        order = lots.masked_fill(absent, 2.0).argsort(2)[..., : self.slots]
        images = members.gather(2, order)
        view = torch.randint(self.views, images.shape, generator=generator)
        batch = self.classes * self.slots
        uniform = torch.rand(DRAWN_AT_ONCE, 2, batch, generator=generator)
        return (
            (images * self.views + view).view(-1, batch),
            classes.repeat_interleave(self.slots, 1),
            uniform,
        )


def _usable(support: Support, per_class: int) -> Int[Tensor, " u"]:
    """The classes with enough images for a batch."""
    usable = torch.nonzero(support.counts >= per_class).flatten()
    if len(usable) < 2:
        raise OodmlError(
            f"an episode has {len(usable)} classes of at least per_class={per_class} support "
            f"images (out of {len(support.names)} classes, the largest of "
            f"{int(support.counts.max())}); a loss needs two. With fewer images use the objective "
            '"prototypes" or "linear"'
        )
    return usable
