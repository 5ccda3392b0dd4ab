"""The variants of a study: its methods with all their settings, checked."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from oodml.adaptation import AdaptSettings
from oodml.backbones._timm import timm_names
from oodml.catalog import find, names
from oodml.errors import OodmlError, unknown
from oodml.methods._base import Sizes
from oodml.model import ModelSettings
from oodml.study.spec.consistency import refuse_contradictions
from oodml.study.spec.ranges import Range, refuse_intervals
from oodml.study.spec.tables import Table, beside, checked, combinations, option_settings
from oodml.training.settings import TrainSettings

GIVEN = ("sizes",)
"""What the training loop gives a method; the rest of its signature are options."""
TRIED = Sizes(n_classes=4, dim=8, feature_dim=8)
"""A method is built once for these sizes, so that wrong options are told before anything runs."""


PARTS: dict[str, type[BaseModel]] = {
    "model": ModelSettings,
    "train": TrainSettings,
    "adapt": AdaptSettings,
}
"""The tables that a study has and a method may have of its own."""


class Variant(BaseModel):
    """One line of a study's comparison: a method with everything that it is run with.

    label: what it is called in results. options: of the method, defaults filled in.
    ranges: what a search may change: "beta" is an option, "train.lr" a key of a part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    label: str
    method: str
    options: Mapping[str, Any]
    model: ModelSettings
    train: TrainSettings
    adapt: AdaptSettings
    seeds: tuple[int, ...]
    few_shot: bool = True
    ranges: Mapping[str, Range] = Field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value that a name of `ranges` has."""
        part, _, key = name.rpartition(".")
        return getattr(getattr(self, part), key) if part else self.options.get(key)

    def with_values(self, values: Mapping[str, Any]) -> "Variant":
        """The variant with some values of its ranges, and nothing left to search."""
        parts = {part: getattr(self, part) for part in PARTS}
        options = dict(self.options)
        for name, value in values.items():
            part, _, key = name.rpartition(".")
            if part:
                parts[part] = parts[part].model_copy(update={key: value})
            else:
                options[key] = value
        return self.model_copy(update=parts | {"options": options, "ranges": {}})


class MethodKeys(BaseModel):
    """The keys of a method's table that are not options of the method."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    method: str | None = None
    model: Table = Field(default_factory=dict)
    train: Table = Field(default_factory=dict)
    adapt: Table = Field(default_factory=dict)
    seeds: tuple[int, ...] | None = Field(None, min_length=1)
    few_shot: bool = True


def parse_variants(
    methods: Mapping[str, Table], bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Iterator[Variant]:
    """The variants of a study file.

    methods: the table of each label. bases: the study's own tables of `PARTS`.
    """
    for part, kind in PARTS.items():
        refuse_intervals(bases[part], kind, part, file)
        for table, _ in combinations(bases[part], kind):
            checked(kind, table, part, file)
    for label, table in methods.items():
        yield from variants_of(label, table, bases, seeds, file)


def variants_of(
    label: str, table: Table, bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Iterator[Variant]:
    """The variants of one method's table: one, or one for every combination of listed values."""
    key = f"methods.{label}"
    own = checked(MethodKeys, table, key, file)
    name = own.method or label
    method = method_of(name, f"{file}: {key}")
    option_kind = option_settings(method, GIVEN)
    given = {option: table[option] for option in table if option not in MethodKeys.model_fields}
    refuse_intervals(given, option_kind, key, file)
    options = [
        (_options(checked(option_kind, one, key, file)), chosen)
        for one, chosen in combinations(given, option_kind)
    ]
    for one, _ in options:
        _try(method, one, f"{file}: {key}")
    for settings, chosen in _settings(bases, own, key, file):
        _check_backbone(settings["model"].backbone, _place("backbone", own, key, file))
        _check_mode(method, name, settings["model"].mode, f"{file}: {key}")
        settings["model"] = _with_weights(
            settings["model"], _place("weights", own, key, file), file
        )
        for one, more in options:
            refuse_contradictions(
                settings["model"], settings["train"], method, one, f"{file}: {key}"
            )
            yield Variant(
                label=_suffixed(label, chosen | more),
                method=name,
                options=one,
                seeds=own.seeds or seeds,
                few_shot=own.few_shot,
                **settings,
            )


def _settings(
    bases: Mapping[str, Table], own: MethodKeys, key: str, file: Path
) -> Iterator[tuple[dict[str, Any], Table]]:
    """Model, train and adapt settings of a method, for every combination of listed values."""
    choices: list[list[tuple[str, BaseModel, Table]]] = []
    for part, kind in PARTS.items():
        merged = bases[part] | getattr(own, part)
        refuse_intervals(merged, kind, f"{key}.{part}", file)
        choices.append(
            [
                (part, checked(kind, table, f"{key}.{part}", file), chosen)
                for table, chosen in combinations(merged, kind)
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


def _place(name: str, own: MethodKeys, key: str, file: Path) -> str:
    """Where a key of the model was given: in the method's own table or in the study's."""
    return f"{file}: {key}.model.{name}" if name in own.model else f"{file}: model.{name}"


def _with_weights(model: ModelSettings, where: str, file: Path) -> ModelSettings:
    """Local weights are looked for beside the study file, too."""
    if model.weights in (None, "none"):
        return model
    path = beside(str(model.weights), file)
    if not path.is_file():
        raise OodmlError(f'{where}: {path} does not exist; a file of weights or "none" is expected')
    return model.model_copy(update={"weights": str(path)})


def _suffixed(label: str, chosen: Table) -> str:
    return " ".join([label, *(f"{key}={value}" for key, value in chosen.items())])


def method_of(name: str, where: str) -> Any:
    """The class of a method; an error with the place if there is none."""
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
    if name not in timm_names():
        own = [*names("backbones"), *timm_names(name[:6])]
        raise unknown("backbone", name, own, f"{where}: beside these, any network of timm")
