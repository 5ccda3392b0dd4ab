"""Write the generated pages of the documentation: commands, the study file, options of methods.

`python scripts/docs/reference.py docs/reference` makes them from the code, so that they are true.
"""

import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import entries

Commands = Mapping[str, Any]

STUDY = """\
# The study file

Every key of a study's TOML file, its default and what is allowed, from the code of this version.
[Studies](../studies.md) says how a study is run; `oodml study init` writes a first file.

## At the top

{top}

`data`, and `root` in it, are found from the study file's own folder.
"""
CATALOG = """\
# Methods, losses and miners: their options

What a study file may say under `[methods.NAME]`, or `loss_options` and `miner_options` under a
method, with the defaults of this version. [Methods](../methods.md) says what each is for.
"""
TOP = {
    "data": "A data set's name, a folder or a table; or `{name = …, root = …}` with options.",
    "methods": "A list of names, or a table for each, `[methods.NAME]`, with its options. A table "
    "may also hold `method` (where NAME is a label), `model`, `train`, `adapt`, `seeds` and "
    "`few_shot`.",
    "name": "What the study is called; by default the file's name.",
    "seeds": "Every method is trained once for each.",
    "shots": "Labelled images of each test class to adapt to; none without.",
    "episodes": "Draws of support images for each number of shots.",
    "splits": "How splits are built, or `file = …`.",
    "model": "What is trained.",
    "train": "How it is trained.",
    "adapt": "How it is adapted.",
    "search": "How to choose the options that have a range.",
}


def commands_page() -> str:
    """Every command with its arguments and options."""
    from oodml.cli import app

    parts = ["# Commands\n\n`oodml COMMAND --help` says the same in a terminal."]
    for words, command in commands(typer.main.get_command(app)):
        parts.append(_command(words, command))
    return "\n\n".join(parts) + "\n"


def commands(group: Any, words: tuple[str, ...] = ("oodml",)) -> Iterator[tuple[str, Any]]:
    """Every command below a group and the words that call it, sorted."""
    for name, one in sorted(group.commands.items()):
        if hasattr(one, "commands"):
            yield from commands(one, (*words, name))
        else:
            yield " ".join((*words, name)), one


def _command(words: str, command: Any) -> str:
    about, _, example = (command.help or "").partition("Example:")
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    optional = ["[OPTIONS]"] if len(arguments) < len(command.params) else []
    usage = " ".join([words, *map(_shown, arguments), *optional])
    parts = [f"## {words}", about.strip(), f"```text\n{usage}\n```"]
    hints = inspect.signature(command.callback).parameters
    rows = [_parameter(one, hints[one.name]) for one in command.params if one.name in hints]
    parts.append(_table(("", "value", "default", ""), rows))
    if example:
        parts.append(f"Example: {example.strip()}")
    return "\n\n".join(filter(None, parts))


