"""Class splits, series of splits with growing shift, and the train classes that one starts from."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, FiniteFloat

from oodml.arrays import Names
from oodml.errors import OodmlError, error_at, unknown

_STRICT = ConfigDict(extra="forbid", strict=True)
Rows = NDArray[np.int64]
RECORDED = ("weights", "image_size", "augmentation", "pooling")
"""Entries of `VectorSet.source` that the shift depends on, besides the backbone."""


@dataclass(frozen=True)
class Episode:
    """A few labeled images of test classes to adapt to; the other test images are queries.

    An episode is class-wise if its support are all images of some test classes, and the other test
    classes are queries (for data with few images per class). Published files list only the names of
    such classes; `fill_support` adds the image ids.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    support: Mapping[str, tuple[str, ...]]  # the image ids of each support class
    class_wise: bool = False


@dataclass(frozen=True)
class Split:
    """Disjoint sets of classes to train and to test on.

    Attributes:
        step: the number of swaps made (negative toward easier splits), "R<n>" after n removal
            exchanges, or the name of a control.
        shift: the distance between the two sides under the progression's measure.
        validation: the train classes used for early stopping; a subset of `train`.
        episodes: the few-shot episodes for each number of shots.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    step: int | str
    train: tuple[str, ...]
    test: tuple[str, ...]
    shift: FiniteFloat
    validation: tuple[str, ...] = ()
    episodes: Mapping[int, tuple[Episode, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        sides = f"{len(self.train)} training and {len(self.test)} test classes"
        return f"Split {self.step}: shift {self.shift:.4g}, {sides}"


@dataclass(frozen=True)
class Progression:
    """Splits with growing shift, and how they were made."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    splits: tuple[Split, ...]
    procedure: str  # "published", "published_easier", "removal", "exact", …
    shift_measure: str = "fid_class_means"  # the measure behind `Split.shift`
    settings: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    data: str = ""  # the name of the dataset, if known
    fingerprint: str = ""  # its content hash
    backbone: str = ""  # the network that computed the features, if known
    seed: int | None = None  # for validation classes and episodes

    def __repr__(self) -> str:
        shifts = [split.shift for split in self.splits] or [float("nan")]
        span = f"shift {min(shifts):.4g} to {max(shifts):.4g}"
        return f"Progression ({self.procedure}): {len(self)} splits, {span}"

    def __iter__(self) -> Iterator[Split]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)

    def __getitem__(self, index: int) -> Split:
        return self.splits[index]

    def at(self, step: int | str) -> Split:
        """The split with a given step; text such as "-10" or "R22" also works."""
        by_step = {str(split.step): split for split in self.splits}
        if str(step) not in by_step:
            raise unknown("step", step, by_step, self.data)
        return by_step[str(step)]


def split_at(step: int | str, names: Sequence[str], train: Rows, test: Rows, shift: float) -> Split:
    """The split whose sides are the classes at some positions of a list of names."""
    return Split(step, tuple(names[i] for i in train), tuple(names[i] for i in test), shift)


def standard_train_classes(classes: Iterable[str]) -> list[str]:
    """The first half of the sorted class names, the customary train classes."""
    ordered = sorted(str(name) for name in classes)
    return ordered[: len(ordered) // 2]


def partition_train_classes(classes: Names, partition: Names | None) -> list[str] | None:
    """The classes of a dataset's own "train" images, sorted; None if it has no such partition."""
    if partition is None or not (partition == "train").any():
        return None
    inside, outside = (set(classes[(partition == "train") == train]) for train in (True, False))
    for name in map(str, sorted(inside & outside)):
        problem = "has both train and other images in the dataset's own partition, so the partition"
        raise OodmlError(f"class {name!r} {problem} does not split classes", given=name)
    return sorted(map(str, inside))


def recorded_features(progression: Progression) -> dict[str, Any]:
    """The entries of `RECORDED` in the settings; empty for version 0.1 and published files."""
    return {key: progression.settings[key] for key in RECORDED if key in progression.settings}


def check(
    progression: Progression,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    location: str = "",
) -> None:
    """Raise the first problem of a progression, and of its match with the images `ids` [n].

    `location` is the file, for the error; by default the dataset.
    """
    problems = find_problems(progression)
    if ids is not None and classes is not None:
        problems += find_data_problems(progression, ids, classes)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise error_at(location or progression.data or "splits", f"{problems[0]}{more}")


def find_problems(progression: Progression) -> list[str]:
    """Inconsistencies within a progression, one sentence each."""
    problems = [] if len(progression) else ["there is no split"]
    problems += [f"step {step} appears twice" for step in _repeated(s.step for s in progression)]
    for split in progression:
        problems += [f"step {split.step}: {problem}" for problem in _split_problems(split)]
    return problems


def find_data_problems(
    progression: Progression, ids: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """Mismatches with images [n] and their classes [n], one sentence each."""
    class_of = dict(zip(map(str, ids), map(str, classes), strict=True))
    known, problems = set(class_of.values()), []
    for split in progression:
        here, test = f"step {split.step}", set(split.test)
        missing = (name for name in (*split.train, *split.test) if name not in known)
        problems += [f"{here}: class {name!r} is not in the data" for name in missing]
        for place, episode in _episodes(split):
            support = [(name, one) for name, rows in episode.support.items() for one in rows]
            for name, one in support:
                label, start = class_of.get(one), f"{here}, {place}: support image {one!r}"
                if label is None:
                    problems.append(f"{start} of class {name!r} is not in the data")
                elif label != name:
                    problems.append(
                        f"{start} of class {name!r} has class {label!r} in the data and would also "
                        "be a query"
                    )
            used = {one for _, one in support}
            asked = test - set(episode.support) if episode.class_wise else test
            if not any(name in asked and one not in used for one, name in class_of.items()):
                problems.append(f"{here}, {place}: every test image is support; none is a query")
    return problems


def _split_problems(split: Split) -> Iterator[str]:
    train, test, validation = set(split.train), set(split.test), split.validation
    if not math.isfinite(split.shift):
        yield f"shift {split.shift} is not a finite number"
    for side, names in (("train", split.train), ("test", split.test), ("validation", validation)):
        if not names and side != "validation":
            yield f"no {side} classes"
        yield from (f"class {name!r} appears twice in {side}" for name in _repeated(names))
    yield from (f"class {name!r} is in both train and test" for name in sorted(train & test))
    outside = (name for name in validation if name not in train)
    yield from (f"validation class {name!r} is not a train class" for name in outside)
    if validation and train == set(validation):
        yield "every train class is a validation class"
    for place, episode in _episodes(split):
        yield from (f"{place}: {problem}" for problem in _episode_problems(episode, test))


def _episode_problems(episode: Episode, test: set[str]) -> Iterator[str]:
    if not episode.support:
        yield "no support"
    for name, samples in episode.support.items():
        if name not in test:
            yield f"support class {name!r} is not a test class"
        if not samples and not episode.class_wise:
            yield f"class {name!r} has no support image"
        for sample in _repeated(samples):
            yield f"support image {sample!r} of class {name!r} appears twice"
    if episode.class_wise and test <= set(episode.support):
        yield "every test class is support; none has queries"


def _episodes(split: Split) -> Iterator[tuple[str, Episode]]:
    for shots, episodes in split.episodes.items():
        yield from ((f"{shots} shots, episode {n}", one) for n, one in enumerate(episodes))


def _repeated(values: Iterable[int | str]) -> list[int | str]:
    return [value for value, count in Counter(values).items() if count > 1]
