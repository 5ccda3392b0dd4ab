"""The layout of the published split files, `<dataset>_splits.pkl`, as plain Python objects."""

from collections.abc import Iterable, Mapping
from typing import Any

from oodml.errors import OodmlError
from oodml.shift.splits import Episode, Progression, Split

_KEYS = ("train", "test", "fid", "split_train", "split_val", "test_episodes")
_REQUIRED = ("train", "test", "fid")
# A list may stand at many places of a pickle for the price of one; this bounds what it grows to.
_MOST_NAMES = 5_000_000


def from_published(content: Any) -> tuple[Split, ...]:
    """The splits of a published file; the step of each is its number in the file, from 1.

    Of data such as Stanford Online Products an episode is a list of support classes; their images
    are not in the file (`episodes.fill_support` adds them).
    """
    reader = _Reader()
    splits = _mapping(content, "the file")
    if list(splits) != list(range(1, len(splits) + 1)):
        raise OodmlError("the splits are not numbered 1, 2, 3 …")
    return tuple(reader.split(number, value) for number, value in splits.items())


def to_published(progression: Progression) -> dict[int, dict[str, Any]]:
    """The layout of the original code, of plain dicts, lists, strings and numbers."""
    return {number: _plain(split) for number, split in enumerate(progression, start=1)}


def _plain(split: Split) -> dict[str, Any]:
    validation = set(split.validation)
    return {
        "train": list(split.train),
        "test": list(split.test),
        "fid": float(split.shift),
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
    """Walks the file's objects, each list once, and counts what it takes from them."""

    def __init__(self) -> None:
        self._taken = 0
        self._read: dict[int, tuple[str, ...]] = {}

    def split(self, number: int, value: Any) -> Split:
        place = f"split {number}"
        fields = _mapping(value, place)
        for key in _REQUIRED:
            if key not in fields:
                raise OodmlError(f"{place}: no {key!r}")
        for key in fields:
            if key not in _KEYS:
                raise OodmlError(f"{place}: unknown key {str(key)[:60]!r}")
        train = self._names(fields["train"], f"{place}, train")
        validation = self._names(fields.get("split_val", []), f"{place}, split_val")
        rest = self._names(fields.get("split_train", []), f"{place}, split_train")
        if rest and {*rest, *validation} != set(train):
            raise OodmlError(f"{place}: split_train and split_val together are not train")
        if type(fields["fid"]) not in (float, int):
            raise OodmlError(f"{place}: fid is a {type(fields['fid']).__name__}, not a number")
        return Split(
            number,
            train,
            self._names(fields["test"], f"{place}, test"),
            float(fields["fid"]),
            validation,
            self._all_episodes(fields.get("test_episodes", {}), place),
        )

    def _all_episodes(self, value: Any, place: str) -> dict[int, tuple[Episode, ...]]:
        episodes = {}
        for shots, drawn in _mapping(value, f"{place}, test_episodes").items():
            where = f"{place}, {str(shots)[:20]} shots"
            if type(shots) is not int or not 0 < shots < 1_000_000:
                raise OodmlError(f"{where}: not a number of shots")
            numbered = _mapping(drawn, where)
            if list(numbered) != list(range(len(numbered))):
                raise OodmlError(f"{where}: the episodes are not numbered 0, 1, 2 …")
            episodes[shots] = tuple(
                self._episode(episode, f"{where}, episode {number}")
                for number, episode in numbered.items()
            )
        return episodes

    def _episode(self, value: Any, place: str) -> Episode:
        if type(value) is list:
            return Episode(dict.fromkeys(self._names(value, place), ()), class_wise=True)
        support = _mapping(value, place)
        self._count(support, place)
        return Episode(
            {
                self._name(name, place): self._names(samples, place)
                for name, samples in support.items()
            }
        )

    def _names(self, value: Any, place: str) -> tuple[str, ...]:
        if type(value) not in (list, tuple):
            raise OodmlError(f"{place}: a {type(value).__name__}, not a list of names")
        self._count(value, place)
        if id(value) not in self._read:
            plain = all(type(name) is str for name in value)
            self._read[id(value)] = tuple(
                value if plain else (self._name(name, place) for name in value)
            )
        return self._read[id(value)]

    def _name(self, value: Any, place: str) -> str:
        if type(value) is int:
            value = str(value)
        if type(value) is not str:
            raise OodmlError(f"{place}: a {type(value).__name__} where a name should be")
        return value

    def _count(self, values: Iterable[Any], place: str) -> None:
        self._taken += len(values)  # type: ignore[arg-type]
        if self._taken > _MOST_NAMES:
            raise OodmlError(f"{place}: more than {_MOST_NAMES:,} names in the file")


def _mapping(value: Any, place: str) -> Mapping[Any, Any]:
    if type(value) is not dict:
        raise OodmlError(f"{place}: a {type(value).__name__}, not a dict")
    return value