def _shown(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def _parameter(one: Any, hint: inspect.Parameter) -> tuple[str, ...]:
    if one.param_type_name == "argument":
        name = f"`{_shown(one)}`"
    else:
        name = ", ".join(f"`{text}`" for text in (*one.opts, *one.secondary_opts))
    plain = typing.get_args(hint.annotation)[0] if hint.annotation else str
    kind = "" if plain is bool else told_type(plain)
    flag = plain is bool and not one.default
    default = "required" if one.required else "" if flag else _value(one.default)
    return name, kind, default, one.help or ""


def study_page() -> str:
    """Every key of a study file."""
    from oodml.adaptation.settings import AdaptSettings
    from oodml.model import ModelSettings
    from oodml.shift.build import SplitSettings
    from oodml.study.spec.ranges import SearchSettings
    from oodml.study.spec.study_file import _Head
    from oodml.training.settings import TrainSettings

    parts = [STUDY.format(top=_table(HEADS, [_field(*one, TOP) for one in _fields(_Head)]))]
    tables = {
        "splits": SplitSettings, "model": ModelSettings, "train": TrainSettings,
        "adapt": AdaptSettings, "search": SearchSettings,
    }  # fmt: skip
    for name, settings in tables.items():
        parts.append(f"## `[{name}]`")
        parts.append(settings_table(settings))
    return "\n\n".join(parts) + "\n"


HEADS = ("key", "value", "default", "")


def settings_table(settings: type[BaseModel]) -> str:
    """A settings model as a table of its keys."""
    about, described, after = entries(inspect.getdoc(settings) or "", settings.model_fields)
    meanings = {}
    for names, said in described.items():
        own = names.split(", ")
        meanings |= {name: said if name == own[0] else f"See `{own[0]}`." for name in own}
    rows = [_field(name, field, meanings) for name, field in _fields(settings)]
    return "\n\n".join(filter(None, (about, _table(HEADS, rows), after)))


def _fields(settings: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return list(settings.model_fields.items())


def _field(name: str, field: FieldInfo, meanings: Mapping[str, str]) -> tuple[str, ...]:
    default = (
        "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
    )
    limits = [told for one in field.metadata if (told := _limit(one))]
    kind = ", ".join((told_type(field.annotation), *limits))
    return f"`{name}`", kind, default, meanings.get(name, "")


def _limit(metadata: Any) -> str:
    """A bound of pydantic's in words."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    told = [f"{words[key]} {getattr(metadata, key)}" for key in words if hasattr(metadata, key)]
    return ", ".join(told)


def catalog_page() -> str:
    """Every method, loss and miner with its options."""
    from oodml.catalog import find, names

    parts = [CATALOG]
    for kind in ("methods", "losses", "miners"):
        parts.append(f"## {kind.capitalize()}")
        for name in names(kind):
            module = inspect.getmodule(find(kind, name))
            about = (inspect.getdoc(module) or "").split("\n")[0]
            parts.append(f"### {name}\n\n{about}")
            parts.append(_options(find(kind, name)))
    return "\n\n".join(filter(None, parts)) + "\n"


GIVEN = ("sizes", "n_classes", "dim", "generator")
"""Arguments that training gives."""


def _options(thing: Any) -> str:
    options = inspect.signature(thing).parameters.values()
    rows = [
        (f"`{one.name}`", told_type(one.annotation),
         "required" if one.default is one.empty else _value(one.default))
        for one in options if one.name not in GIVEN
    ]  # fmt: skip
    return _table(("option", "value", "default"), rows)


def told_type(annotation: Any) -> str:
    """A type in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value!r}`".replace("'", '"') for value in inner)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(told_type(one) for one in inner if one is not type(None))
    if origin is typing.Annotated:
        limits = [_limit(part) for one in inner[1:] for part in getattr(one, "metadata", [one])]
        return ", ".join(filter(None, (told_type(inner[0]), *limits)))
    if origin in (list, tuple) or getattr(origin, "__name__", "") in ("Sequence", "Mapping"):
        return _several(origin, [one for one in inner if one is not Ellipsis])
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path",
             dict: "table", Any: "table"}  # fmt: skip
    return plain.get(annotation, plain.get(origin, getattr(annotation, "__name__", "any")))


def _several(origin: Any, inner: list[Any]) -> str:
    if "Mapping" in str(origin):
        return "table"
    kinds = list(dict.fromkeys(map(told_type, inner)))
    if len(inner) > 1 and len(kinds) > 1:
        return f"{len(inner)} values"
    plural = {"integer": "integers", "number": "numbers", "path": "paths"}
    return f"list of {plural.get(kinds[0], kinds[0])}"


def _value(value: Any) -> str:
    """A default as a study file would write it."""
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(_value(one).strip("`") for one in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(_cell(one) for one in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


PAGES = {"commands.md": commands_page, "study_file.md": study_page, "catalog.md": catalog_page}


def main() -> None:
    """Write all pages into the folder that is given."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
