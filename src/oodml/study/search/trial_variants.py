"""The variants of a study with a search: every method once, with what the search may change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from oodml.errors import OodmlError
from oodml.study.spec.ranges import Range, corners, find_ranges
from oodml.study.spec.tables import Table, checked, option_settings
from oodml.study.spec.variants import GIVEN, PARTS, MethodKeys, Variant, method_of, variants_of


def parse_searched_variants(
    methods: Mapping[str, Table], bases: Mapping[str, Table], seeds: tuple[int, ...], file: Path
) -> Iterator[Variant]:
    """The variants of a study file, set to their defaults, and their ranges.

    methods: the table of each label. bases: the study's own tables of `PARTS`. A method that does
    not train has no ranges.
    """
    for part, kind in PARTS.items():
        for table in corners(bases[part], kind, part, file):
            checked(kind, table, part, file)
    for label, table in methods.items():
        yield _Tables(label, table, bases, seeds, file).variant()


@dataclass
class _Tables:
    """What a study file says about one method."""

    label: str
    table: Table
    bases: Mapping[str, Table]
    seeds: tuple[int, ...]
    file: Path

    def variant(self) -> Variant:
        """The method with its defaults and its ranges; every bound and choice is checked."""
        method = method_of(self._own.method or self.label, f"{self.file}: {self._key}")
        options = option_settings(method, GIVEN)
        ranges = self._ranges(options)
        start = {name: one.start() for name, one in ranges.items() if _is_needed(name, options)}
        variant = self._filled(start, ranges)
        if not method.trains:
            return variant
        known: dict[str, Range] = {}
        for name, one in ranges.items():
            given = (self._filled(start | {name: value}, ranges) for value in one.tried())
            known[name] = one.checked_as(tuple(other.value(name) for other in given))
        return variant.model_copy(update={"ranges": known})

    @property
    def _key(self) -> str:
        return f"methods.{self.label}"

    @property
    def _own(self) -> MethodKeys:
        return checked(MethodKeys, self.table, self._key, self.file)

    def _ranges(self, options: type[BaseModel]) -> dict[str, Range]:
        """The ranges of the method's options and of its parts, as `Variant.ranges` names them."""
        given = {key: self.table[key] for key in self.table if key not in MethodKeys.model_fields}
        found = find_ranges(given, options, self._key, self.file)
        for part, kind in PARTS.items():
            merged = self.bases[part] | getattr(self._own, part)
            for name, one in find_ranges(merged, kind, f"{self._key}.{part}", self.file).items():
                if part == "adapt":
                    raise OodmlError(f"{self.file}: adapt.{name}: a search trains and validates, "
                                     "it does not adapt; give one value")  # fmt: skip
                found[f"{part}.{name}"] = one
        return found

    def _filled(self, values: Mapping[str, Any], ranges: Mapping[str, Range]) -> Variant:
        """The variant with these values of its ranges, and defaults for the others."""
        table = {key: value for key, value in self.table.items() if key not in ranges}
        bases = {
            part: next(corners(self.bases[part], kind, part, self.file))
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
        return next(variants_of(self.label, table, bases, self.seeds, self.file))


def _is_needed(name: str, options: type[BaseModel]) -> bool:
    """Whether an option has no default, so that the first trial needs a value for it."""
    return name in options.model_fields and options.model_fields[name].is_required()
