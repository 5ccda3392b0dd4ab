"""Every command and every piece of Python in the documentation does what it is shown to do.

Studies train for a moment on few splits, with all their methods. The fast tests have a small
network in place of lite0 and leave out what `SLOW` names; the slow ones do all of it.
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oodml.adaptation import AdaptSettings
from oodml.backbones import lite0, pixels
from oodml.study.spec import shipped
from oodml.study.spec import study_file as file
from tests.docs.commands import NOT_HERE, SLOW, check, filled, found, matched, options, run
from tests.docs.pages import ROOT, Step, mentioned, pages, steps
from tests.docs.places import PLACES, quick

COMPILED = {
    "duckdb.sql": "duckdb is no dependency",
}
"""Python that is compiled, not run, where it holds these words, and why."""

SHOWING = [page for page in pages() if any(step.kind != "toml" for step in steps(page))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, with a cache of its own; studies that are read are short ones."""
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


@pytest.mark.parametrize("page", SHOWING)
def test_what_a_page_shows_works(page: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "backbone", pixels.backbone)
    follow(page, place, is_small=True)


@pytest.mark.slow  # the default network on hundreds of images, processes, ResNet-50
@pytest.mark.parametrize("page", SHOWING)
def test_what_a_page_shows_works_in_full(page: str, place: Path) -> None:
    follow(page, place, is_small=False)


def follow(page: str, folder: Path, is_small: bool) -> None:
    """Do what a page says, from its top to its bottom."""
    assert page in PLACES, f"{page} shows commands: say in tests/docs/places.py what they need"
    names = PLACES[page](folder)
    for step in steps(page):
        if step.kind == "python":
            do_python(step, names, folder, is_small)
        elif step.kind == "command":
            do_command(step, folder, is_small)


def do_command(step: Step, folder: Path, is_small: bool) -> None:
    check(step)
    if step.words[0] != "oodml" or matched(step, NOT_HERE):
        return
    if not (is_small and matched(step, SLOW)):
        run(step, folder, is_small)


def do_python(step: Step, names: dict[str, Any], folder: Path, is_small: bool) -> None:
    code = compile(filled(step.text, folder), step.place, "exec")
    later = is_small and matched(step, SLOW)
    if not later and not any(words in step.text for words in COMPILED):
        exec(code, names)


@pytest.mark.parametrize("page", pages())
def test_toml_is_toml(page: str) -> None:
    for step in steps(page):
        if step.kind == "toml":
            tomllib.loads(step.text)


@pytest.mark.parametrize("page", pages())
def test_commands_in_sentences_exist(page: str) -> None:
    for step in mentioned(page):
        if step.text.startswith("oodml"):
            words = step.text.split()[1:]
            command, rest = found(words, step) if is_whole(words) else (None, [])
            given = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert command is None or given <= {*options(command), "--help"}, str(step)
        else:
            check(step)


def is_whole(words: list[str]) -> bool:
    """Whether words name a command, not a group of commands or the program itself."""
    return bool(words) and words[0] not in ("…", "COMMAND", "--help", "--version")


def test_every_reason_is_of_use() -> None:
    shown = [step for page in pages() for step in steps(page) if step.kind == "command"]
    for rule in (*NOT_HERE, *SLOW):
        assert any(matched(step, {rule: "."}) for step in shown), f"no page shows {rule}"


def test_places_are_of_pages() -> None:
    assert set(PLACES) <= set(pages()), f"pages are looked for in {ROOT}"
