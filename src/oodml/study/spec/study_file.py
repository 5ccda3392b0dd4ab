"""The study file: a TOML that names data, splits, methods, seeds and shots."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from oodml.catalog import find, make_importable, names
from oodml.errors import OodmlError, unknown
from oodml.shift.build import SplitSettings
from oodml.study.search.trial_variants import parse_searched_variants
from oodml.study.spec.ranges import SearchSettings, read_search
from oodml.study.spec.tables import Table, beside, checked, option_settings
from oodml.study.spec.variants import Variant, parse_variants
from oodml.training.settings import TrainSettings

COMMON = ("few", "skip_corrupt")
"""Options of every collection, which `open_images` takes."""


class Source(BaseModel):
    """The collection of images: a data set's name or a path, and options of its reader."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: Mapping[str, Any] = Field(default_factory=dict)


class SplitFile(BaseModel):
    """Splits that exist already."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path


class Study(BaseModel):
    """What to run: every variant on every split of the progression with every seed.

    search: how to choose the options that have ranges, before anything is run. chosen: how they
    were chosen, kept in the plan. text: of the file it was read from, kept beside the results.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: str
    data: Source
    variants: tuple[Variant, ...]
    splits: SplitSettings | SplitFile
    shots: tuple[int, ...] = ()
    episodes: int = 10
    search: SearchSettings | None = None
    chosen: Mapping[str, Any] | None = None
    text: str = ""


class _Head(BaseModel):
    """The keys of a study file, its tables still unread."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    data: str | Table
    methods: list[str] | dict[str, Table] = Field(min_length=1)
    name: str | None = Field(None, min_length=1)
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    shots: tuple[int, ...] = ()
    episodes: int = Field(10, ge=1)
    splits: Table = Field(default_factory=dict)
    model: Table = Field(default_factory=dict)
    train: Table = Field(default_factory=dict)
    adapt: Table = Field(default_factory=dict)
    search: Any = None


def read_study(path: str | Path) -> Study:
    """Read and check a study file; relative paths in it start at its folder.

    Import paths in it reach the modules in its folder and in the current one.

    Raises `OodmlError` naming file, key, what was given and what is allowed.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise OodmlError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OodmlError(f"{file}: not TOML: {error}") from error
    make_importable(file.parent, Path.cwd())
    return parse_study(tables, file).model_copy(update={"text": text})


def parse_study(tables: Table, file: Path) -> Study:
    """The study that the tables of a file describe."""
    head = checked(_Head, tables, "", file)
    if any(shots < 1 for shots in head.shots):
        raise OodmlError(f"{file}: shots: given {min(head.shots)}; at least 1 is needed")
    bases = {"model": head.model, "train": head.train, "adapt": head.adapt}
    search = read_search(head.search, file)
    read = parse_variants if search is None else parse_searched_variants
    variants = tuple(read(_methods(head), bases, head.seeds, file))
    if search is not None and not any(variant.ranges for variant in variants):
        raise OodmlError(f"{file}: search: nothing has a range: list values, or give "
                         "{low = 1e-5, high = 1e-2, log = true} for an option of a method, or "
                         "for a key of [train] or [model]")  # fmt: skip
    return Study(
        name=head.name or file.stem,
        data=_source(head.data, file),
        variants=variants,
        splits=_splits(head.splits, head.model, file),
        shots=head.shots,
        episodes=head.episodes,
        search=search,
    )


def _methods(head: _Head) -> dict[str, Table]:
    """The table of each method; a list of names stands for empty ones."""
    methods = head.methods
    return methods if isinstance(methods, dict) else {label: {} for label in methods}


def with_precision(study: Study, precision: str, file: Path) -> Study:
    """The study with another precision for every variant that trains a network.

    On cached features there is no pass to compute in another.
    """
    variants = []
    for variant in study.variants:
        if variant.model.mode == "head":
            variants.append(variant)
            continue
        table = variant.train.model_dump(mode="json") | {"precision": precision}
        train = checked(TrainSettings, table, "train", file)
        ranges = {name: one for name, one in variant.ranges.items() if name != "train.precision"}
        variants.append(variant.model_copy(update={"train": train, "ranges": ranges}))
    if all(variant.model.mode == "head" for variant in variants):
        checked(TrainSettings, {"precision": precision}, "train", file)
        raise OodmlError(f"{file}: precision {precision!r}: every method trains on cached features "
                         '(model.mode = "head"), where it changes nothing')  # fmt: skip
    return study.model_copy(update={"variants": tuple(variants)})


def _source(data: str | Table, file: Path) -> Source:
    if isinstance(data, str):
        return Source(name=_located(data, file, "data"))
    options = dict(data)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise OodmlError(
            f"{file}: data.name: given {name!r}; a data set's name or a path is needed"
        )
    if not isinstance(options.get("skip_corrupt", False), bool):
        given = options["skip_corrupt"]
        raise OodmlError(f"{file}: data.skip_corrupt: given {given!r}; true or false is expected")
    few = options.get("few")
    if few is not None and not _is_few(few):
        raise OodmlError(f"{file}: data.few: given {few!r}; [classes, images of each] is expected, "
                         "2 classes and 1 image at the least")  # fmt: skip
    if isinstance(options.get("root"), str):
        options["root"] = str(beside(options["root"], file))
    if name in names("datasets"):
        kind = option_settings(find("datasets", name), ())
        for key in options:
            if (
                key not in (*kind.model_fields, *COMMON)
                and kind.model_config.get("extra") == "forbid"
            ):
                raise unknown("key", key, ["name", *COMMON, *kind.model_fields], f"{file}: data")
    return Source(name=_located(name, file, "data.name"), options=options)


def _is_few(few: object) -> bool:
    pair = few if isinstance(few, list) and list(map(type, few)) == [int, int] else [0, 0]
    return bool(pair[0] >= 2 and pair[1] >= 1)


def _located(name: str, file: Path, key: str) -> str:
    if name in names("datasets") or ":" in name:
        return name
    path = beside(name, file)
    if path.exists():
        return str(path)
    near = unknown("data set", name, names("datasets"), f"{file}: {key}")
    raise OodmlError(f"{near} Or the path of a folder or table; {path} does not exist.")


def _splits(table: Table, model: Table, file: Path) -> SplitSettings | SplitFile:
    """The splits; their features see the images as the models do, unless they say otherwise."""
    if "file" not in table:
        shared = {key: model[key] for key in ("image_size", "augmentation") if key in model}
        single = {k: value for k, value in shared.items() if not isinstance(value, list | dict)}
        settings = checked(SplitSettings, single | table, "splits", file)
        if settings.weights in (None, "none"):
            return settings
        weights = beside(str(settings.weights), file)
        if not weights.is_file():
            raise OodmlError(f"{file}: splits.weights: {weights} does not exist")
        return settings.model_copy(update={"weights": str(weights)})
    path = beside(checked(SplitFile, table, "splits", file).file, file)
    if not path.is_file():
        raise OodmlError(f"{file}: splits.file: {path} does not exist")
    return SplitFile(file=path)
