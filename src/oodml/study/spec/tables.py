"""Checking TOML tables. Errors name the file, the key, the given value, and what is allowed."""

import inspect
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
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


def parse_settings(kind: type[Settings], table: object, key: str, file: Path) -> Settings:
    """Validate the table at the dotted `key` of a file, "" for its top.

    Types are strict: `"3"` is not a number. A whole number may stand for a real number.
    """
    if not isinstance(table, dict):
        raise key_error(file, key, table, "expected a table")
    _refuse_non_finite(table, key, file)
    try:
        text = json.dumps(table, default=str)
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _settings_error(error, kind, table, key, file) from None


def resolve_path(path: str | Path, file: Path) -> Path:
    """The absolute path of a path in a file, which is relative to the file's folder."""
    return (file.parent / Path(path).expanduser()).resolve()


def key_error(
    file: Path, key: str, given: object, problem: str, allowed: Sequence[str] = ()
) -> OodmlError:
    location = f"{file}: {key}"
    return error_at(location, f"given {given!r}; {problem}", given, allowed)


def _refuse_non_finite(value: object, key: str, file: Path) -> None:
    """Refuse nan everywhere, and inf except as an end of the splits' range of shifts."""
    allowed = math.isinf if key.startswith("splits.ends") else math.isfinite
    if isinstance(value, float) and not (math.isfinite(value) or allowed(value)):
        raise key_error(file, key, value, "must be a finite number")
    inner_values = value if isinstance(value, list) else ()
    items = value.items() if isinstance(value, dict) else enumerate(inner_values)
    for name, inner in items:
        _refuse_non_finite(inner, f"{key}.{name}" if key else str(name), file)


def _settings_error(
    error: ValidationError, kind: type[BaseModel], table: object, key: str, file: Path
) -> OodmlError:
    """The error of the first unknown key, or else of the most deeply nested wrong value."""
    errors = error.errors(include_url=False)
    first = next(
        (one for one in errors if one["type"] == "extra_forbidden"),
        max(errors, key=lambda one: len(_path_in(table, one["loc"]))),
    )
    missing, last = first["type"] == "missing", first["loc"][-1]
    path = _path_in(table, first["loc"])
    same_key = [one for one in errors if _path_in(table, one["loc"]) == path]
    names = [*_path_in(table, first["loc"][:-1]), str(last)] if missing else path
    parts = [*([key] if key else []), *names]
    location = f"{file}: {'.'.join(parts)}"
    if missing:
        what = "value" if isinstance(last, int) else "key"
        return error_at(location, f"this {what} is required")
    if first["type"] == "extra_forbidden":
        return unknown("key", parts[-1], kind.model_fields, location)
    texts = [one["ctx"]["expected"] for one in same_key if one["type"] == "literal_error"]
    allowed = [choice for text in texts for choice in re.findall(r"'([^']*)'", text)]
    if first["type"] == "literal_error":
        return unknown("value", first["input"], allowed, location)
    problems = dict.fromkeys(map(_describe_expected, same_key))
    problem = " or ".join(problems).replace(" or expected ", " or ")
    return key_error(file, ".".join(parts), first["input"], problem, allowed)


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


def combinations(
    table: Table, kind: type[BaseModel], key: str, file: Path
) -> Iterator[tuple[Table, Table]]:
    """Every combination of the values that keys list where one value is expected."""
    listed = {name: value for name, value in table.items() if lists_values(name, value, kind)}
    for name, values in listed.items():
        check_listed(values, f"{key}.{name}" if key else name, file)
    for values in itertools.product(*listed.values()):
        chosen = dict(zip(listed, values, strict=True))
        yield table | chosen, chosen


def check_listed(values: Sequence[Any], key: str, file: Path) -> None:
    """Refuse an empty list of values and a value that is listed twice, such as 1e-3 and 0.001."""
    if not values:
        raise key_error(file, key, values, "at least one value is required")
    for first, second in itertools.combinations(values, 2):  # True is not 1 here
        if first == second and isinstance(first, bool) == isinstance(second, bool):
            raise key_error(file, key, values, f"{second!r} is listed twice; list it once")


def lists_values(name: str, value: object, kind: type[BaseModel]) -> bool:
    """Whether a key has a list of values where its field takes a single value."""
    accepted = accepted_types(name, kind)
    lists = [one for one in accepted if issubclass(one, Sequence | set) and one is not str]
    return isinstance(value, list) and bool(accepted) and not lists


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
