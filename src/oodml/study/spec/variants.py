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
from oodml.study.spec.ranges import (
    Choices,
    Range,
    Seed,
    combinations,
    find_ranges,
    tables_to_validate,
)
from oodml.study.spec.tables import Key, Problems, Table, option_schema, parse_settings
from oodml.training.settings import TrainSettings

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
    methods: Mapping[str, Table],
    bases: Mapping[str, Table],
    seeds: tuple[int, ...],
    file: Path,
    is_search: bool = False,
) -> Iterator[Variant]:
    """The variants of a study file; those of a search have default options and ranges."""
    problems = Problems()
    for label, table in methods.items():
        with problems:
            method = MethodTable(label, table, bases, file)
            yield from [method.searched_variant(seeds)] if is_search else method.variants(seeds)
    problems.raise_all()


def check_part(kind: type[BaseModel], table: Any, key: Key, is_search: bool) -> None:
    """Check the table of a part with every combination of listed values."""
    if not isinstance(table, dict):
        return  # an error of the whole file
    tables = tables_to_validate if is_search else combinations
    for one, _ in tables(table, kind, key):
        parse_settings(kind, one, key)


class MethodTable:
    """A method's table, with the tables of the study that it inherits from."""

    def __init__(self, label: str, table: Table, bases: Mapping[str, Table], file: Path) -> None:
        self.label, self.table, self.bases = label, table, bases
        self.file, self.key = file, Key(file, f"methods.{label}")
        self.keys = keys = parse_settings(MethodKeys, table, self.key)
        self.name = keys.method or label
        if ":" not in self.name and self.name not in names("methods"):
            raise unknown("method", self.name, names("methods"), str(self.key))
        self.method = get_class("methods", self.name)
        self.schema = option_schema(self.method, ("sizes",))
        self.options = {name: table[name] for name in table if name not in MethodKeys.model_fields}
        self.own = {part: getattr(keys, part) for part in PARTS}
        if keys.backbone is not None:
            self.own["model"] = self.own["model"] | {"backbone": keys.backbone}
        self.merged = {part: bases[part] | self.own[part] for part in PARTS}
        self.unused = _unused_parts(self.method.trains, keys.few_shot)

    def locate(self, part: str, field: str) -> Key:
        """Where a key is: in the method's own table or in the study's."""
        return (self.key if field in self.own[part] else Key(self.file)) / part / field

    def variants(self, seeds: tuple[int, ...]) -> Iterator[Variant]:
        """One variant for every combination of listed values."""
        seeds, options = tuple(dict.fromkeys(self.keys.seeds or seeds)), []
        for one, chosen in combinations(self.options, self.schema, self.key):
            parsed = parse_settings(self.schema, one, self.key)
            plain = {  # without defaults that JSON cannot represent
                name: value
                for name, value in parsed.model_dump().items()
                if name in parsed.model_fields_set
                or isinstance(value, bool | int | float | str | None)
            }
            options.append((plain, chosen))
        for settings, chosen in self._part_settings():
            check_adaptation(settings["adapt"], str(self.locate("adapt", "metrics")))
            model = self._check_model(settings["model"])
            for one, chosen_options in options:
                check_method(self.method, one, model, settings["train"], str(self.key))
                values = (f"{name}={value}" for name, value in (chosen | chosen_options).items())
                yield Variant(
                    label=" ".join([self.keys.label or self.label, *values]),
                    method=self.name,
                    options=one,
                    seeds=seeds if self.method.trains else seeds[:1],
                    few_shot=self.keys.few_shot,
                    trains=self.method.trains,
                    **settings | {"model": parse_model_settings(model.model_dump())},
                )

    def _part_settings(self) -> Iterator[tuple[dict[str, Any], Table]]:
        """The settings for every combination of listed values, and the chosen values."""
        model = self.merged["model"]
        contradict = "views" in self.own["model"] or self.bases["model"].get("mode") == "finetune"
        if contradict and model.get("mode") == "finetune" and model.get("views", 1) != 1:
            problem = 'remove it; with mode = "finetune", every epoch has new views'
            raise self.locate("model", "views").error(model["views"], problem)
        choices: list[list[tuple[str, Any, Table]]] = []
        for part, kind in PARTS.items():
            key, parsed = self.key / part, []
            for table, chosen in combinations(self.merged[part], kind, key):
                dotted = {f"{part}.{name}": value for name, value in chosen.items()}
                parsed.append((part, parse_settings(kind, table, key), dotted))
            choices.append([(part, parsed[0][1], {})] if part in self.unused else parsed)
        choices[0] = _applicable(choices[0])
        for combination in itertools.product(*choices):
            settings = {part: one for part, one, _ in combination}
            yield settings, {name: value for *_, one in combination for name, value in one.items()}

    def _check_model(self, model: ModelTable) -> ModelTable:
        """The settings of the network with absolute paths; its backbone and mode are checked."""
        check_backbone_name(model.backbone, str(self.locate("model", "backbone")))
        modes = self.method.modes
        if reason := modes.get(model.mode, "it supports other modes"):
            allowed = [mode for mode, problem in modes.items() if not problem]
            message = f"{self.name} does not support mode {model.mode!r}: {reason}. Allowed: "
            raise error_at(self.key, f"{message}{', '.join(allowed)}.", model.mode, allowed)
        return self.locate("model", "weights").resolve_weights(model)

    def ranges(self) -> dict[str, Range]:
        """The ranges of the method's options and of its parts, as `Variant.ranges` names them."""
        ranges = find_ranges(self.options, self.schema, self.key)
        for part, kind in PARTS.items():
            for name, one in find_ranges(self.merged[part], kind, self.key / part).items():
                if part == "adapt":
                    problem = "a search trains and validates but does not adapt; give one value"
                    raise Key(self.file, f"adapt.{name}").error(self.merged[part][name], problem)
                ranges[f"{part}.{name}"] = one
        return ranges

    def searched_variant(self, seeds: tuple[int, ...]) -> Variant:
        """The variant with default options and ranges, whose bounds and choices are validated."""
        ranges, file = self.ranges(), self.file
        fixed = {
            part: next(tables_to_validate(self.bases[part], kind, Key(file, part)))[0]
            for part, kind in PARTS.items()
        }

        def variant(values: Mapping[str, Any]) -> Variant:
            tables = {key: value for key, value in self.table.items() if key not in ranges}
            for part, own in self.own.items():
                tables[part] = {key: own[key] for key in own if f"{part}.{key}" not in ranges}
            for name, value in values.items():
                part, _, key = name.rpartition(".")
                (tables[part] if part else tables)[key] = value
            return next(MethodTable(self.label, tables, fixed, file).variants(seeds))

        start = {
            name: ranges[name].initial_value()
            for name, field in self.schema.model_fields.items()
            if name in ranges and (field.is_required() or field.default is None)
        }
        default = variant(start)
        if not self.method.trains:
            return default
        for name, one in ranges.items():
            checked = tuple(variant(start | {name: value}).value(name) for value in one.values)
            ranges[name] = Choices(values=checked) if isinstance(one, Choices) else one
        return default.model_copy(update={"ranges": ranges})


