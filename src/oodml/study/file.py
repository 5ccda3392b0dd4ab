"""The study file: a TOML that names data, splits, methods, seeds and shots."""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from oodml.adaptation import AdaptSettings
from oodml.catalog import find, names
from oodml.errors import OodmlError, unknown
from oodml.methods._base import Space
from oodml.model import ModelSettings
from oodml.shift.build import SplitSettings
from oodml.study.tables import Table, checked, option_settings, variants
from oodml.train import TrainSettings

GIVEN = ("space",)
"""What the training loop gives a method; the rest of its signature are options."""
TRIED = Space(n_classes=4, dim=8, feature_dim=8)
"""A method is built once for these sizes, so that wrong options are told before anything runs."""


PARTS: dict[str, type[BaseModel]] = {
    "model": ModelSettings,
    "train": TrainSettings,
    "adapt": AdaptSettings,
}
"""The tables that a study has and a method may have of its own."""


class Arm(BaseModel):
    """One line of a study's comparison: a method with everything that it is run with.

    label: what it is called in results. options: of the method, defaults filled in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    label: str
    method: str
    options: Mapping[str, Any]
    model: ModelSettings
    train: TrainSettings
    adapt: AdaptSettings
    seeds: tuple[int, ...]


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
    """What to run: every arm on every split of the progression with every seed.

    text: of the file it was read from, kept beside the results.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: str
    data: Source
    arms: tuple[Arm, ...]
    splits: SplitSettings | SplitFile
    shots: tuple[int, ...] = ()
    episodes: int = 10
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


class _MethodKeys(BaseModel):
    """The keys of a method's table that are not options of the method."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    method: str | None = None
    model: Table = Field(default_factory=dict)
    train: Table = Field(default_factory=dict)
    adapt: Table = Field(default_factory=dict)
    seeds: tuple[int, ...] | None = Field(None, min_length=1)


def read_study(path: str | Path) -> Study:
    """Read and check a study file; relative paths in it start at its folder.

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
    return parse_study(tables, file).model_copy(update={"text": text})


def parse_study(tables: Table, file: Path) -> Study:
    """The study that the tables of a file describe."""
    head = checked(_Head, tables, "", file)
    if any(shots < 1 for shots in head.shots):
        raise OodmlError(f"{file}: shots: given {min(head.shots)}; at least 1 is needed")
    return Study(
        name=head.name or file.stem,
        data=_source(head.data, file),
        arms=tuple(_arms(head, file)),
        splits=_splits(head.splits, file),
        shots=head.shots,
        episodes=head.episodes,
    )


def with_precision(study: Study, precision: str, file: Path) -> Study:
    """The study with another precision for every arm."""
    arms = []
    for arm in study.arms:
        table = arm.train.model_dump(mode="json") | {"precision": precision}
        arms.append(arm.model_copy(update={"train": checked(TrainSettings, table, "train", file)}))
    return study.model_copy(update={"arms": tuple(arms)})


def smaller(study: Study) -> Study:
    """A study that tries every arm in little time: one seed, one epoch, one episode, few steps."""
    arms = [
        arm.model_copy(
            update={
                "seeds": arm.seeds[:1],
                "train": arm.train.model_copy(update={"epochs": min(1, arm.train.epochs)}),
                "adapt": arm.adapt.model_copy(update={"iterations": 5}),
            }
        )
        for arm in study.arms
    ]
    return study.model_copy(update={"arms": tuple(arms), "shots": study.shots[:1], "episodes": 1})


def _source(data: str | Table, file: Path) -> Source:
    if isinstance(data, str):
        return Source(name=_located(data, file, "data"))
    options = dict(data)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise OodmlError(
            f"{file}: data.name: given {name!r}; a data set's name or a path is needed"
        )
    if isinstance(options.get("root"), str):
        options["root"] = str(_beside(options["root"], file))
    if name in names("datasets"):
        kind = option_settings(find("datasets", name), ())
        for key in options:
            if key not in kind.model_fields and kind.model_config.get("extra") == "forbid":
                raise unknown("key", key, ["name", *kind.model_fields], f"{file}: data")
    return Source(name=_located(name, file, "data.name"), options=options)


def _located(name: str, file: Path, key: str) -> str:
    if name in names("datasets") or ":" in name:
        return name
    path = _beside(name, file)
    if path.exists():
        return str(path)
    near = unknown("data set", name, names("datasets"), f"{file}: {key}")
    raise OodmlError(f"{near} Or the path of a folder or table; {path} does not exist.")


