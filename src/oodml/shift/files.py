"""Read and write split files: JSON, pickles in the published layout, CSV, and PyTorch."""

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NoReturn

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from oodml.errors import OodmlError, error_at, unknown
from oodml.files import content_hash, replacing, write_text
from oodml.hub import download, is_hub_address, parse_address
from oodml.shift.published_format import from_published, load_plain, to_published
from oodml.shift.splits import Episode, Progression, Split, check

SUFFIXES = (".json", ".pkl")
JSON_LIMIT = 512 * 2**20
PICKLE_LIMIT = 64 * 2**20
VERSION = 1  # the version of the JSON format
FORMATS = {"json": ".json", "pickle": ".pkl", "csv": ".csv", "torch": ".pt"}


@dataclass(frozen=True)
class PublishedFile:
    """A published file, identified by its FIDs in the paper if its SHA-256 is unknown."""

    sha256: str  # "" if unknown
    data: str
    steps: tuple[int | str, ...]
    fids: tuple[float, ...]

    def matches(self, digest: str, splits: Sequence[Split]) -> bool:
        """Whether a file is this one."""
        if self.sha256 or len(splits) != len(self.fids):
            return digest == self.sha256
        return all(abs(one.shift - fid) < 0.006 for one, fid in zip(splits, self.fids, strict=True))


PUBLISHED_FILES = {
    "cars196_splits.pkl": PublishedFile(
        "1dc38266ede56cc01275c8cb7c0c0645050e94eb88f2eb279d1e97522a39a511",
        "cars196",
        (0, 6, 16, 20, 30, "R18", "R42", "R66"),
        (8.59, 14.33, 32.18, 43.58, 63.29, 86.12, 101.17, 123.03),
    ),
    "cub200_splits.pkl": PublishedFile(
        "",
        "cub200",
        (-20, -10, 0, 6, 10, 30, "R22", "R48", "R66"),
        (19.16, 28.49, 52.62, 72.20, 92.48, 120.38, 136.45, 152.04, 173.94),
    ),
    "online_products_splits.pkl": PublishedFile(
        "",
        "online_products",
        (0, 1000, 2000, 3000, 4000, 5000, "R2000", "R6000"),
        (3.43, 24.59, 53.47, 99.38, 135.53, 155.25, 189.81, 235.10),
    ),
}


def read_splits(path: str | Path, limit: int | None = None) -> Progression:
    """Read splits from `.json`, or from a published `.pkl` without running any code in it.

    A file with the name of a published file but different content is read with a warning.

    Args:
        path: the split file, or "hf://user/name" for the file splits.json of a dataset on the
            Hugging Face hub ("hf://user/name/FILE" for another file).
        limit: the largest file size in bytes; 512 MiB for JSON and 64 MiB for pickles by default.

    Raises:
        OodmlError: if the file is missing, too large, damaged, or inconsistent.
    """
    if is_hub_address(path):
        address = parse_address(path)
        file = address.file or "splits.json"
        path = download(address, "dataset", (file,)) / file
    source = Path(path)
    check_split_suffix(source)
    is_json = source.suffix == ".json"
    data = _read_bytes(source, limit or (JSON_LIMIT if is_json else PICKLE_LIMIT))
    try:
        progression = from_text(_decode(data)) if is_json else _from_pickle(source, data)
    except OodmlError as error:
        location = f"{source}: {error.location}" if error.location else str(source)
        raise OodmlError(f"{source}: {error}", location, error.given, error.allowed) from None
    check(progression, location=str(source))
    return progression


def _read_bytes(source: Path, limit: int) -> bytes:
    try:
        if (size := source.stat().st_size) > limit:
            raise error_at(source, f"{size:,} bytes; the limit is {limit:,}", size)
        return source.read_bytes()
    except OSError as error:
        raise error_at(source, f"could not be read: {error.strerror or error}") from None


