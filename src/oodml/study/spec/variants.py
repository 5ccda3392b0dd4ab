"""The variants of a study: its methods with all their settings, and the ranges of a search."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from oodml.adaptation import AdaptSettings
from oodml.backbones import check_backbone_name
from oodml.catalog import get_class, names
from oodml.errors import error_at, unknown
from oodml.model import ModelSettings, ModelTable, keys_of_other_mode, parse_model_settings
from oodml.study.spec.consistency import check_adaptation, check_method
from oodml.study.spec.ranges import Range, Seed, find_ranges, refuse_intervals, tables_to_validate
from oodml.study.spec.tables import (
    Table,
    combinations,
    key_error,
    option_schema,
    parse_settings,
    resolve_path,
)
from oodml.training.settings import TrainSettings

NOT_OPTIONS = ("sizes",)
"""Parameters of a method that the training loop passes; the other parameters are options."""
PARTS: dict[str, type[BaseModel]] = {
    "model": ModelTable,
    "train": TrainSettings,
    "adapt": AdaptSettings,
}
"""The settings that a study has a table for, and that a method may override."""


class Variant(BaseModel):
    """One configuration of a method in a study, with everything that it runs with.

    `method` is a name or import path. Baselines (`trains` False) run with one seed. `ranges` are
    what a search may change; "beta" is an option, "train.lr" a key of a part.
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
    trains: bool = True
    ranges: Mapping[str, Range] = Field(default_factory=dict)

    def run_fields(self) -> dict[str, Any]:
        """What a `Run` has in common with its variant."""
        names = ("label", "method", "options", "trains", *PARTS)
        return {name: getattr(self, name) for name in names}

    def value(self, name: str) -> Any:
        part, _, key = name.rpartition(".")
        return getattr(getattr(self, part), key, None) if part else self.options.get(key)

    def with_values(self, values: Mapping[str, Any]) -> "Variant":
        """The variant with these values for names in `ranges`, and no ranges."""
        changes: dict[str, Any] = {"options": dict(self.options), "ranges": {}}
        for name, value in values.items():
            part, _, key = name.rpartition(".")
            if not part:
                changes["options"][key] = value
                continue
            settings = changes.get(part, getattr(self, part)).model_copy(update={key: value})
            is_mode = name == "model.mode"
            changes[part] = parse_model_settings(settings.model_dump()) if is_mode else settings
        return self.model_copy(update=changes)


