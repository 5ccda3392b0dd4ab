"""The JSON format of split files: writing, reading, content hash, and JSON schema."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NoReturn

from pydantic import TypeAdapter, ValidationError

from oodml.errors import OodmlError, error_at
from oodml.files import content_hash
from oodml.shift.splits import Episode, Progression, Split

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SplitsFile(Progression):
    """A file of class splits; see `oodml.Progression`.

    Attributes:
        hash: `content_hash` of the compact JSON with sorted keys and an empty `hash`. An empty
            value disables the check, for files edited by hand.
    """

    format: Literal["oodml.splits"]
    version: Literal[1]
    hash: str


_FILE = TypeAdapter(SplitsFile)


def to_text(progression: Progression) -> str:
    """Format a progression as JSON with one class per line, so that diffs show what moved."""
    document = _to_document(progression)
    return _format_json({**document, "hash": _hash(document)}, 0) + "\n"


def from_text(text: str) -> Progression:
    """Parse the text of a split file."""
    document = _parse(text)
    _check_head(document)
    try:
        parsed = _FILE.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))[:200]
        value = str(first["input"])[:60]
        raise error_at(key, f"{first['msg']}; given {value!r}", value) from None
    for split, raw in zip(parsed.splits, document["splits"], strict=True):
        for shots, key in zip(split.episodes, raw.get("episodes", ()), strict=False):
            if str(shots) != key or not 0 < shots < 1_000_000:
                location = f"step {split.step}: episodes"
                raise error_at(location, f"{key[:60]!r} is not a number of shots", key)
    return Progression(**{item.name: getattr(parsed, item.name) for item in fields(Progression)})


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    return _FILE.json_schema()


def _to_document(progression: Progression) -> dict[str, Any]:
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
        "splits": [_split_to_document(split) for split in progression],
    }


def _split_to_document(split: Split) -> dict[str, Any]:
    return {
        "step": split.step,
        "shift": float(split.shift),
        "train": list(split.train),
        "test": list(split.test),
        "validation": list(split.validation),
        "episodes": {
            str(shots): [_episode_to_document(episode) for episode in episodes]
            for shots, episodes in split.episodes.items()
        },
    }


def _episode_to_document(episode: Episode) -> dict[str, Any]:
    support = {name: list(samples) for name, samples in episode.support.items()}
    return {"support": support} | ({"class_wise": True} if episode.class_wise else {})


def _parse(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except OodmlError:
        raise
    except (ValueError, RecursionError) as error:
        raise OodmlError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise OodmlError("not a split file: the JSON is not an object")
    return document


def _check_head(document: dict[str, Any]) -> None:
    if document.get("format") != "oodml.splits":
        problem = 'not a split file: "format" must be "oodml.splits"'
        raise OodmlError(problem, "format", document.get("format"), ("oodml.splits",))
    if document.get("version") != VERSION:
        problem = (
            f"version {str(document.get('version'))[:60]}: this release reads version {VERSION}"
        )
        raise OodmlError(problem, "version", document.get("version"), (str(VERSION),))
    stated = document.get("hash")
    if stated != "" and stated != _hash({**document, "hash": ""}):
        message = (
            "the content does not match its hash: the file is damaged or was edited. "
            'To accept a file edited by hand, set its "hash" to ""'
        )
        raise OodmlError(message, "hash", stated)


def _hash(document: Mapping[str, Any]) -> str:
    return content_hash(json.dumps(document, sort_keys=True, separators=(",", ":")))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        problem = f"key {repeated[:60]!r} appears twice"
        raise OodmlError(problem, location=repeated[:60], given=repeated)
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise OodmlError(f"{name} is not a JSON number", given=name)


def _format_json(value: Any, depth: int) -> str:
    """Format JSON with one item per line; the images of a support class share a line."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, (dict, list)) or not value:
        return flat
    scalars = isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value)
    if scalars and depth > 4:
        return flat
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, list):
        items = [_format_json(item, depth + 1) for item in value]
        return "[" + inner + ("," + inner).join(items) + outer + "]"
    members = [
        f"{json.dumps(key, ensure_ascii=False)}: {_format_json(item, depth + 1)}"
        for key, item in value.items()
    ]
    return "{" + inner + ("," + inner).join(members) + outer + "}"
