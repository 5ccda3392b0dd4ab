"""What holds in every progression, by itself and against the data it is about."""

import math
from collections.abc import Iterable, Iterator, Sequence

from oodml.errors import OodmlError
from oodml.shift.splits import Episode, Progression, Split


def check(
    progression: Progression,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    where: str = "splits",
) -> None:
    """Raise `OodmlError` naming the first violation and how many more there are.

    ids, classes: [n] every image of the data and its class, to check against them too.
    """
    found = problems(progression)
    if ids is not None and classes is not None:
        found += data_problems(progression, ids, classes)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise OodmlError(f"{where}: {found[0]}{more}")


def problems(progression: Progression) -> list[str]:
    """What is wrong with a progression by itself, one sentence each."""
    found = [] if len(progression) else ["there is no split"]
    found += [f"step {step} is there twice" for step in _repeated(s.step for s in progression)]
    for split in progression:
        found += [f"step {split.step}: {problem}" for problem in _split_problems(split)]
    return found


def data_problems(
    progression: Progression, ids: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """What does not fit the images [n] and their classes [n], one sentence each."""
    class_of = dict(zip(map(str, ids), map(str, classes), strict=True))
    known = set(class_of.values())
    found: list[str] = []
    for split in progression:
        place = f"step {split.step}"
        for name in (*split.train, *split.test):
            if name not in known:
                found.append(f"{place}: class {name!r} is not in the data")
        for where, episode in _episodes(split):
            found += [f"{place}, {where}: {text}" for text in _support_problems(episode, class_of)]
            if not _has_query(split, episode, class_of):
                found.append(f"{place}, {where}: every test image is support; no query is left")
    return found


def _split_problems(split: Split) -> Iterator[str]:
    train, test = set(split.train), set(split.test)
    if not math.isfinite(split.shift):
        yield f"shift {split.shift} is not a finite number"
    for side, names in (("train", split.train), ("test", split.test)):
        if not names:
            yield f"no {side} classes"
        for name in _repeated(names):
            yield f"class {name!r} is named twice among the {side} classes"
    for name in sorted(train & test):
        yield f"class {name!r} is on both sides"
    for name in _repeated(split.validation):
        yield f"validation class {name!r} is named twice"
    for name in split.validation:
        if name not in train:
            yield f"validation class {name!r} is not a train class"
    if split.validation and train == set(split.validation):
        yield "every train class is a validation class"
    for where, episode in _episodes(split):
        for problem in _episode_problems(episode, test):
            yield f"{where}: {problem}"


def _episode_problems(episode: Episode, test: set[str]) -> Iterator[str]:
    if not episode.support:
        yield "no support"
    for name, samples in episode.support.items():
        if name not in test:
            yield f"support class {name!r} is not a test class"
        if not samples and not episode.class_wise:
            yield f"no support sample of class {name!r}"
        for sample in _repeated(samples):
            yield f"support sample {sample!r} of class {name!r} is named twice"
    if episode.class_wise and test <= set(episode.support):
        yield "every test class is support; no class is left to query"


def _support_problems(episode: Episode, class_of: dict[str, str]) -> Iterator[str]:
    for name, samples in episode.support.items():
        for sample in samples:
            if sample not in class_of:
                yield f"support sample {sample!r} of class {name!r} is not in the data"
            elif class_of[sample] != name:
                yield (
                    f"support sample {sample!r} is said to be of class {name!r} and is of "
                    f"{class_of[sample]!r}, where it would be a query"
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
    seen: set[int | str] = set()
    twice = []
    for value in values:
        if value in seen:
            twice.append(value)
        seen.add(value)
    return twice