class MethodKeys(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    method: str | None = None
    label: str | None = Field(None, min_length=1)
    backbone: str | None = None
    model: Table = Field(default_factory=dict)
    train: Table = Field(default_factory=dict)
    adapt: Table = Field(default_factory=dict)
    seeds: tuple[Seed, ...] | None = Field(None, min_length=1)
    few_shot: bool = True


def parse_variants(
    methods: Mapping[str, Table], bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Iterator[Variant]:
    for part, kind in PARTS.items():
        refuse_intervals(bases[part], kind, part, file)
        for table, _ in combinations(bases[part], kind, part, file):
            parse_settings(kind, table, part, file)
    for label, table in methods.items():
        yield from method_variants(label, table, bases, seeds, file)


def method_variants(
    label: str, table: Table, bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Iterator[Variant]:
    """The variants of one method's table: one for every combination of listed values."""
    key = f"methods.{label}"
    own = parse_settings(MethodKeys, table, key, file)
    if own.backbone is not None:
        own = own.model_copy(update={"model": own.model | {"backbone": own.backbone}})
    name = own.method or label
    method = find_method(name, f"{file}: {key}")
    schema = option_schema(method, NOT_OPTIONS)
    given = {option: table[option] for option in table if option not in MethodKeys.model_fields}
    refuse_intervals(given, schema, key, file)
    options = []
    for one, chosen in combinations(given, schema, key, file):
        parsed = parse_settings(schema, one, key, file)
        plain = {  # without defaults that JSON cannot represent
            option: value
            for option, value in parsed.model_dump().items()
            if option in parsed.model_fields_set
            or isinstance(value, bool | int | float | str | None)
        }
        options.append((plain, chosen))
    unused = _unused_parts(method.trains, own.few_shot)
    own_seeds = tuple(dict.fromkeys(own.seeds or seeds))
    for settings, chosen in _part_settings(bases, own, unused, key, file):
        check_adaptation(settings["adapt"], f"{file}: {_dotted('adapt', 'metrics', own, key)}")
        settings["model"] = _check_model(settings["model"], method, name, own, key, file)
        for one, chosen_options in options:
            check_method(method, one, settings["model"], settings["train"], f"{file}: {key}")
            values = (f"{name}={value}" for name, value in (chosen | chosen_options).items())
            yield Variant(
                label=" ".join([own.label or label, *values]),
                method=name,
                options=one,
                seeds=own_seeds if method.trains else own_seeds[:1],
                few_shot=own.few_shot,
                trains=method.trains,
                **settings | {"model": parse_model_settings(settings["model"].model_dump())},
            )


def _part_settings(
    bases: Mapping[str, Table], own: MethodKeys, unused: set[str], key: str, file: Path
) -> Iterator[tuple[dict[str, Any], Table]]:
    """The settings of a method for every combination of listed values, and the chosen values."""
    choices: list[list[tuple[str, BaseModel, Table]]] = []
    for part, kind in PARTS.items():
        merged = bases[part] | getattr(own, part)
        if part == "model":
            _refuse_views(merged, own, bases["model"], key, file)
        refuse_intervals(merged, kind, f"{key}.{part}", file)
        parsed: list[tuple[str, BaseModel, Table]] = []
        for table, chosen in combinations(merged, kind, f"{key}.{part}", file):
            dotted = {f"{part}.{name}": value for name, value in chosen.items()}
            parsed.append((part, parse_settings(kind, table, f"{key}.{part}", file), dotted))
        parsed = [(part, parsed[0][1], {})] if part in unused else parsed
        choices.append(_applicable(parsed) if part == "model" else parsed)
    for combination in itertools.product(*choices):
        settings = {part: one for part, one, _ in combination}
        yield settings, {name: value for *_, one in combination for name, value in one.items()}


def _refuse_views(merged: Table, own: MethodKeys, base: Table, key: str, file: Path) -> None:
    """Refuse `views` where the whole network trains, which draws a new view in every epoch."""
    if merged.get("mode") != "finetune" or merged.get("views", 1) == 1:
        return
    if "views" in own.model or base.get("mode") == "finetune":
        where = f"{key}.model.views" if "views" in own.model else "model.views"
        problem = 'remove it; with mode = "finetune", every epoch has new views'
        raise key_error(file, where, merged["views"], problem)


def _applicable(parsed: list[tuple[str, BaseModel, Table]]) -> list[tuple[str, BaseModel, Table]]:
    """Model settings that differ by more than keys that their mode ignores, such as `views`."""
    applicable: dict[str, tuple[str, BaseModel, Table]] = {}
    for part, settings, chosen in parsed:
        assert isinstance(settings, ModelTable)
        ignored = keys_of_other_mode(settings.mode)
        own = {k: v for k, v in chosen.items() if k.partition(".")[2] not in ignored}
        applicable.setdefault(repr(own), (part, settings, own))
    return list(applicable.values())


def refuse_repeats(variants: tuple[Variant, ...], file: Path) -> None:
    """Refuse two variants with the same label, or with the same settings and a common seed.

    Results are averaged over seeds by label, so a repeated run would count as another seed.
    """
    labels: set[str] = set()
    runs: dict[tuple[str, int], str] = {}
    for variant in variants:
        label, own = variant.label, _runs_of(variant)
        first = next((runs[one] for one in own if one in runs), None)
        problem = first and f"has the same settings as methods.{first}; remove one of them"
        if label in labels:
            problem = "another variant has the same label; rename one of the methods"
        if problem:
            raise error_at(f"{file}: methods.{label}", problem, label)
        labels.add(label)
        runs |= dict.fromkeys(own, label)


def _runs_of(variant: Variant) -> list[tuple[str, int]]:
    """What changes the numbers of a variant as text, with each of its seeds."""
    unused = {"label", "seeds"} | _unused_parts(variant.trains, variant.few_shot)
    text = json.dumps(variant.model_dump(exclude=unused), sort_keys=True, default=repr)
    return [(text, seed) for seed in variant.seeds]


def _unused_parts(trains: bool, few_shot: bool) -> set[str]:
    unused = {"train": not trains, "adapt": not few_shot}
    return {part for part, is_unused in unused.items() if is_unused}


def find_method(name: str, location: str) -> Any:
    if ":" not in name and name not in names("methods"):
        raise unknown("method", name, names("methods"), location)
    return get_class("methods", name)


def _check_model(
    model: ModelTable, method: Any, name: str, own: MethodKeys, key: str, file: Path
) -> ModelTable:
    """The settings of the network with absolute paths; its backbone and mode are checked."""
    check_backbone_name(model.backbone, f"{file}: {_dotted('model', 'backbone', own, key)}")
    if reason := method.modes.get(model.mode, "it supports other modes"):
        allowed = [mode for mode, problem in method.modes.items() if not problem]
        message = f"{name} does not support mode {model.mode!r}: {reason}. Allowed: "
        raise error_at(f"{file}: {key}", f"{message}{', '.join(allowed)}.", model.mode, allowed)
    if model.weights in (None, "none"):
        return model
    path = resolve_path(str(model.weights), file)
    if not path.is_file():
        problem = f'{path} does not exist; expected a file of weights or "none"'
        raise key_error(file, _dotted("model", "weights", own, key), model.weights, problem)
    return model.model_copy(update={"weights": str(path)})


def _dotted(part: str, field: str, own: MethodKeys, key: str) -> str:
    """Where a key is: in the method's own table or in the study's."""
    return f"{key}.{part}.{field}" if field in getattr(own, part) else f"{part}.{field}"


def parse_searched_variants(
    methods: Mapping[str, Table], bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Iterator[Variant]:
    """The variants of a study file with default options, and their ranges."""
    for part, kind in PARTS.items():
        for table in tables_to_validate(bases[part], kind, part, file):
            parse_settings(kind, table, part, file)
    for label, table in methods.items():
        yield _searched_variant(label, table, bases, seeds, file)


def _searched_variant(
    label: str, table: Table, bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Variant:
    """The method with its defaults and its ranges; every bound and choice is validated."""
    own = parse_settings(MethodKeys, table, f"methods.{label}", file)
    method = find_method(own.method or label, f"{file}: methods.{label}")
    schema = option_schema(method, NOT_OPTIONS)
    ranges = _method_ranges(label, table, own, schema, bases, file)
    fixed = {
        part: next(tables_to_validate(bases[part], kind, part, file))
        for part, kind in PARTS.items()
    }

    def variant(values: Mapping[str, Any]) -> Variant:
        tables = {key: value for key, value in table.items() if key not in ranges}
        for part in PARTS:
            inner = getattr(own, part)
            tables[part] = {key: inner[key] for key in inner if f"{part}.{key}" not in ranges}
        for name, value in values.items():
            part, _, key = name.rpartition(".")
            (tables[part] if part else tables)[key] = value
        return next(method_variants(label, tables, fixed, seeds, file))

    start = {
        name: ranges[name].initial_value()
        for name, field in schema.model_fields.items()
        if name in ranges and (field.is_required() or field.default is None)
    }
    default = variant(start)
    if method.trains:
        for name, one in ranges.items():
            given = [start | {name: value} for value in one.values_to_validate()]
            ranges[name] = one.with_validated(tuple(variant(some).value(name) for some in given))
    return default.model_copy(update={"ranges": ranges if method.trains else {}})


def _method_ranges(
    label: str,
    table: Table,
    own: MethodKeys,
    schema: type[BaseModel],
    bases: Mapping[str, Table],
    file: Path,
) -> dict[str, Range]:
    """The ranges of the method's options and of its parts, as `Variant.ranges` names them."""
    given = {key: table[key] for key in table if key not in MethodKeys.model_fields}
    ranges = find_ranges(given, schema, f"methods.{label}", file)
    for part, kind in PARTS.items():
        merged = bases[part] | getattr(own, part)
        for name, one in find_ranges(merged, kind, f"methods.{label}.{part}", file).items():
            if part == "adapt":
                problem = "a search trains and validates but does not adapt; give one value"
                raise key_error(file, f"adapt.{name}", merged[name], problem)
            ranges[f"{part}.{name}"] = one
    return ranges