def _applicable(parsed: list[tuple[str, Any, Table]]) -> list[tuple[str, Any, Table]]:
    """Model settings that differ by more than keys that their mode ignores, such as `views`."""
    applicable: dict[str, tuple[str, Any, Table]] = {}
    for part, settings, chosen in parsed:
        ignored = keys_of_other_mode(settings.mode)
        own = {k: v for k, v in chosen.items() if k.partition(".")[2] not in ignored}
        applicable.setdefault(repr(own), (part, settings, own))
    return list(applicable.values())


def refuse_repeats(variants: tuple[Variant, ...], file: Path) -> None:
    """Refuse two variants with the same label, or with the same settings and a common seed."""
    labels: set[str] = set()
    runs: dict[tuple[str, int], str] = {}
    for variant in variants:
        unused = {"label", "seeds"} | _unused_parts(variant.trains, variant.few_shot)
        settings = json.dumps(variant.model_dump(exclude=unused), sort_keys=True, default=repr)
        label, own = variant.label, [(settings, seed) for seed in variant.seeds]
        first = next((runs[one] for one in own if one in runs), None)
        problem = first and f"has the same settings as methods.{first}; remove one of them"
        if label in labels:
            problem = "another variant has the same label; rename one of the methods"
        if problem:
            raise error_at(f"{file}: methods.{label}", problem, label)
        labels.add(label)
        runs |= dict.fromkeys(own, label)


def _unused_parts(trains: bool, few_shot: bool) -> set[str]:
    unused = {"train": not trains, "adapt": not few_shot}
    return {part for part, is_unused in unused.items() if is_unused}
