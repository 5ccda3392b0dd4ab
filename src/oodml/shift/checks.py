"""Consistency checks of a progression, by itself and against the data it refers to."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from oodml.errors import error_at
from oodml.shift.splits import Episode, Progression, Split


def check(
    progression: Progression,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    location: str = "splits",
) -> None:
    """Check a progression, and with `ids` and `classes` also against the data.

    Args:
        progression: the splits to check.
        ids, classes: [n] the id and class of every image of the data.
        location: the file or dataset, for the error.

    Raises:
        OodmlError: with the first problem and the number of others.
    """
    problems = find_problems(progression)
    if ids is not None and classes is not None:
        problems += find_data_problems(progression, ids, classes)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise error_at(location, f"{problems[0]}{more}")


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
    known = set(class_of.values())
    problems: list[str] = []
    for split in progression:
        here = f"step {split.step}"
        for name in (*split.train, *split.test):
            if name not in known:
                problems.append(f"{here}: class {name!r} is not in the data")
        for name, episode in _episodes(split):
            problems += [f"{here}, {name}: {text}" for text in _support_problems(episode, class_of)]
            if not _has_query(split, episode, class_of):
                problems.append(f"{here}, {name}: every test image is support; none is a query")
    return problems


def _split_problems(split: Split) -> Iterator[str]:
    train, test = set(split.train), set(split.test)
    if not math.isfinite(split.shift):
        yield f"shift {split.shift} is not a finite number"
    for side, names in (("train", split.train), ("test", split.test)):
        if not names:
            yield f"no {side} classes"
        for name in _repeated(names):
            yield f"class {name!r} appears twice in {side}"
    for name in sorted(train & test):
        yield f"class {name!r} is in both train and test"
    for name in _repeated(split.validation):
        yield f"class {name!r} appears twice in validation"
    for name in split.validation:
        if name not in train:
            yield f"validation class {name!r} is not a train class"
    if split.validation and train == set(split.validation):
        yield "every train class is a validation class"
    for name, episode in _episodes(split):
        for problem in _episode_problems(episode, test):
            yield f"{name}: {problem}"


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


def _support_problems(episode: Episode, class_of: dict[str, str]) -> Iterator[str]:
    for name, samples in episode.support.items():
        for sample in samples:
            if sample not in class_of:
                yield f"support image {sample!r} of class {name!r} is not in the data"
            elif class_of[sample] != name:
                yield (
                    f"support image {sample!r} of class {name!r} has class {class_of[sample]!r} "
                    "in the data and would also be a query"
                )


def _has_query(split: Split, episode: Episode, class_of: dict[str, str]) -> bool:
    test = set(split.test)
    whole = set(episode.support) if episode.class_wise else set()
    support = {sample for samples in episode.support.values() for sample in samples}
    return any(
        name in test and name not in whole and image not in support
        for image, name in class_of.items()
    )


def _episodes(split: Split) -> Iterator[tuple[str, Episode]]:
    for shots, episodes in split.episodes.items():
        for number, episode in enumerate(episodes):
            yield f"{shots} shots, episode {number}", episode


def _repeated(values: Iterable[int | str]) -> list[int | str]:
    return [value for value, count in Counter(values).items() if count > 1]