def write_splits(progression: Progression, path: str | Path) -> None:
    """Write splits to `.json`, or to `.pkl` in the layout of the original code.

    A pickle contains only plain values, without the procedure, its settings, and the dataset. An
    unknown suffix or inconsistent splits are an OodmlError.
    """
    target = Path(path)
    check_split_suffix(target)
    check(progression, location=str(target))
    if target.suffix == ".json":
        write_text(target, to_text(progression))
    else:
        with replacing(target) as temporary:
            temporary.write_bytes(pickle.dumps(to_published(progression), protocol=2))


def _from_pickle(source: Path, data: bytes) -> Progression:
    splits = from_published(load_plain(data))
    digest = hashlib.sha256(data).hexdigest()
    for one in PUBLISHED_FILES.values():
        if one.matches(digest, splits):
            named = (replace(s, step=step) for s, step in zip(splits, one.steps, strict=True))
            settings = {"file": source.name, "sha256": digest}
            about = {"settings": settings, "data": one.data, "backbone": "resnet50"}
            return Progression(tuple(named), "published file", **about)  # type: ignore[arg-type]
    if source.name in PUBLISHED_FILES:
        problem = f"different content (SHA-256 {digest[:12]}…)"
        warnings.warn(f"{source} has the name of a published file but {problem}", stacklevel=3)
    settings = {"file": source.name}
    if [split.step for split in splits] == list(range(1, len(splits) + 1)):
        settings["step"] = "number in the file"
    return Progression(splits, "published file", settings=settings)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text at byte {error.start}"
        raise OodmlError(problem, location=f"byte {error.start}") from None


def check_split_suffix(path: Path) -> None:
    """Refuse a file whose suffix is not in `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        problem = f"suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}"
        raise error_at(path, problem, path.suffix, SUFFIXES)


def export_splits(progression: Progression, path: Path, kind: str) -> None:
    """Write splits in a format of `FORMATS`.

    "csv" has the columns step, shift, part (train, validation, or test), and class; validation
    classes are also training classes. "torch" is a list of plain dictionaries, which
    `torch.load(path, weights_only=True)` reads.
    """
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, "--format")
    if kind in ("json", "pickle"):
        write_splits(progression, path)
    elif kind == "csv":
        rows = [
            (split.step, split.shift, part, name)
            for split in progression
            for part in ("train", "validation", "test")
            for name in getattr(split, part)
        ]
        table = pd.DataFrame(rows, columns=["step", "shift", "part", "class"])
        write_text(path, table.to_csv(index=False, lineterminator="\n"))
    else:
        import torch

        documents = [_split_to_document(split) for split in progression]
        for document in documents:
            del document["episodes"]
        with replacing(path) as temporary:
            torch.save(documents, temporary)


def describe_splits(progression: Progression) -> str:
    """The paragraph and the table (Markdown) of a paper's method section."""
    shifts = [split.shift for split in progression]
    removed = any(str(split.step).startswith("R") for split in progression)
    seed = "" if progression.seed is None else f" (seed {progression.seed})"
    fingerprint = f" (fingerprint {progression.fingerprint})" if progression.fingerprint else ""
    network = f" of {progression.backbone}" if progression.backbone else ""
    measure = {
        "fid_class_means": "the Fréchet distance (FID) between the class means of frozen "
        f"features{network}",
        "nearest_class": "the distance of each test class to its nearest training class",
    }.get(progression.shift_measure, progression.shift_measure)
    text = (
        f"We evaluate on {len(progression)} splits of {progression.data or 'the dataset'}"
        f"{fingerprint} into disjoint training and test classes, with a shift of {min(shifts):.1f} "
        f"to {max(shifts):.1f}. Shift is {measure}. Splits are built by the procedure "
        f'"{progression.procedure}" of oodml {version("oodml")}{seed}, which moves classes between '
        f"the sides{' and then removes classes from both' if removed else ''}. Models are selected "
        "on validation classes, a part of the training classes, and never on test classes. "
        "Following Milbich et al. (2021), splits are named by their number of swaps."
    )
    rows = [
        f"| {one.step} | {one.shift:.2f} | {len(one.train)} | {len(one.validation)} | "
        f"{len(one.test)} |"
        for one in progression
    ]
    head = "| split | shift | training classes | validation | test classes |"
    return "\n".join([text, "", head, "|---|---|---|---|---|", *rows])


