"""Checking TOML tables: every complaint names file, key, what was given, and what is allowed."""

import inspect
import itertools
import json
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from oodml.errors import OodmlError, unknown

Settings = TypeVar("Settings", bound=BaseModel)
Table = dict[str, Any]


def checked(kind: type[Settings], table: object, key: str, file: Path) -> Settings:
    """The table at `key` of a file as settings; `OodmlError` with the dotted key if it is wrong.

    Types are taken strictly: `"3"` is no number. Only a whole number may stand for a real one.
    """
    try:
        text = json.dumps(as_table(table, key, file), default=str)
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise told(error, kind, key, file) from None


def beside(path: str | Path, file: Path) -> Path:
    """A path that a file names, relative to the file's folder."""
    return (file.parent / Path(path).expanduser()).resolve()


def as_table(value: object, key: str, file: Path) -> Table:
    """The value if it is a table, else an error."""
    if not isinstance(value, dict):
        raise OodmlError(f"{file}: {key}: given {value!r}; a table is expected")
    return value


def told(error: ValidationError, kind: type[BaseModel], key: str, file: Path) -> OodmlError:
    """The first complaint of pydantic in this package's words; wrong keys before missing ones."""
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    parts = [key, *map(str, first["loc"])] if key else [*map(str, first["loc"])]
    where = f"{file}: {'.'.join(parts)}"
    if first["type"] == "extra_forbidden":
        return unknown("key", parts[-1], kind.model_fields, where)
    if first["type"] == "literal_error":
        field = kind.model_fields[str(first["loc"][0])]
        return unknown("value", first["input"], _choices(field.annotation), where)
    if first["type"] == "missing":
        return OodmlError(f"{where}: this key is needed")
    return OodmlError(f"{where}: given {first['input']!r}; {_lowered(first['msg'])}")


def option_settings(thing: Any, skip: Sequence[str]) -> type[BaseModel]:
    """A settings class made of the options in the signature of `thing`, but for those in `skip`."""
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


def combinations(table: Table, kind: type[BaseModel]) -> Iterator[tuple[Table, Table]]:
    """Every combination of the values that a key lists where one value is expected.

    Gives the table with one value a key, and the chosen values alone.
    """
    listed = {key: value for key, value in table.items() if is_listed(key, value, kind)}
    for values in itertools.product(*listed.values()):
        chosen = dict(zip(listed, values, strict=True))
        yield table | chosen, chosen


def is_listed(key: str, value: object, kind: type[BaseModel]) -> bool:
    field = kind.model_fields.get(key)
    return isinstance(value, list) and field is not None and not _takes_list(field.annotation)


def _takes_list(annotation: Any) -> bool:
    if annotation is Any:
        return True
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_takes_list(part) for part in typing.get_args(annotation))
    if origin is Annotated:
        return _takes_list(typing.get_args(annotation)[0])
    kind = origin or annotation
    return inspect.isclass(kind) and issubclass(kind, Sequence | set) and kind is not str


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
