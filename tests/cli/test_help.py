"""The commands use one vocabulary, and their help appears quickly."""

import inspect
import re
import subprocess
import sys
import typing
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import oodml
from oodml.cli import PANELS, app, main

COMMAND: Any = typer.main.get_command(app)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in getattr(command, "commands", {}):
        child = command.get_command(typer.Context(command), name)
        if hasattr(child, "commands"):
            yield from leaves(child, (*path, name))
        else:
            yield (*path, name), child


LEAVES = dict(sorted(leaves(COMMAND)))
OPTIONS = [
    (" ".join(path), one)
    for path, command in LEAVES.items()
    for one in command.params
    if one.param_type_name == "option" and one.name != "help"
]


def test_the_commands_that_later_work_relies_on() -> None:
    expected = {
        ("demo",), ("embed",), ("evaluate",), ("report",), ("shift",),
        ("splits", "build"), ("splits", "show"), ("study", "run"), ("study", "status"),
    }  # fmt: skip
    assert expected <= set(LEAVES)


def test_twenty_commands_in_five_panels() -> None:
    listed = [name for names in PANELS.values() for name in names]
    assert sorted(listed) == sorted({path[0] for path in LEAVES})
    assert len(PANELS) == 5
    assert len(listed) <= 20


PARAMETERS = [
    (" ".join(path), one) for path, command in LEAVES.items() for one in command.params
    if one.name != "help"
]  # fmt: skip
OTHER_NOUNS = {
    "--out": "a file or a folder, as the command writes",
    "A": "`shift` compares images, too",
    "B": "`shift` compares images, too",
}
"""Names that mean different things in different commands, with the reason."""


def test_a_parameter_of_the_same_name_is_the_same_thing_everywhere() -> None:
    """It has one noun (its help before details and the default), one type, and one metavar."""
    meanings: dict[str, set[Any]] = defaultdict(set)
    for path, one in PARAMETERS:
        hint = inspect.signature(LEAVES[tuple(path.split())].callback).parameters[one.name]
        name = one.opts[0] if one.param_type_name == "option" else one.metavar or one.name.upper()
        meanings[name].add((noun(one.help), plain_type(hint.annotation)))
    different = {name: nouns for name, nouns in meanings.items() if len(nouns) > 1}
    assert different.keys() == OTHER_NOUNS.keys(), different
    outs = {noun(one.help).split()[0] for _, one in OPTIONS if one.opts[0] == "--out"}
    assert outs == {"File", "Folder"}


def noun(text: str | None) -> str:
    return re.split(r"[:;(]", text or "")[0].strip(" .")


def plain_type(hint: Any) -> Any:
    """The type of a value, without None and list."""
    parts = [one for one in typing.get_args(hint) if one is not type(None)]
    return plain_type(parts[0]) if parts else hint


def test_every_optional_value_shows_what_happens_without_it() -> None:
    silent = [
        (path, one.opts[0])
        for path, one in OPTIONS
        if not one.required and not one.is_flag and one.default is None
        if not re.search(r"default", one.help or "")
    ]
    assert silent == []


def test_long_commands_are_divided_into_panels() -> None:
    for path, command in LEAVES.items():
        panels = {one.rich_help_panel for name, one in OPTIONS if name == " ".join(path)}
        assert len(command.params) <= 12 or len(panels) > 1, path


def test_groups_with_more_than_five_commands_are_divided_into_panels() -> None:
    for name, group in COMMAND.commands.items():
        panels = [one.rich_help_panel for one in getattr(group, "commands", {}).values()]
        assert len(panels) <= 5 or (None not in panels and len(set(panels)) > 1), name


def test_the_root_help_shows_no_type_of_flags() -> None:
    assert "<bool>" not in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_help_has_an_example(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    assert "<bool>" not in shown.stdout
    text = " ".join(shown.output.replace("│", " ").split())
    assert f"oodml {' '.join(path)}" in text.split("Example", 1)[-1], text
    about = LEAVES[path].callback.__doc__
    assert re.search(r"\n\n    Example: ", about), "a paragraph of its own"


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == oodml.__version__


def test_bad_input_ends_with_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["oodml", "evaluate", "no_such.npz"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("oodml: ")
    assert "no_such.npz" in shown
    assert "Traceback" not in shown


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['oodml', '--help']\n"
        "from oodml.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'timm') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("[]")
