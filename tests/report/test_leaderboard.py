"""The leaderboard of packs: one ranking per dataset and splits, references, and provenance."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from oodml.analysis.paper_results import published_results
from oodml.errors import OodmlError
from oodml.report.leaderboard import write_leaderboard
from oodml.share.pack import pack_study
from tests.report.test_browser import browser  # noqa: F401  a fixture
from tests.share.studies import planned_study


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of two packs on the same splits, with markup in a name."""
    folder = tmp_path_factory.mktemp("packs")
    for name, methods in (
        ("first", {"margin": 0.7, "italic": 0.6}),
        ("second", {"proxy_anchor": 0.71}),
    ):
        study = folder / name
        planned_study(study, methods, hardware={"device": "NVIDIA H100"})
        for file in (study / "plan.json", *study.glob("runs/*/run.json")):
            text = file.read_text().replace('"label": "italic"', '"label": "<i>"')
            file.write_text(text)
        table = pd.read_parquet(study / "results.parquet").replace({"method": {"italic": "<i>"}})
        counted = table[table["metric"] == "nmi"].assign(
            stage="training", metric="parameters", value=65664.0
        )
        table = pd.concat([table, counted])
        table.to_parquet(study / "results.parquet")
        pack_study(study, folder / "in" / f"{name}.zip")
    write_leaderboard([folder / "in"], folder / "site")
    return folder / "site"


def test_packs_of_the_same_splits_are_one_ranking_with_their_sources(site: Path) -> None:
    text = (site / "index.html").read_text("utf-8")
    section = text[text.index('<section id="stripes-') :].partition("</section>")[0]
    assert text.count('<section id="stripes-') == 1
    for name in ("margin", "proxy_anchor", "&lt;i&gt;", "NVIDIA H100", "65,664"):
        assert name in section
    assert "<i>" not in section
    links = set(re.findall(r'href="(packs/[^"]+)"', section))
    assert len(links) == 2
    assert all((site / link).is_file() for link in links)


def test_the_paper_is_a_reference_without_intervals(site: Path) -> None:
    text = (site / "index.html").read_text("utf-8")
    for data, scores in published_results()["ags_recall_at_1"].items():
        section = text[text.index(f'<section id="paper-{data}"') :].partition("</section>")[0]
        assert "Reference" in section
        assert " to " not in "".join(re.findall(r"<td.*?</td>", section))
        for method, score in scores.items():
            row = section[section.index(f">{method} <small>(paper)") :]
            value = float(re.findall(r'data-value="([^"]*)"', row)[1])
            assert value == pytest.approx(score, abs=3e-4)


def test_a_folder_without_packs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError) as caught:
        write_leaderboard([tmp_path], tmp_path / "site")
    assert caught.value.location == str(tmp_path)


def test_the_page_sorts_filters_and_is_accessible_on_a_phone(browser: Any, site: Path) -> None:  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    for width in (390, 1280):
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
        tab = context.new_page()
        tab.goto((site / "index.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        only = {"type": "tag", "values": ["wcag2a", "wcag2aa"]}
        assert axe.Axe().run(tab, options={"runOnly": only}).response["violations"] == []
        board = tab.locator("section").first
        visible = board.locator("[data-metric='recall@1'] tbody tr")
        board.get_by_role("button", name="AGS").click()
        values = visible.evaluate_all("rows => rows.map((row) => +row.cells[2].dataset.value)")
        assert values == sorted(values, reverse=True)
        tab.locator("#filter").fill("proxy")
        assert visible.evaluate_all("rows => rows.filter((row) => !row.hidden).length") == 1
        tab.locator("#metric").select_option("map@r")
        assert not board.locator("[data-metric='recall@1']").is_visible()
        context.close()
