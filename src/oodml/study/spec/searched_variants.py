"""The variants of a study with a search: every method once, with the ranges of its options."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from oodml.study.spec.ranges import Range, find_ranges, tables_to_validate
from oodml.study.spec.tables import Table, key_error, option_schema, parse_settings
from oodml.study.spec.variants import (
    NOT_OPTIONS,
    PARTS,
    MethodKeys,
    Variant,
    find_method,
    method_variants,
)


def parse_searched_variants(
    methods: Mapping[str, Table], bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Iterator[Variant]:
    """The variants of a study file with default options, and their ranges."""
    for part, kind in PARTS.items():
        for table in tables_to_validate(bases[part], kind, part, file):
            parse_settings(kind, table, part, file)
    for label, table in methods.items():
        yield _MethodTables(label, table, bases, seeds, file).parse()


@dataclass
class _MethodTables:
    """The entry of one method in a study file."""

    label: str
    table: Table
    bases: Mapping[str, Table]
    seeds: tuple[int, ...]
    file: Path

    def parse(self) -> Variant:
        """The method with its defaults and its ranges; every bound and choice is validated."""
        method = find_method(self._own.method or self.label, f"{self.file}: {self._key}")
        schema = option_schema(method, NOT_OPTIONS)
        ranges = self._ranges(schema)
        start = {
            name: one.initial_value() for name, one in ranges.items() if _is_required(name, schema)
        }
        variant = self._variant(start, ranges)
        if not method.trains:
            return variant
        validated: dict[str, Range] = {}
        for name, one in ranges.items():
            variants = (
                self._variant(start | {name: value}, ranges) for value in one.values_to_validate()
            )
            validated[name] = one.with_validated(tuple(other.value(name) for other in variants))
        return variant.model_copy(update={"ranges": validated})

    @property
    def _key(self) -> str:
        return f"methods.{self.label}"

    @property
    def _own(self) -> MethodKeys:
        return parse_settings(MethodKeys, self.table, self._key, self.file)

    def _ranges(self, schema: type[BaseModel]) -> dict[str, Range]:
        """The ranges of the method's options and of its parts, as `Variant.ranges` names them."""
        given = {key: self.table[key] for key in self.table if key not in MethodKeys.model_fields}
        ranges = find_ranges(given, schema, self._key, self.file)
        for part, kind in PARTS.items():
            merged = self.bases[part] | getattr(self._own, part)
            for name, one in find_ranges(merged, kind, f"{self._key}.{part}", self.file).items():
                if part == "adapt":
                    problem = "a search trains and validates but does not adapt; give one value"
                    raise key_error(self.file, f"adapt.{name}", merged[name], problem)
                ranges[f"{part}.{name}"] = one
        return ranges

    def _variant(self, values: Mapping[str, Any], ranges: Mapping[str, Range]) -> Variant:
        """The variant with these values for its ranges, and defaults for the others."""
        table = {key: value for key, value in self.table.items() if key not in ranges}
        bases = {
            part: next(tables_to_validate(self.bases[part], kind, part, self.file))
            for part, kind in PARTS.items()
        }
        for part in PARTS:
            own = getattr(self._own, part)
            table[part] = {key: own[key] for key in own if f"{part}.{key}" not in ranges}
        for name, value in values.items():
            part, _, key = name.rpartition(".")
            if part:
                table[part][key] = value
            else:
                table[key] = value
        return next(method_variants(self.label, table, bases, self.seeds, self.file))


def _is_required(name: str, schema: type[BaseModel]) -> bool:
    """Whether an option has no default, so that the first trial needs a value for it."""
    field = schema.model_fields.get(name)
    return field is not None and (field.is_required() or field.default is None)
