"""Files of splits: JSON, and the published pickles in and out."""

import hashlib
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from oodml.errors import OodmlError
from oodml.files import replacing, write_text
from oodml.shift.checks import check
from oodml.shift.plain_pickle import load_plain
from oodml.shift.published import from_published, to_published
from oodml.shift.schema import from_text, to_text
from oodml.shift.splits import Progression

SUFFIXES = (".json", ".pkl")
JSON_LIMIT = 512 * 2**20
PICKLE_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class Known:
    """A published file: its SHA-256, what it is about, and the step of each split."""

    sha256: str
    data: str
    steps: tuple[int | str, ...]


KNOWN = {
    "cars196_splits.pkl": Known(
        "1dc38266ede56cc01275c8cb7c0c0645050e94eb88f2eb279d1e97522a39a511",
        "cars196",
        (0, 6, 16, 20, 30, "R18", "R42", "R66"),
    )
}


def read_splits(path: str | Path, limit: int | None = None) -> Progression:
    """Read splits from `.json`, or from a published `.pkl` without running what it holds.

    limit: the most bytes a file may have; 512 MiB for JSON and 64 MiB for a pickle by default.
    `OodmlError` on whatever is not a whole, consistent file of splits. A file that bears the name
    of a published one with other content is read with a warning.
    """
    source = Path(path)
    _check_suffix(source)
    data = _content(source, limit)
    try:
        if source.suffix == ".json":
            progression = from_text(_decoded(data))
        else:
            progression = _from_pickle(source, data)
    except OodmlError as error:
        raise OodmlError(f"{source}: {error}") from None
    check(progression, where=str(source))
    return progression


def write_splits(progression: Progression, path: str | Path) -> None:
    """Write splits to `.json`, or to `.pkl` in the layout of the original code.

    A pickle holds plain dicts, lists, strings and numbers; what the layout has no place for
    (steps, procedure, data) is left out of it.
    """
    target = Path(path)
    _check_suffix(target)
    check(progression, where=str(target))
    if target.suffix == ".json":
        write_text(target, to_text(progression))
        return
    with replacing(target) as temporary:
        temporary.write_bytes(pickle.dumps(to_published(progression), protocol=2))


def check_against(progression: Progression, ids: Sequence[str], classes: Sequence[str]) -> None:
    """Raise `OodmlError` where the splits don't fit the images [n] and their classes [n]."""
    check(progression, ids, classes, where=progression.data or "splits")


def _from_pickle(source: Path, data: bytes) -> Progression:
    splits = from_published(load_plain(data))
    digest = hashlib.sha256(data).hexdigest()
    known = next((known for known in KNOWN.values() if known.sha256 == digest), None)
    if known is None:
        if source.name in KNOWN:
            warnings.warn(
                f"{source} has the name of a published file and another content "
                f"(SHA-256 {digest[:12]}…, published {KNOWN[source.name].sha256[:12]}…)",
                stacklevel=3,
            )
        settings = {"file": source.name, "step": "number in the file"}
        return Progression(splits, "published file", settings=settings)
    named = zip(splits, known.steps, strict=True)
    return Progression(
        tuple(replace(split, step=step) for split, step in named),
        "published file",
        settings={"file": source.name, "sha256": digest},
        data=known.data,
        backbone="resnet50",
    )


def _content(source: Path, limit: int | None) -> bytes:
    most = limit or (JSON_LIMIT if source.suffix == ".json" else PICKLE_LIMIT)
    try:
        size = source.stat().st_size
        if size > most:
            raise OodmlError(f"{source}: {size:,} bytes; the most allowed is {most:,}")
        return source.read_bytes()
    except OSError as error:
        raise OodmlError(f"{source}: cannot be read: {error.strerror or error}") from None


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OodmlError(f"not UTF-8 text at byte {error.start}") from None


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise OodmlError(f"{path}: suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")
