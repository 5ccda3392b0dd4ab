"""Checking TOML tables. Errors name the file, the key, the given value, and what is allowed."""

import inspect
import itertools
import json
import math
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from oodml.errors import OodmlError, unknown

Settings = TypeVar("Settings", bound=BaseModel)
Table = dict[str, Any]


def parse_settings(kind: type[Settings], table: object, key: str, file: Path) -> Settings:
    """Validate the table at `key` of a file.

    Types are strict: `"3"` is not a number. A whole number may stand for a real number.

    Args:
        kind: the settings class.
        table: the table as read from the file.
        key: the dotted key of the table, "" for the top of the file.
        file: the file that contains the table.

    Raises:
        OodmlError: naming the dotted key of the first wrong value.
    """
    try:
        text = json.dumps(require_table(table, key, file), default=str)
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _settings_error(error, kind, key, file) from None


def resolve_path(path: str | Path, file: Path) -> Path:
    """The absolute path of a path in a file, which is relative to the file's folder."""
    return (file.parent / Path(path).expanduser()).resolve()


def require_table(value: object, key: str, file: Path) -> Table:
    """The value if it is a table.

    Raises:
        OodmlError: if it is not.
    """
    if not isinstance(value, dict):
        raise key_error(file, key, value, "expected a table")
    return value


def key_error(
    file: Path, key: str, given: object, problem: str, allowed: Sequence[str] = ()
) -> OodmlError:
    """The error for a wrong value in a study file."""
    location = f"{file}: {key}"
    return OodmlError(
        f"{location}: given {given!r}; {problem}", location=location, given=given, allowed=allowed
    )


def _settings_error(
    error: ValidationError, kind: type[BaseModel], key: str, file: Path
) -> OodmlError:
    """The first of pydantic's errors; unknown keys come before missing ones."""
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    names = [str(part) for part in first["loc"] if not _is_union_branch(part, kind)]
    parts = [key, *names] if key else names
    dotted = ".".join(parts)
    if first["type"] == "extra_forbidden":
        return unknown("key", parts[-1], kind.model_fields, f"{file}: {dotted}")
    if first["type"] == "literal_error" and str(first["loc"][0]) in kind.model_fields:
        field = kind.model_fields[str(first["loc"][0])]
        return unknown("value", first["input"], _choices(field.annotation), f"{file}: {dotted}")
    if first["type"] == "missing":
        location = f"{file}: {dotted}"
        return OodmlError(f"{location}: this key is required", location=location)
    message = first["msg"][:1].lower() + first["msg"][1:]
    return key_error(file, dotted, first["input"], message)


def _is_union_branch(part: int | str, kind: type[BaseModel]) -> bool:
    """Whether pydantic added a part of a key to name a branch of a union, such as "int"."""
    return isinstance(part, str) and part not in kind.model_fields and not part.isidentifier()


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
    """Every combination of the values that keys list where one value is expected.

    Yields:
        The table with one value per key, and the chosen values alone.

    Raises:
        OodmlError: if a list is empty or contains a value twice.
    """
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
    repeated = [value for index, value in enumerate(values) if _contains(values[:index], value)]
    if repeated:
        raise key_error(file, key, values, f"{repeated[0]!r} is listed twice; list it once")


def _contains(values: Sequence[Any], value: Any) -> bool:
    """Whether a value is in a list; True is not 1 here, and nan equals itself."""
    return any(
        (isinstance(other, bool) == isinstance(value, bool) and other == value)
        or (_is_nan(other) and _is_nan(value))
        for other in values
    )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def lists_values(name: str, value: object, kind: type[BaseModel]) -> bool:
    """Whether a key has a list of values where its field takes a single value."""
    field = kind.model_fields.get(name)
    return isinstance(value, list) and field is not None and not _accepts_list(field.annotation)


def _accepts_list(annotation: Any) -> bool:
    if annotation is Any:
        return True
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts_list(part) for part in typing.get_args(annotation))
    if origin is Annotated:
        return _accepts_list(typing.get_args(annotation)[0])
    kind = origin or annotation
    return inspect.isclass(kind) and issubclass(kind, Sequence | set) and kind is not str


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
