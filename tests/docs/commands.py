"""How a command of the documentation is run, or, where it cannot be run here, checked."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from oodml.cli import app
from tests.docs.pages import ROOT, Step

NOT_HERE = {
    r"^oodml study run paper_\w+ .*--data ": "needs the data set, and a GPU for days",
    r"^oodml data fetch ": "downloads a gigabyte",
    r"--on (slurm\b(?!:local)|ray)": "needs a cluster",
    r"README\.md.*--smoke --out trial": "minutes; docs/tutorials/cluster.md has the same",
    r"^torchrun ": "needs several GPUs; tests/study/test_team.py runs two processes",
}
"""Commands that are only parsed, and why."""

SLOW = {
    r"(README|studies|cluster|own_folder)\.md.* oodml report": "the report's own page does it",
    r"^oodml study run paper_\w+ .*--smoke": "ResNet-50, all methods: minutes",
    r"--workers [2-9]|workers=[2-9]": "starts processes that import everything anew: half a minute",
}
"""Commands that run among the slow tests only, and why."""


def matched(step: Step, rules: dict[str, str]) -> str:
    """The reason of the first rule that fits a command, or ""."""
    texts = (step.text, str(step))
    found = (why for rule, why in rules.items() if any(re.search(rule, one) for one in texts))
    return next(found, "")


def run(step: Step, folder: Path, is_small: bool) -> None:
    """Run a command of oodml's in this process, in the current folder."""
    words = [filled(word, folder) for word in step.words]
    if is_small and words[1] == "adapt":
        words += ["--views", "1"]
    result = CliRunner().invoke(app, words[1:])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{step}\n{result.exception}") from result.exception
    assert result.exit_code == 0, f"{step}\n{result.output}"


def filled(text: str, folder: Path) -> str:
    """Text with RUN, for which a user puts the name of a run: here any that trained."""
    place = re.search(r"([\w/]+)/RUN", text)
    if place is None:
        return text
    files = sorted((folder / place[1]).glob("*/run.json"))
    trained = (file for file in files if json.loads(file.read_text())["method"] != "frozen")
    return text.replace("/RUN", f"/{next(trained).parent.name}")


def check(step: Step) -> None:
    """Whether a command would be accepted: programs, options, names of files and of targets."""
    words = step.words
    if words[0] == "oodml":
        parsed(words[1:], step)
    elif words[0] == "torchrun":
        assert "oodml" in words, f"{step}: runs something else"
        parsed(words[words.index("oodml") + 1 :], step)
    elif words[0] == "python":
        _check_script(words[1:], step)
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"{step}: the Makefile has {targets}"
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
        wanted = re.findall(r"\[([\w,]+)\]", step.text)
        asked = {one for names in wanted for one in names.split(",")}
        assert asked <= set(extras), f"{step}: the extras are {sorted(extras)}"
    else:
        raise AssertionError(f"{step}: nothing checks commands of {words[0]}")


def parsed(words: list[str], step: Step) -> None:
    """Let the command line of oodml read the words, without doing what they say."""
    command, rest = found(words, step)
    if rest == ["--version"]:
        return
    try:
        command.make_context(words[0], rest)
    except Exception as error:
        raise AssertionError(f"{step}: {error}") from error


def found(words: list[str], step: Step) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words after them."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest[:1] != ["--version"]:
        assert rest, f"{step}: names no command"
        assert rest[0] in command.commands, f"{step}: no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    return command, rest


def options(command: Any) -> set[str]:
    """The options that a command has."""
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def _check_script(words: list[str], step: Step) -> None:
    """A script must be there, and have the options that it is given."""
    if words[0] == "-m":
        assert words[1] == "http.server", f"{step}: nothing checks this module"
        return
    script = ROOT / words[0]
    assert script.is_file(), f"{step}: no such script"
    text = script.read_text(encoding="utf-8")
    for word in words[1:]:
        if word.startswith("--") and word != "--help":
            assert f'"{word}"' in text, f"{step}: the script has no option {word}"
