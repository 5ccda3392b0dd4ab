"""Checking TOML tables. Errors name the file, the key, the given value, and what is allowed."""

import inspect
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from oodml.errors import OodmlError, error_at, unknown

Settings = TypeVar("Settings", bound=BaseModel)
Table = dict[str, Any]
EXPECTED: dict[str | tuple[str, ...], str] = {
    "string_": "a text in quotes",
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    ("list_type", "tuple_type", "set_type"): "a list",
    ("dict_type", "model_type"): "a table",
    "none_required": "nothing",
}
"""What a key accepts, by the start of the type of pydantic's error."""


@dataclass(frozen=True)
class Key:
    """A key of a study file, which errors name: its dotted `name`, "" for the top of the file."""

    file: Path
    name: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def __truediv__(self, part: object) -> "Key":
        return Key(self.file, f"{self.name}.{part}" if self.name else str(part))

    def error(self, given: object, problem: str, allowed: Sequence[str] = ()) -> OodmlError:
        return error_at(self, f"given {given!r}; {problem}", given, allowed)

    def resolve(self, path: str | Path) -> Path:
        """The absolute path of a path in the file, which is relative to the file's folder."""
        return (self.file.parent / Path(path).expanduser()).resolve()

    def resolve_weights(self, settings: Settings) -> Settings:
        """Settings whose key `weights`, if it is a file, has its absolute path."""
        weights = getattr(settings, "weights", None)
        if weights in (None, "none"):
            return settings
        if not (path := self.resolve(weights)).is_file():
            problem = f'{path} does not exist; expected a file of weights or "none"'
            raise self.error(weights, problem)
        return settings.model_copy(update={"weights": str(path)})


def parse_settings(kind: type[Settings], table: object, key: Key) -> Settings:
    if not isinstance(table, dict):
        raise key.error(table, "expected a table")
    _refuse_non_finite(table, key)
    try:
        return kind.model_validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        _settings_problems(error, kind, table, key).raise_all()
        raise


def _refuse_non_finite(value: object, key: Key) -> None:
    """Refuse nan everywhere, and inf except as an end of the splits' range of shifts."""
    is_end = key.name.startswith("splits.ends")
    if isinstance(value, float) and not (math.isfinite(value) or (is_end and math.isinf(value))):
        raise key.error(value, "must be a finite number")
    items = value.items() if isinstance(value, dict) else ()
    for name, inner in enumerate(value) if isinstance(value, list) else items:
        _refuse_non_finite(inner, key / name)


class Problems(list[OodmlError]):
    """Errors of `with` blocks, to raise as one."""

    def __enter__(self) -> "Problems":
        return self

    def __exit__(self, _: object, error: object, __: object) -> bool:
        self.extend([error] if isinstance(error, OodmlError) else [])
        return isinstance(error, OodmlError)

    def raise_all(self) -> None:
        """Raise one error with the messages of all; its attributes are those of the first."""
        if self:
            first, text = self[0], "\n".join(dict.fromkeys(map(str, self)))
            raise OodmlError(text, first.location, first.given, first.allowed) from first


def _settings_problems(
    error: ValidationError, kind: type[BaseModel], table: object, key: Key
) -> Problems:
    """An error for each key of the table that is wrong, unknown ones first."""
    groups: dict[str, list[ErrorDetails]] = {}
    errors = error.errors(include_url=False)
    for one in sorted(errors, key=lambda one: one["type"] != "extra_forbidden"):
        groups.setdefault([*_path_in(table, one["loc"]), str(one["loc"][-1])][0], []).append(one)
    return Problems(_settings_error(own, kind, table, key) for own in groups.values())


def _settings_error(
    errors: list[ErrorDetails], kind: type[BaseModel], table: object, key: Key
) -> OodmlError:
    """The error of the first unknown key, or else of the most deeply nested wrong value."""
    paths = [_path_in(table, one["loc"]) for one in errors]
    deepest = errors[paths.index(max(paths, key=len))]
    first = next((one for one in errors if one["type"] == "extra_forbidden"), deepest)
    given = first["input"]
    if first["type"] == "missing":
        last = first["loc"][-1]
        for part in (*_path_in(table, first["loc"][:-1]), last):
            key /= part
        field = kind.model_fields.get(str(last))
        example = f", such as {field.examples[0]}" if field and field.examples else ""
        what = f"this {'value' if isinstance(last, int) else 'key'} is required{example}"
        return error_at(key, what)
    path = _path_in(table, first["loc"])
    for part in path:
        key /= part
    if first["type"] == "extra_forbidden":
        return unknown("key", path[-1], kind.model_fields, str(key))
    same_key = [one for one, other in zip(errors, paths, strict=True) if other == path]
    texts = [one["ctx"]["expected"] for one in same_key if one["type"] == "literal_error"]
    allowed = [choice for text in texts for choice in re.findall(r"'([^']*)'", text)]
    if first["type"] == "literal_error":
        return unknown("value", given, allowed, str(key))
    problems = dict.fromkeys(map(_describe_expected, same_key))
    return key.error(given, " or ".join(problems).replace(" or expected ", " or "), allowed)


def _describe_expected(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        return f"expected {error['ctx']['expected']}"
    kind = next((words for name, words in EXPECTED.items() if error["type"].startswith(name)), None)
    message = error["msg"].replace("Input should be", "must be").replace("Value error, ", "")
    message = message.replace("greater than or equal to", "at least")
    return f"expected {kind}" if kind else message[:1].lower() + message[1:]


def _path_in(table: object, parts: Sequence[int | str]) -> list[str]:
    """The parts of pydantic's location that are keys of the table, without branches of unions."""
    path, inner = [], cast(Any, table)
    for part in parts:
        is_item = isinstance(inner, list) and isinstance(part, int) and part < len(inner)
        if is_item or (isinstance(inner, dict) and part in inner):
            inner = inner[part]
            path.append(str(part))
    return path


def option_schema(thing: Any, skip: Sequence[str]) -> type[BaseModel]:
    """A settings class with the options in the signature of `thing`, except those in `skip`."""
    function = thing.__init__ if inspect.isclass(thing) else thing
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    extra: typing.Literal["allow", "forbid"] = "forbid"
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = "allow"
        elif name not in skip:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model("Options", __config__=config, **fields)


def accepted_types(name: str, kind: type[BaseModel]) -> set[type]:
    """The types that a field accepts; empty if it accepts anything or is unknown."""
    field = kind.model_fields.get(name)
    accepted = set() if field is None else set(_types(field.annotation))
    return set() if Any in accepted else accepted - {type(None)}


def _types(annotation: Any) -> Iterator[type]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        yield from (type(value) for value in typing.get_args(annotation))
    elif origin in (typing.Union, types.UnionType, Annotated):
        for part in typing.get_args(annotation):
            yield from _types(part)
    elif isinstance(origin or annotation, type):
        yield origin or annotation
