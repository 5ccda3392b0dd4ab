"""Run a command of the documentation, or check it if it cannot run here."""

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
    r"^oodml study run (?:shipped:)?paper_\w+ .*--data ": "needs the dataset, and a GPU for days",
    r"^oodml data fetch ": "downloads a gigabyte",
    r"--judgments judged.csv": "needs a person; tests/forecasting/test_target.py answers",
    r"--on (slurm\b(?!:local)|ray)": "needs a cluster",
    r"README\.md.*--smoke --out trial": "takes minutes; docs/tutorials/cluster.md contains it, too",
    r"--model open_clip:": "downloads a model; tests/test_text_queries.py makes one",
    r"^torchrun ": "needs several GPUs; tests/study/workers/test_torchrun.py runs two processes",
}
"""Commands that are only parse, with the reason."""

SLOW = {
    r"(README|studies|cluster|own_folder)\.md.* oodml report": "docs/report.md contains it, too",
    r"^oodml study run (?:shipped:)?paper_\w+ .*--smoke": "ResNet-50, all methods: minutes",
    r"--column style": "seven studies; tests/forecasting/test_trial.py leaves cameras out",
    r"--workers [2-9]|workers=[2-9]": "starts processes, which takes half a minute",
}
"""Commands that only the slow tests run, with the reason."""


def match_rule(step: Step, rules: dict[str, str]) -> str:
    """The reason of the first rule that matches a command, or ""."""
    texts = (step.text, str(step))
    reasons = (why for rule, why in rules.items() if any(re.search(rule, one) for one in texts))
    return next(reasons, "")


def run(step: Step, folder: Path, is_small: bool) -> None:
    """Run an `oodml` command in this process, in the current folder."""
    words = [fill_run(word, folder) for word in step.words]
    if is_small and words[1] == "adapt":
        words += ["--views", "1"]
    result = CliRunner().invoke(app, words[1:])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{step}\n{result.exception}") from result.exception
    assert result.exit_code == 0, f"{step}\n{result.output}"


def fill_run(text: str, folder: Path) -> str:
    """The text with RUN replaced by the name of a run that trained, as a user would."""
    match = re.search(r"([\w/]+)/RUN", text)
    if match is None:
        return text
    files = sorted((folder / match[1]).glob("*/run.json"))
    trained = (file for file in files if json.loads(file.read_text())["trains"])
    return text.replace("/RUN", f"/{next(trained).parent.name}")


def check(step: Step) -> None:
    """Check that a command would be accepted: its program, options, and names of files."""
    words = step.words
    if words[0] == "oodml":
        parse(words[1:], step)
    elif words[0] == "torchrun":
        assert "oodml" in words, f"{step}: runs something else"
        parse(words[words.index("oodml") + 1 :], step)
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
        named = {one for names in wanted for one in names.split(",")}
        assert named <= set(extras), f"{step}: the extras are {sorted(extras)}"
    else:
        raise AssertionError(f"{step}: there is no check for commands of {words[0]}")


def parse(words: list[str], step: Step) -> None:
    """Parse the words with the command line, without running the command."""
    command, rest = find_command(words, step)
    if rest == ["--version"]:
        return
    try:
        command.make_context(words[0], rest)
    except Exception as error:
        raise AssertionError(f"{step}: {error}") from error


def find_command(words: list[str], step: Step) -> tuple[Any, list[str]]:
    """The command named by the first words, and the remaining words."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest[:1] != ["--version"]:
        assert rest, f"{step}: names no command"
        assert rest[0] in command.commands, f"{step}: no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    return command, rest


def options(command: Any) -> set[str]:
    """The options of a command."""
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def _check_script(words: list[str], step: Step) -> None:
    """Check that a script exists and has the given options."""
    if words[0] == "-m":
        assert words[1] == "http.server", f"{step}: there is no check for this module"
        return
    script = ROOT / words[0]
    assert script.is_file(), f"{step}: no such script"
    text = script.read_text(encoding="utf-8")
    for word in words[1:]:
        if word.startswith("--") and word != "--help":
            assert f'"{word}"' in text, f"{step}: the script has no option {word}"