@dataclass(frozen=True, kw_only=True)
class SplitsFile(Progression):
    """A file of class splits; see `oodml.Progression`.

    `hash` is the `content_hash` of the compact JSON with sorted keys and an empty `hash`. An empty
    value disables the check, for files edited by hand.
    """

    format: Literal["oodml.splits"]
    version: Literal[1]
    hash: str


_FILE = TypeAdapter(SplitsFile)


def to_text(progression: Progression) -> str:
    """Format a progression as JSON with one class per line, so that diffs show what moved."""
    names = ("data", "fingerprint", "backbone", "procedure", "shift_measure", "seed")
    document = {
        "format": "oodml.splits",
        "version": VERSION,
        "hash": "",
        **{name: getattr(progression, name) for name in names},
        "settings": dict(progression.settings),
        "splits": [_split_to_document(split) for split in progression],
    }
    return _format_json({**document, "hash": _hash(document)}, 0) + "\n"


def from_text(text: str) -> Progression:
    """Parse the text of a split file."""
    document = _parse_document(text)
    stated = document.get("hash")
    if stated != "" and stated != _hash({**document, "hash": ""}):
        message = (
            "the content does not match its hash: the file is damaged or was edited. "
            'To accept a file edited by hand, set its "hash" to ""'
        )
        raise OodmlError(message, "hash", stated)
    try:
        parsed = _FILE.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key, value = ".".join(map(str, first["loc"]))[:200], str(first["input"])[:60]
        raise error_at(key, f"{first['msg']}; given {value!r}", value) from None
    for split, raw in zip(parsed.splits, document["splits"], strict=True):
        for shots, key in zip(split.episodes, raw.get("episodes", ()), strict=False):
            if str(shots) != key or not 0 < shots < 1_000_000:
                location = f"step {split.step}: episodes"
                raise error_at(location, f"{key[:60]!r} is not a number of shots", key)
    return Progression(**{item.name: getattr(parsed, item.name) for item in fields(Progression)})


def _parse_document(text: str) -> dict[str, Any]:
    """The JSON object of a split file; other JSON and other versions are refused."""
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except OodmlError:
        raise
    except (ValueError, RecursionError) as error:
        raise OodmlError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise OodmlError("not a split file: the JSON is not an object")
    for key, expected in (("format", "oodml.splits"), ("version", VERSION)):
        if document.get(key) != expected:
            problem = f'not a split file of this release: "{key}" must be {json.dumps(expected)}'
            given = document.get(key)
            raise OodmlError(f"{problem}; given {str(given)[:60]!r}", key, given, (str(expected),))
    return document


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    return _FILE.json_schema()


def _split_to_document(split: Split) -> dict[str, Any]:
    def plain(episode: Episode) -> dict[str, Any]:
        support = {name: list(samples) for name, samples in episode.support.items()}
        return {"support": support} | ({"class_wise": True} if episode.class_wise else {})

    return {
        "step": split.step,
        "shift": float(split.shift),
        "train": list(split.train),
        "test": list(split.test),
        "validation": list(split.validation),
        "episodes": {str(k): [plain(one) for one in drawn] for k, drawn in split.episodes.items()},
    }


def _hash(document: Mapping[str, Any]) -> str:
    return content_hash(json.dumps(document, sort_keys=True, separators=(",", ":")))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise OodmlError(f"key {repeated[:60]!r} appears twice", repeated[:60], repeated)
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise OodmlError(f"{name} is not a JSON number", given=name)


def _format_json(value: Any, depth: int) -> str:
    """Format JSON with one item per line; the images of a support class share a line."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, (dict, list)) or not value:
        return flat
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict):
        quoted = (json.dumps(key, ensure_ascii=False) for key in value)
        values = (_format_json(item, depth + 1) for item in value.values())
        items = [f"{key}: {item}" for key, item in zip(quoted, values, strict=True)]
        return "{" + inner + ("," + inner).join(items) + outer + "}"
    if depth > 4 and not any(isinstance(item, (dict, list)) for item in value):
        return flat
    items = [_format_json(item, depth + 1) for item in value]
    return "[" + inner + ("," + inner).join(items) + outer + "]"
