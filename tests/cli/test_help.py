"""Every command has a help text with an example, which appears quickly."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

import oodml
from oodml.cli import PANELS, app, main

COMMAND = typer.main.get_command(app)


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


LEAVES = sorted(leaves(COMMAND))


def test_the_commands_that_later_work_relies_on() -> None:
    expected = {
        ("demo",), ("embed",), ("evaluate",), ("report",), ("shift",),
        ("splits", "build"), ("splits", "show"), ("study", "run"), ("study", "status"),
    }  # fmt: skip
    assert expected <= set(LEAVES)


def test_the_root_help_shows_no_type_of_flags() -> None:
    assert "<bool>" not in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_help_has_an_example(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    assert "<bool>" not in shown.stdout
    text = " ".join(shown.output.replace("│", " ").split())
    assert f"oodml {' '.join(path)}" in text.split("Example", 1)[-1], text


def test_every_command_has_a_panel() -> None:
    listed = [name for names in PANELS.values() for name in names]
    assert sorted(listed) == sorted({path[0] for path in LEAVES})


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
