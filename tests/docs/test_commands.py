"""All commands and Python code of the documentation run.

Studies run all their methods for one epoch on few splits. The fast tests replace the
networks by raw pixels and skip the commands in `SLOW`; the slow tests run everything.
"""

import importlib.util
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oodml.adaptation import AdaptSettings
from oodml.backbones import lite0, lite1, lite2, pixels
from oodml.study.spec import shipped
from oodml.study.spec import study_file as file
from tests.docs.commands import (
    NOT_HERE,
    SLOW,
    check,
    fill_run,
    find_command,
    match_rule,
    options,
    run,
)
from tests.docs.pages import ROOT, Step, mentioned, pages, steps
from tests.docs.requirements import REQUIREMENTS, quick

COMPILED = {
    "duckdb.sql": "duckdb is not a dependency",
}
"""Python code containing these words is only compiled, with the reason."""
for words in ("from sentence_transformers", "from oml", "import mteb"):
    if importlib.util.find_spec(words.split()[1]) is None:
        COMPILED[words] = "it is not installed"

PAGES_WITH_CODE = [page for page in pages() if any(step.kind != "toml" for step in steps(page))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder with its own cache. Studies read in it are shortened."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(AdaptSettings, "steps", lambda *_: 2)
    for module, name in ((file, "read_study"), (shipped, "read_study"), (shipped, "parse_study")):
        read = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, read=read: quick(read(*given)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_code_of_a_page_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for network in (lite0, lite1, lite2):
        monkeypatch.setattr(network, "backbone", pixels.backbone)
    follow(page, folder, is_small=True)


@pytest.mark.slow  # the default network on hundreds of images, processes, ResNet-50
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_all_code_of_a_page_runs(page: str, folder: Path) -> None:
    follow(page, folder, is_small=False)


def follow(page: str, folder: Path, is_small: bool) -> None:
    """Run the code of a page from top to bottom."""
    assert page in REQUIREMENTS, f"{page}: add what its commands need to tests/docs/requirements.py"
    names = REQUIREMENTS[page](folder)
    for step in steps(page):
        if step.kind == "python":
            run_python(step, names, folder, is_small)
        elif step.kind == "command":
            run_command(step, folder, is_small)


def run_command(step: Step, folder: Path, is_small: bool) -> None:
    check(step)
    if step.words[0] != "oodml" or match_rule(step, NOT_HERE):
        return
    if not (is_small and match_rule(step, SLOW)):
        run(step, folder, is_small)


def run_python(step: Step, names: dict[str, Any], folder: Path, is_small: bool) -> None:
    code = compile(fill_run(step.text, folder), step.location, "exec")
    skipped = is_small and match_rule(step, SLOW)
    if not skipped and not any(words in step.text for words in COMPILED):
        exec(code, names)


@pytest.mark.parametrize("page", pages())
def test_toml_is_valid(page: str) -> None:
    for step in steps(page):
        if step.kind == "toml":
            tomllib.loads(step.text)


@pytest.mark.parametrize("page", pages())
def test_commands_in_sentences_exist(page: str) -> None:
    for step in mentioned(page):
        if step.text.startswith("oodml"):
            words = step.text.split()[1:]
            command, rest = find_command(words, step) if is_whole(words) else (None, [])
            used = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert command is None or used <= {*options(command), "--help"}, str(step)
        else:
            check(step)


def is_whole(words: list[str]) -> bool:
    """Whether the words name a command rather than a group of commands or the program."""
    return bool(words) and words[0] not in ("…", "COMMAND", "--help", "--version")


def test_every_rule_is_used() -> None:
    commands = [step for page in pages() for step in steps(page) if step.kind == "command"]
    for rule in (*NOT_HERE, *SLOW):
        assert any(match_rule(step, {rule: "."}) for step in commands), f"no page contains {rule}"


def test_places_are_of_pages() -> None:
    assert set(REQUIREMENTS) <= set(pages()), f"pages are looked for in {ROOT}"
