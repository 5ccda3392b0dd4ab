"""The documentation site: pages, links, and the reference generated from the code."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from scripts.docs import reference

import oodml
from oodml.adaptation.settings import AdaptSettings
from oodml.cli import app
from oodml.model import ModelTable
from oodml.shift.build import SplitSettings
from oodml.study.spec.ranges import SearchSettings
from oodml.training.settings import TrainSettings
from tests.docs.pages import FENCE, ROOT, pages

DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def test_the_reference_contains_every_public_name() -> None:
    shown = "".join(path.read_text() for path in sorted((DOCS / "api").glob("*.md")))
    listed = re.findall(r"^::: oodml\.(\w+)$", shown, re.MULTILINE)
    assert sorted(listed) == sorted(set(oodml.__all__) - {"__version__"})


def test_the_navigation_lists_every_page_once() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    here = {page.removeprefix("docs/") for page in pages() if page.startswith("docs/")}
    generated = {f"reference/{name}" for name in reference.PAGES}
    assert sorted(pages_of(site["nav"])) == sorted(here | generated)


def test_the_title_of_a_page_is_its_name_in_the_navigation() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    for title, page in titles_of(site["nav"]):
        path = DOCS / page
        assert path.parent.name == "reference" or path.read_text().startswith(f"# {title}\n"), page


def titles_of(nav: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The name and the page of each entry of a navigation."""
    for entry in nav:
        for name, one in entry.items():
            yield from [(name, one)] if isinstance(one, str) else titles_of(one)


def pages_of(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for one in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(one)


@pytest.mark.parametrize("page", pages())
def test_links_are_valid(page: str) -> None:
    text = FENCE.sub("", (ROOT / page).read_text())
    targets = {one or other for one, other in LINK.findall(text)}
    for target in targets - {one for one in targets if "://" in one}:
        path = (ROOT / page).parent / target.partition("#")[0]
        generated = path.name in reference.PAGES and path.parent.name == "reference"
        assert generated or path.exists(), f"{page} links to {target}"
        if page.startswith("docs/"):
            assert DOCS in path.resolve().parents, f"{page}: {target} is not part of the site"


def test_the_command_reference_is_complete() -> None:
    page = reference.commands_page()
    for words, command in reference.commands(typer.main.get_command(app)):
        section = page.partition(f"## {words}\n")[2].partition("\n## ")[0]
        assert f"\n{words}" in section, words
        for option in (name for one in command.params for name in one.opts if "--" in name):
            assert f"`{option}`" in section, f"{words} {option}"
    assert "| `--workers` | integer | `1` |" in page


@pytest.mark.parametrize(
    "settings", [SplitSettings, ModelTable, TrainSettings, AdaptSettings, SearchSettings]
)
def test_every_setting_is_described(settings: Any) -> None:
    table = reference.settings_table(settings)
    for name in settings.model_fields:
        assert f"| `{name}` |" in table
        assert name in (settings.__doc__ or ""), f"the docstring of {settings} lacks {name}"


def test_the_install_page_lists_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = re.findall(r"'\.\[([\w-]+)\]'`", (DOCS / "install.md").read_text())
    for_developers = {"check", "docs", "test"}
    assert sorted(listed) == sorted(set(project["optional-dependencies"]) - for_developers)


def test_settings_as_a_table() -> None:
    row = next(line for line in reference.study_page().splitlines() if "`batch_size`" in line)
    assert row.startswith("| `batch_size` | integer, at least 4 | `112` | ")
    assert row.split(" | ")[3].strip(" |")


def test_the_catalog_lists_options_with_defaults() -> None:
    page = reference.catalog_page()
    section = page.partition("### r_margin\n")[2].partition("###")[0]
    assert "| `probability` | number | `0.4` |" in section
    for name in oodml.names("methods"):
        assert f"### {name}\n" in page


def test_docstrings_are_parsed() -> None:
    text = "What it is.\n\nAttributes:\n    a: one,\n        more.\n    b: two.\n\nSee also."
    about, items = reference.parse_docstring(text)
    assert about == "What it is.\n\nSee also."
    assert items == {"a": "one, more.", "b": "two."}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy."""
    if shutil.which("zensical") is None:
        pytest.skip("needs the extra `docs`")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(
        ROOT / "zensical.toml", folder
    )  # a symbolic link would build the site in the original folder
    for name in ("docs", "scripts", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    generate = [sys.executable, "scripts/docs/reference.py", "docs/reference"]
    subprocess.run(generate, cwd=folder, check=True)
    subprocess.run(["zensical", "build", "--strict", "--clean"], cwd=folder, check=True)
    return folder / "site"


@pytest.mark.slow  # builds the site
def test_the_site_works_offline(site: Path) -> None:
    paths = sorted(site.rglob("*.html"))
    assert len(paths) > len(pages()) - 2  # README and CONTRIBUTING are not pages of the site
    for path in paths:
        text = path.read_text(encoding="utf-8")
        urls = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?(\w+://[^\s\">]+)", text)
        urls += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect)[^>]*https?://[^>]*", text)
        assert not urls, f"{path.name} loads {urls}"


@pytest.mark.slow  # builds the site
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_the_screen_and_are_searchable_from_disk(site: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium (apt install chromium)")
    errors: list[str] = []
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        tab = browser.new_context(viewport={"width": width, "height": 800}, offline=True).new_page()
        tab.on("requestfailed", lambda request: errors.append(f"{request.failure} {request.url}"))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        for path in sorted(set(site.rglob("*.html")) - {site / "404.html"}):  # used by servers only
            tab.goto(path.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, path.name
        tab.goto((site / "index.html").as_uri())
        tab.keyboard.press("/")
        tab.get_by_placeholder("Search").fill("removal progression")
        tab.locator("a[href*='#oodml.removal_progression']").wait_for()
        browser.close()
    # Leaving a page aborts what it was still loading.
    assert [error for error in errors if "ERR_ABORTED" not in error] == []
