"""The JSON form of a progression: its schema, its text, its content hash."""

import json
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.shift.splits import Episode, Progression, Split

VERSION = 1
_WIDTH = 100


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EpisodeRecord(_Record):
    """An episode; see `oodml.Episode`."""

    support: dict[str, list[str]]
    class_wise: bool = False


class SplitRecord(_Record):
    """A split; see `oodml.Split`. The keys of `episodes` are the numbers of shots."""

    step: int | str
    shift: float = Field(allow_inf_nan=False)
    train: list[str]
    test: list[str]
    validation: list[str] = []
    episodes: dict[str, list[EpisodeRecord]] = {}


class SplitsFile(_Record):
    """A file of class splits; see `oodml.Progression`.

    hash: SHA-256 of the content without it, as `content_hash` of the compact JSON with sorted
    keys; "" in a file that was edited by hand.
    """

    format: Literal["oodml.splits"]
    version: Literal[1]
    hash: str
    data: str
    fingerprint: str
    backbone: str
    procedure: str
    shift_measure: str
    seed: int | None
    settings: dict[str, bool | int | float | str]
    splits: list[SplitRecord]


def to_text(progression: Progression) -> str:
    """The file's text: one class a line, so that a diff names what moved."""
    document = _document(progression)
    return _render({**document, "hash": _hash(document)}, 0) + "\n"


def from_text(text: str) -> Progression:
    """Read what `to_text` wrote; `OodmlError` says what is wrong, without the file's name."""
    document = _parsed(text)
    _check_head(document)
    try:
        record = SplitsFile.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))[:200]
        raise OodmlError(f"{place}: {first['msg']}; given {str(first['input'])[:60]!r}") from None
    head = record.model_dump(exclude={"format", "version", "hash", "splits"})
    return Progression(tuple(map(_split, record.splits)), **head)


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    return SplitsFile.model_json_schema()


def _document(progression: Progression) -> dict[str, Any]:
    return {
        "format": "oodml.splits",
        "version": VERSION,
        "hash": "",
        "data": progression.data,
        "fingerprint": progression.fingerprint,
        "backbone": progression.backbone,
        "procedure": progression.procedure,
        "shift_measure": progression.shift_measure,
        "seed": progression.seed,
        "settings": dict(progression.settings),
        "splits": [_split_document(split) for split in progression],
    }


def _split_document(split: Split) -> dict[str, Any]:
    return {
        "step": split.step,
        "shift": float(split.shift),
        "train": list(split.train),
        "test": list(split.test),
        "validation": list(split.validation),
        "episodes": {
            str(shots): [_episode_document(episode) for episode in episodes]
            for shots, episodes in split.episodes.items()
        },
    }


def _episode_document(episode: Episode) -> dict[str, Any]:
    support = {name: list(samples) for name, samples in episode.support.items()}
    return {"support": support} | ({"class_wise": True} if episode.class_wise else {})


def _split(record: SplitRecord) -> Split:
    return Split(
        record.step,
        tuple(record.train),
        tuple(record.test),
        record.shift,
        tuple(record.validation),
        {_shots(shots): tuple(map(_episode, drawn)) for shots, drawn in record.episodes.items()},
    )


def _episode(record: EpisodeRecord) -> Episode:
    support = {name: tuple(samples) for name, samples in record.support.items()}
    return Episode(support, record.class_wise)


def _shots(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7) or str(int(text)) != text:
        raise OodmlError(f"episodes: {text[:60]!r} is not a number of shots")
    return int(text)


def _parsed(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except OodmlError:
        raise
    except (ValueError, RecursionError) as error:
        raise OodmlError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise OodmlError("not a file of splits: the JSON is no object")
    return document


def _check_head(document: dict[str, Any]) -> None:
    if document.get("format") != "oodml.splits":
        raise OodmlError('not a file of splits: "format" must be "oodml.splits"')
    if document.get("version") != VERSION:
        raise OodmlError(f"version {document.get('version')!r}; this release reads {VERSION}")
    stated = document.get("hash")
    if stated != "" and stated != _hash({**document, "hash": ""}):
        raise OodmlError(
            "the content does not fit its hash, so it is damaged or was edited; "
            'to accept a file edited by hand, set its "hash" to ""'
        )


def _hash(document: Mapping[str, Any]) -> str:
    return content_hash(json.dumps(document, sort_keys=True, separators=(",", ":")))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise OodmlError(f"key {twice[:60]!r} is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise OodmlError(f"{name} is not a number that JSON has")


def _render(value: Any, depth: int) -> str:
    """JSON with one item a line; a support class with its samples, or a short list, is a line."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, (dict, list)) or not value:
        return flat
    scalars = isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value)
    if scalars and depth > 4:
        return flat
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, list):
        items = [_render(item, depth + 1) for item in value]
        return "[" + inner + ("," + inner).join(items) + outer + "]"
    named = [
        f"{json.dumps(key, ensure_ascii=False)}: {_render(item, depth + 1)}"
        for key, item in value.items()
    ]
    return "{" + inner + ("," + inner).join(named) + outer + "}"
