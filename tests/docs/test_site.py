"""The site holds together: its pages, links, references and what is made from the code."""

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
from scripts.docs import docstrings, reference

import oodml
from oodml.adaptation.settings import AdaptSettings
from oodml.cli import app
from oodml.model import ModelSettings
from oodml.shift.build import SplitSettings
from oodml.study.spec.ranges import SearchSettings
from oodml.training.settings import TrainSettings
from tests.docs.pages import FENCE, ROOT, pages

DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def test_every_public_name_has_its_place_in_the_reference() -> None:
    shown = "".join(path.read_text() for path in sorted((DOCS / "api").glob("*.md")))
    listed = re.findall(r"^::: oodml\.(\w+)$", shown, re.MULTILINE)
    assert sorted(listed) == sorted(set(oodml.__all__) - {"__version__"})


def test_the_navigation_names_every_page_once() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    here = {page.removeprefix("docs/") for page in pages() if page.startswith("docs/")}
    made = {f"reference/{name}" for name in reference.PAGES}
    assert sorted(leaves(site["nav"])) == sorted(here | made)


def leaves(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for one in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(one)


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    text = FENCE.sub("", (ROOT / page).read_text())
    targets = {one or other for one, other in LINK.findall(text)}
    for target in targets - {one for one in targets if "://" in one}:
        path = (ROOT / page).parent / target.partition("#")[0]
        made = path.name in reference.PAGES and path.parent.name == "reference"
        assert made or path.exists(), f"{page} links to {target}"
        if page.startswith("docs/"):
            assert DOCS in path.resolve().parents, f"{page}: {target} is no part of the site"


def test_the_reference_of_commands_has_all_of_them() -> None:
    page = reference.commands_page()
    for words, command in reference.commands(typer.main.get_command(app)):
        section = page.partition(f"## {words}\n")[2].partition("\n## ")[0]
        assert f"\n{words}" in section, words
        for option in (name for one in command.params for name in one.opts if "--" in name):
            assert f"`{option}`" in section, f"{words} {option}"
    assert "| `--workers` | integer | `1` |" in page


@pytest.mark.parametrize(
    "settings", [SplitSettings, ModelSettings, TrainSettings, AdaptSettings, SearchSettings]
)
def test_every_setting_is_described(settings: Any) -> None:
    table = reference.settings_table(settings)
    for name in settings.model_fields:
        assert f"| `{name}` |" in table
        assert name in (settings.__doc__ or ""), f"the docstring of {settings} lacks {name}"


def test_install_names_every_extra_for_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = re.findall(r"`pip install '\.\[(\w+)\]'`", (DOCS / "install.md").read_text())
    for_developers = {"check", "docs", "test"}
    assert sorted(listed) == sorted(set(project["optional-dependencies"]) - for_developers)


def test_settings_as_a_table() -> None:
    row = next(line for line in reference.study_page().splitlines() if "`batch_size`" in line)
    assert row == (
        "| `batch_size` | integer, at least 4 | `112` | images a batch, `per_class` of each of "
        "batch_size / per_class classes. |"
    )


def test_the_catalog_lists_options_with_defaults() -> None:
    page = reference.catalog_page()
    section = page.partition("### r_margin\n")[2].partition("###")[0]
    assert "| `probability` | number | `0.4` |" in section
    for name in oodml.names("methods"):
        assert f"### {name}\n" in page


def test_lines_that_describe_become_a_list() -> None:
    text = "What it is.\n\na: one,\n    more. b, c: two; d: three\n\nRaises nothing.\nAnd: so on"
    before, described, after = docstrings.entries(text, ["a", "b", "c", "d"])
    assert before == "What it is."
    assert described == {"a": "one, more.", "b, c": "two;", "d": "three"}
    assert after == "Raises nothing.\nAnd: so on"
    assert docstrings.as_list("Of x: y.", ["x"]) == "Of x: y."
    assert "- **`b, c`**: two;\n- **`d`**: three" in docstrings.as_list(text, ["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy."""
    if shutil.which("zensical") is None:
        pytest.skip("needs the extra `docs`")
    place = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "zensical.toml", place)  # a link would be built where it leads
    for name in ("docs", "scripts", "src"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    made = [sys.executable, "scripts/docs/reference.py", "docs/reference"]
    subprocess.run(made, cwd=place, check=True)
    subprocess.run(["zensical", "build", "--strict", "--clean"], cwd=place, check=True)
    return place / "site"


@pytest.mark.slow  # builds the site
def test_the_site_needs_no_network(site: Path) -> None:
    found = sorted(site.rglob("*.html"))
    assert len(found) > len(pages()) - 2  # README and CONTRIBUTING are no pages of it
    for path in found:
        text = path.read_text(encoding="utf-8")
        needed = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?(\w+://[^\s\">]+)", text)
        needed += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect)[^>]*https?://[^>]*", text)
        assert not needed, f"{path.name} loads {needed}"


@pytest.mark.slow  # builds the site
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_opened_from_disk_fit_and_are_searched(site: Path, width: int) -> None:
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
        for path in sorted(set(site.rglob("*.html")) - {site / "404.html"}):  # that is a server's
            tab.goto(path.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, path.name
        tab.goto((site / "index.html").as_uri())
        tab.keyboard.press("/")
        tab.get_by_placeholder("Search").fill("removal progression")
        tab.locator("a[href*='#oodml.removal_progression']").wait_for()
        browser.close()
    # What a page left behind was still loading is given up.
    assert [error for error in errors if "ERR_ABORTED" not in error] == []
