"""What a progression is: splits of classes into train and test, of growing shift."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from oodml.errors import unknown


@dataclass(frozen=True)
class Episode:
    """A few labelled samples of test classes, to adapt with; the rest of the test set is queries.

    support: the image ids of each support class.
    class_wise: the support classes are some of the test classes, each with all its images, and
        the other classes are the queries (data with too few images a class). An episode read from
        a published file names only the classes; their ids are then empty until `fill_support`.
    """

    support: Mapping[str, tuple[str, ...]]
    class_wise: bool = False


@dataclass(frozen=True)
class Split:
    """Classes to train on and classes to test on; none is in both.

    step: swaps made so far (negative towards easier), "R<n>" after n removal exchanges, or the
        name of a control.
    shift: the distance between the two sides, by the progression's measure.
    validation: the train classes on which training is stopped; part of `train`.
    episodes: for each number of shots, the episodes.
    """

    step: int | str
    train: tuple[str, ...]
    test: tuple[str, ...]
    shift: float
    validation: tuple[str, ...] = ()
    episodes: Mapping[int, tuple[Episode, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Progression:
    """Splits of growing shift, and how they were made.

    procedure: "published", "published_easier", "removal", "exact" …, with its settings.
    shift_measure: what `Split.shift` is, e.g. "fid_class_means".
    data, fingerprint: the collection whose classes these are; "" if unknown.
    backbone: the network that gave the features; "" if unknown.
    seed: of what was drawn at random (validation classes, episodes), or None.
    """

    splits: tuple[Split, ...]
    procedure: str
    shift_measure: str = "fid_class_means"
    settings: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    data: str = ""
    fingerprint: str = ""
    backbone: str = ""
    seed: int | None = None

    def __iter__(self) -> Iterator[Split]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)

    def __getitem__(self, index: int) -> Split:
        return self.splits[index]

    def at(self, step: int | str) -> Split:
        """The split of a step, given as it is or as text ("-10", "R22")."""
        by_step = {str(split.step): split for split in self.splits}
        if str(step) not in by_step:
            raise unknown("step", step, by_step, self.data)
        return by_step[str(step)]
