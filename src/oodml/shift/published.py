"""The layout of the published split files, `<dataset>_splits.pkl`, as plain Python objects."""

from collections.abc import Mapping, Sized
from typing import Any

from oodml.errors import OodmlError, error_at
from oodml.shift.splits import Episode, Progression, Split

_KEYS = ("train", "test", "fid", "split_train", "split_val", "test_episodes", "step")
_REQUIRED = ("train", "test", "fid")
# A pickle can refer to one list any number of times; this limits the expanded size.
_MOST_NAMES = 5_000_000


def from_published(content: Any) -> tuple[Split, ...]:
    """Parse the content of a published file.

    A split's step is the entry "step" that `to_published` adds, or its number in the file, from 1.

    An episode that is a list of classes (as for Stanford Online Products) has no image ids; add
    them with `episodes.fill_support`.
    """
    reader = _Reader()
    splits = _mapping(content, "the file")
    if list(splits) != list(range(1, len(splits) + 1)):
        raise OodmlError("the splits are not numbered 1, 2, 3 …")
    return tuple(reader.split(number, value) for number, value in splits.items())


def to_published(progression: Progression) -> dict[int, dict[str, Any]]:
    """Convert to the layout of the original code: dicts, lists, strings, and numbers.

    Each split also gets the entry "step", which the original code ignores.
    """
    return {number: _plain_split(split) for number, split in enumerate(progression, start=1)}


def _plain_split(split: Split) -> dict[str, Any]:
    validation = set(split.validation)
    return {
        "train": list(split.train),
        "test": list(split.test),
        "fid": float(split.shift),
        "step": split.step,
        "split_train": [name for name in split.train if name not in validation],
        "split_val": list(split.validation),
        "test_episodes": {
            shots: {number: _plain_episode(episode) for number, episode in enumerate(episodes)}
            for shots, episodes in split.episodes.items()
        },
    }


def _plain_episode(episode: Episode) -> dict[str, list[str]] | list[str]:
    if episode.class_wise:
        return list(episode.support)
    return {name: list(samples) for name, samples in episode.support.items()}


class _Reader:
    """Converts the file's objects, each list once, and limits the number of names."""

    def __init__(self) -> None:
        self._count = 0
        self._names_of: dict[int, tuple[str, ...]] = {}

    def split(self, number: int, value: Any) -> Split:
        location = f"split {number}"
        values = _mapping(value, location)
        for key in _REQUIRED:
            if key not in values:
                raise _error(location, f"key {key!r} is missing", allowed=_KEYS)
        for key in values:
            if key not in _KEYS:
                raise _error(location, f"unknown key {_short(key)}", allowed=_KEYS)
        train = self._names(values["train"], f"{location}, train")
        validation = self._names(values.get("split_val", []), f"{location}, split_val")
        others = self._names(values.get("split_train", []), f"{location}, split_train")
        if others and {*others, *validation} != set(train):
            raise _error(location, "split_train and split_val together differ from train")
        if type(values["fid"]) not in (float, int):
            kind = type(values["fid"]).__name__
            raise _error(f"{location}, fid", f"a {kind}; expected a number")
        step = values.get("step", number)
        if type(step) not in (int, str):
            raise _error(f"{location}, step", f"a {type(step).__name__}; expected a step")
        return Split(
            step,
            train,
            self._names(values["test"], f"{location}, test"),
            _float(values["fid"]),
            validation,
            self._episodes(values.get("test_episodes", {}), location),
        )

    def _episodes(self, value: Any, location: str) -> dict[int, tuple[Episode, ...]]:
        episodes = {}
        for shots, numbered in _mapping(value, f"{location}, test_episodes").items():
            if type(shots) is not int or not 0 < shots < 1_000_000:
                problem = f"{_short(shots)} is not a number of shots"
                raise _error(f"{location}, test_episodes", problem)
            here = f"{location}, {shots} shots"
            if list(_mapping(numbered, here)) != list(range(len(numbered))):
                raise _error(here, "the episodes are not numbered 0, 1, 2 …")
            episodes[shots] = tuple(
                self._episode(episode, f"{here}, episode {number}")
                for number, episode in numbered.items()
            )
        return episodes

    def _episode(self, value: Any, location: str) -> Episode:
        if type(value) is list:
            return Episode(dict.fromkeys(self._names(value, location), ()), class_wise=True)
        support = _mapping(value, location)
        self._add(support, location)
        return Episode(
            {
                _name(name, location): self._names(samples, location)
                for name, samples in support.items()
            }
        )

    def _names(self, value: Any, location: str) -> tuple[str, ...]:
        if type(value) not in (list, tuple):
            raise _error(location, f"a {type(value).__name__}; expected a list of names")
        self._add(value, location)
        if id(value) not in self._names_of:
            plain = all(type(name) is str for name in value)
            self._names_of[id(value)] = tuple(
                value if plain else (_name(name, location) for name in value)
            )
        return self._names_of[id(value)]

    def _add(self, values: Sized, location: str) -> None:
        self._count += len(values)
        if self._count > _MOST_NAMES:
            raise _error(location, f"more than {_MOST_NAMES:,} names in the file")


def _name(value: Any, location: str) -> str:
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise _error(location, f"a {type(value).__name__}; expected a name")
    return value


def _mapping(value: Any, location: str) -> Mapping[Any, Any]:
    if type(value) is not dict:
        raise _error(location, f"a {type(value).__name__}; expected a dict")
    return value


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _short(value: Any) -> str:
    """A short form that does not recurse into containers."""
    return f"{value!r:.60}" if type(value) in (str, int, float) else f"a {type(value).__name__}"


def _error(location: str, message: str, allowed: tuple[str, ...] = ()) -> OodmlError:
    return error_at(location, message, allowed=allowed)
