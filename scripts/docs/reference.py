"""Generate the reference pages: commands, the study file, and the options of methods.

Run `python scripts/docs/reference.py docs/reference`. The pages come from the code.
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

Commands = Mapping[str, Any]

STUDY = """\
# The study file

All keys of a study's TOML file, with their defaults and allowed values.
[Studies](../studies.md) explains how to run a study; `oodml study init` creates a first file.

## At the top

{top}

`data`, and `root` in it, are relative to the study file's folder.
"""
CATALOG = """\
# Options of methods, losses, and miners

The keys allowed under `[methods.NAME]` in a study file, and under a method's `loss_options` and
`miner_options`, with their defaults. [Methods](../methods.md) describes each method.
"""
TOP = {
    "data": "A dataset's name, a folder, or a table; or `{name = …, root = …}` with options.",
    "methods": "A list of names, or one table `[methods.NAME]` per method with its options. A "
    "table can also contain `method` (if NAME is a label), `model`, `train`, `adapt`, `seeds`, and "
    "`few_shot`.",
    "name": "The study's name; the file's name by default.",
    "seeds": "Every method is trained once per seed.",
    "shots": "Labeled images per test class for adaptation; none by default.",
    "episodes": "Random support sets for each number of shots.",
    "splits": "How to build the splits, or `file = …`.",
    "model": "The model to train.",
    "train": "The settings of training.",
    "adapt": "The settings of few-shot adaptation.",
    "search": "The settings of the hyperparameter search.",
}


def parse_docstring(docstring: str) -> tuple[str, dict[str, str]]:
    """Parse a Google-style docstring.

    Returns:
        The text outside the section "Args:" or "Attributes:", and the description of each name
        in the section; several names may share one, as in "alpha, delta: sharpness and margin".
    """
    text: list[str] = []
    items: dict[str, str] = {}
    names: list[str] = []
    in_section = False
    for line in docstring.splitlines():
        if line in ("Args:", "Attributes:"):
            in_section = True
        elif in_section and line.startswith("        "):
            items |= {name: f"{items[name]} {line.strip()}" for name in names}
        elif in_section and line.startswith("    "):
            described, _, meaning = line.strip().partition(": ")
            names = described.split(", ")
            items |= dict.fromkeys(names, meaning)
        elif line or not in_section:
            in_section = False
            text.append(line)
    return "\n".join(text).strip(), items


def commands_page() -> str:
    """All commands with their arguments and options."""
    from oodml.cli import app

    parts = ["# Commands\n\n`oodml COMMAND --help` prints the same information."]
    for words, command in commands(typer.main.get_command(app)):
        parts.append(_command(words, command))
    return "\n\n".join(parts) + "\n"


def commands(group: Any, words: tuple[str, ...] = ("oodml",)) -> Iterator[tuple[str, Any]]:
    """All commands of a group, sorted, with the words that call them."""
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
    kind = "" if plain is bool else format_type(plain)
    flag = plain is bool and not one.default
    default = "required" if one.required else "" if flag else _value(one.default)
    return name, kind, default, one.help or ""


def study_page() -> str:
    """All keys of a study file."""
    from oodml.adaptation.settings import AdaptSettings
    from oodml.model import ModelTable
    from oodml.shift.build import SplitSettings
    from oodml.study.spec.ranges import SearchSettings
    from oodml.study.spec.study_file import StudyKeys
    from oodml.training.settings import TrainSettings

    parts = [STUDY.format(top=_table(HEADS, [_field(*one, TOP) for one in _fields(StudyKeys)]))]
    tables = {
        "splits": SplitSettings, "model": ModelTable, "train": TrainSettings,
        "adapt": AdaptSettings, "search": SearchSettings,
    }  # fmt: skip
    for name, settings in tables.items():
        parts.append(f"## `[{name}]`")
        parts.append(settings_table(settings))
    return "\n\n".join(parts) + "\n"


HEADS = ("key", "value", "default", "")


def settings_table(settings: type[BaseModel]) -> str:
    """A table of the keys of a settings class."""
    about, meanings = parse_docstring(inspect.getdoc(settings) or "")
    rows = [_field(name, field, meanings) for name, field in _fields(settings)]
    return "\n\n".join((about, _table(HEADS, rows)))


def _fields(settings: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return list(settings.model_fields.items())


def _field(name: str, field: FieldInfo, meanings: Mapping[str, str]) -> tuple[str, ...]:
    default = (
        "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
    )
    limits = [limit for one in field.metadata if (limit := _limit(one))]
    kind = ", ".join((format_type(field.annotation), *limits))
    return f"`{name}`", kind, default, meanings.get(name, "")


def _limit(metadata: Any) -> str:
    """A pydantic bound as text."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(
        f"{words[key]} {getattr(metadata, key)}" for key in words if hasattr(metadata, key)
    )


def catalog_page() -> str:
    """All methods, losses, and miners with their options."""
    from oodml.catalog import get_class, names

    parts = [CATALOG]
    for kind in ("methods", "losses", "miners"):
        parts.append(f"## {kind.capitalize()}")
        for name in names(kind):
            module = inspect.getmodule(get_class(kind, name))
            about = (inspect.getdoc(module) or "").split("\n")[0]
            parts.append(f"### {name}\n\n{about}")
            parts.append(_options(get_class(kind, name)))
    return "\n\n".join(filter(None, parts)) + "\n"


GIVEN = ("sizes", "n_classes", "dim", "generator")
"""Arguments that the training loop passes."""


def _options(thing: Any) -> str:
    options = inspect.signature(thing).parameters.values()
    rows = [
        (f"`{one.name}`", format_type(one.annotation),
         "required" if one.default is one.empty else _value(one.default))
        for one in options if one.name not in GIVEN
    ]  # fmt: skip
    return _table(("option", "value", "default"), rows)


def format_type(annotation: Any) -> str:
    """A type as text."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value!r}`".replace("'", '"') for value in inner)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(format_type(one) for one in inner if one is not type(None))
    if origin is typing.Annotated:
        limits = [_limit(part) for one in inner[1:] for part in getattr(one, "metadata", [one])]
        return ", ".join(filter(None, (format_type(inner[0]), *limits)))
    if origin in (list, tuple) or getattr(origin, "__name__", "") in ("Sequence", "Mapping"):
        return _several(origin, [one for one in inner if one is not Ellipsis])
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path",
             dict: "table", Any: "table"}  # fmt: skip
    return plain.get(annotation, plain.get(origin, getattr(annotation, "__name__", "any")))


def _several(origin: Any, inner: list[Any]) -> str:
    if "Mapping" in str(origin):
        return "table"
    kinds = list(dict.fromkeys(map(format_type, inner)))
    if len(inner) > 1 and len(kinds) > 1:
        return f"{len(inner)} values"
    plural = {"integer": "integers", "number": "numbers", "path": "paths"}
    return f"list of {plural.get(kinds[0], kinds[0])}"


def _value(value: Any) -> str:
    """A default in TOML notation."""
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
    """Write all pages to the folder given as the first argument."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