def _splits(table: Table, file: Path) -> SplitSettings | SplitFile:
    if "file" not in table:
        return checked(SplitSettings, table, "splits", file)
    path = _beside(checked(SplitFile, table, "splits", file).file, file)
    if not path.is_file():
        raise OodmlError(f"{file}: splits.file: {path} does not exist")
    return SplitFile(file=path)


def _arms(head: _Head, file: Path) -> Iterator[Arm]:
    for part, kind in PARTS.items():
        for table, _ in variants(getattr(head, part), kind):
            checked(kind, table, part, file)
    methods = head.methods
    if isinstance(methods, list):
        methods = {label: {} for label in methods}
    for label, table in methods.items():
        yield from _arms_of(label, table, head, file)


def _arms_of(label: str, table: Table, head: _Head, file: Path) -> Iterator[Arm]:
    """The arms of one method's table: one, or one for every combination of listed values."""
    key = f"methods.{label}"
    own = checked(_MethodKeys, table, key, file)
    name = own.method or label
    method = _method(name, f"{file}: {key}")
    option_kind = option_settings(method, GIVEN)
    given = {option: table[option] for option in table if option not in _MethodKeys.model_fields}
    options = [
        (_options(checked(option_kind, one, key, file)), chosen)
        for one, chosen in variants(given, option_kind)
    ]
    for one, _ in options:
        _try(method, one, f"{file}: {key}")
    for settings, chosen in _settings(head, own, key, file):
        _check_backbone(settings["model"].backbone, f"{file}: model.backbone")
        _check_mode(method, name, settings["model"].mode, f"{file}: {key}")
        settings["model"] = _with_weights(settings["model"], f"{file}: model.weights", file)
        for one, more in options:
            yield Arm(
                label=_suffixed(label, chosen | more),
                method=name,
                options=one,
                seeds=own.seeds or head.seeds,
                **settings,
            )


def _settings(
    head: _Head, own: _MethodKeys, key: str, file: Path
) -> Iterator[tuple[dict[str, Any], Table]]:
    """Model, train and adapt settings of a method, for every combination of listed values."""
    choices: list[list[tuple[str, BaseModel, Table]]] = []
    for part, kind in PARTS.items():
        merged = getattr(head, part) | getattr(own, part)
        choices.append(
            [
                (part, checked(kind, table, f"{key}.{part}", file), chosen)
                for table, chosen in variants(merged, kind)
            ]
        )
    for combination in itertools.product(*choices):
        settings = {part: one for part, one, _ in combination}
        varied: Table = {}
        for *_, chosen in combination:
            varied |= chosen
        yield settings, varied


def _options(options: BaseModel) -> Table:
    """All options with their values; those that JSON cannot hold are the method's own defaults."""
    values = options.model_dump()
    given = options.model_fields_set
    return {key: value for key, value in values.items() if key in given or _is_plain(value)}


def _try(method: Any, options: Table, where: str) -> None:
    """Build the method once: what its losses and miners refuse is told with its place."""
    try:
        method(TRIED, **options)
    except (TypeError, ValueError) as error:
        raise OodmlError(f"{where}: {error}") from error


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _with_weights(model: ModelSettings, where: str, file: Path) -> ModelSettings:
    """Local weights are looked for beside the study file, too."""
    if model.weights in (None, "none"):
        return model
    path = _beside(str(model.weights), file)
    if not path.is_file():
        raise OodmlError(f'{where}: {path} does not exist; a file of weights or "none" is expected')
    return model.model_copy(update={"weights": str(path)})


def _suffixed(label: str, chosen: Table) -> str:
    return " ".join([label, *(f"{key}={value}" for key, value in chosen.items())])


def _method(name: str, where: str) -> Any:
    if ":" not in name and name not in names("methods"):
        raise unknown("method", name, names("methods"), where)
    return find("methods", name)


def _check_mode(method: Any, name: str, mode: str, where: str) -> None:
    reason = method.modes.get(mode, "it is made for another")
    if reason:
        allowed = [other for other, refused in method.modes.items() if not refused]
        raise OodmlError(
            f"{where}: {name} makes no sense in mode {mode!r}: {reason}. "
            f"Allowed: {', '.join(allowed)}."
        )


def _check_backbone(name: str, where: str) -> None:
    if ":" in name or name in names("backbones"):
        return
    from oodml.backbones._timm import timm_names

    if name not in timm_names():
        own = [*names("backbones"), *timm_names(name[:6])]
        raise unknown("backbone", name, own, f"{where}: beside these, any network of timm")


def _beside(path: str | Path, file: Path) -> Path:
    return (file.parent / Path(path).expanduser()).resolve()
