"""The page in a real browser, Debian's Chromium."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oodml.report.write import write_report
from tests.report.conftest import Made
from tests.report.study_folder import made_up_study
from tests.report.test_write import SECTIONS

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt install chromium)")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
AGS = "figures.ags(document.createElement('div')).traces"
UNFOLD = "document.querySelectorAll('.fold').forEach((one) => { one.open = true })"
CURVES = "document.querySelector('[data-figure=generalization] .canvas').data"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, made: Made) -> Iterator[Any]:
    """The page at desk size, its first figure drawn; fails on any error it logs."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    tab = context.new_page()
    errors: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else 0)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(made.page.as_uri())
    tab.wait_for_function(f"{CURVES}?.length > 0")
    tab.evaluate(UNFOLD)
    yield tab
    context.close()
    assert errors == []


def _draw_all(page: Any) -> None:
    page.evaluate("Promise.all([...allFigures()].map(draw))")


def test_every_section_and_figure_is_there(page: Any) -> None:
    for section in SECTIONS:
        assert page.locator(f"#{section}").count() == 1
    _draw_all(page)
    assert page.locator("figure").count() == 9
    assert page.locator("figure .main-svg").count() >= 9
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


def test_the_first_curve_is_above_the_fold(page: Any) -> None:
    box = page.locator("#figure-generalization .canvas").bounding_box()
    assert box["y"] + box["height"] <= 900


def test_figures_out_of_view_are_drawn_while_the_browser_is_idle(page: Any) -> None:
    page.wait_for_function("allFigures().every((figure) => drawn.has(figure))")
    assert page.locator("[data-figure=progression] .main-svg").count() > 0


def test_a_link_opens_a_folded_section(browser: Any, made: Made) -> None:
    tab = browser.new_page()
    tab.goto(made.page.as_uri())
    names = tab.locator("section > .fold:not([open])").count()
    assert tab.locator("section").count() == names + 3  # curve, gain, and decision
    assert not tab.locator("#few-shot .canvas").is_visible()
    tab.locator(".contents a[href='#few-shot']").click()
    tab.wait_for_function("document.querySelector('[data-figure=few-shot] .canvas').data?.length")
    tab.close()


def test_hiding_a_method_changes_figure_and_table(page: Any) -> None:
    names = f"{CURVES}.map((trace) => trace.name).filter(Boolean)"
    assert "margin" in page.evaluate(names)
    page.get_by_role("button", name="margin", exact=True).click()
    page.wait_for_function(f"!{names}.includes('margin')")
    row = page.locator("#ranking th[data-method=margin]").first
    assert not row.is_visible()
    page.get_by_role("button", name="margin", exact=True).click()
    page.wait_for_function(f"{names}.includes('margin')")


def test_switching_the_metric_changes_figure_and_table(page: Any) -> None:
    before = page.evaluate(f"JSON.stringify({CURVES}.map((trace) => trace.y))")
    page.get_by_label("Metric").select_option("map@r")
    page.wait_for_function(f"JSON.stringify({CURVES}.map((trace) => trace.y)) !== {before!r}")
    assert page.locator("#ranking [data-metric='map@r']").is_visible()
    assert not page.locator("#ranking [data-metric='recall@1']").is_visible()


def test_few_shot_choices(page: Any) -> None:
    _draw_all(page)
    page.get_by_role("button", name="Before and after").click()
    figure = "document.querySelector('[data-figure=few-shot] .canvas')"
    page.wait_for_function(f"{figure}.data.some((trace) => trace.name === 'margin, before')")


def test_examples_opens_and_closes_by_keyboard(page: Any) -> None:
    row = page.locator("#examples button.row").first
    row.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#closer")
    assert dialog.is_visible()
    assert dialog.locator("img").count() == 1 + 7 + 7
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_examples_shows_another_method(page: Any) -> None:
    page.locator("#examples-split").select_option("-4")
    page.locator("#examples-a").select_option("proxy_anchor")
    page.locator("#examples button.row").first.click()
    assert "on split -4" in page.locator("#closer h3").text_content()
    assert page.locator("#closer h4").first.text_content() == "proxy_anchor"
    marks = page.locator("#examples .row .thumb i").all_text_contents()
    assert set(marks) == {"✓", "✗"}


def test_examples_puts_two_methods_side_by_side(page: Any) -> None:
    rows = page.locator("#examples button.row")
    assert rows.count() == 8
    # Both boxes in one call: figures above are still drawn while the browser is idle.
    boxes = "strips => strips.map(strip => strip.getBoundingClientRect().toJSON())"
    left, right = rows.first.locator(".strip").evaluate_all(boxes)
    assert left["y"] == right["y"]
    assert left["right"] < right["x"]
    differing = page.locator("#examples button.differs").count()
    assert f"they differ on {differing}." in page.locator("#examples [role=status]").text_content()
    page.locator("#examples-b").focus()
    page.keyboard.press("End")  # the last choice: none
    assert rows.first.locator(".strip").count() == 1
    assert page.locator("#examples .outcome").first.text_content() in ("right", "wrong")


def test_examples_marks_where_two_methods_differ(page: Any) -> None:
    made = """(found => { found.classes.margin[0][0] = found.query_classes[0];
        found.classes.proxy_anchor[0][0] = 'another'; examples(); })(study.examples.at(-1))"""
    page.evaluate(made)
    page.locator("#examples-a").select_option("margin")
    page.locator("#examples-b").select_option("proxy_anchor")
    row = page.locator("#examples button.row").first
    assert row.locator(".outcome").text_content() == "only A right"
    assert "differs" in row.get_attribute("class")


def test_figures_reach_down_to_chance(page: Any) -> None:
    names = f"{CURVES}.map((trace) => trace.name)"
    assert "chance" not in page.evaluate(names)
    page.locator("[data-figure=generalization] [data-scale=chance]").click()
    page.wait_for_function(f"{names}.includes('chance')")
    for metric in page.evaluate("study.ranked"):
        page.get_by_label("Metric").select_option(metric)
        page.wait_for_function(f"{names}.includes('chance')")
        page.wait_for_function(f"{AGS}.at(-1).name === 'chance'")
        assert page.locator(f"[data-metric='{metric}'] tr.chance").is_visible()


def test_gains_of_training(page: Any) -> None:
    _draw_all(page)
    canvas = "document.querySelector('[data-figure=gains] .canvas')"
    names = page.evaluate(f"[...new Set({canvas}.data.map((trace) => trace.name))].filter(Boolean)")
    assert names
    equal = page.evaluate("document.querySelector('[data-figure=equal] .canvas').data")
    solid = [trace for trace in equal if trace["name"].endswith("equal difficulty")]
    assert len(solid) == len(names)
    assert all(0 <= value <= 1 for trace in solid for value in trace["y"])
    assert page.locator("#gain .lede").is_visible()


def test_keyboard_reaches_the_controls(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached: set[str] = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        focused = page.evaluate("[document.activeElement.id, document.activeElement.textContent]")
        reached |= {*focused}
    assert {"metric", "margin", "theme"} <= reached


def test_headline_follows_the_metric(page: Any) -> None:
    visible = "[...document.querySelectorAll('h1')].filter((one) => one.offsetParent)"
    assert page.evaluate(f"{visible}.length") == 1
    page.get_by_label("Metric").select_option("map@r")
    page.wait_for_function(f"{visible}.every((one) => one.textContent.includes('mAP@R'))")


def test_choices_are_in_the_address(page: Any) -> None:
    page.get_by_label("Metric").select_option("map@r")
    page.get_by_role("button", name="margin", exact=True).click()
    page.locator("[data-figure=generalization] [data-scale=chance]").click()
    page.locator("#examples-a").select_option("proxy_anchor")
    page.locator("#theme").click()
    page.wait_for_function("location.hash.includes('theme')")
    address = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function(f"{CURVES}?.length > 0")
    assert page.evaluate("[state.metric, state.scale, [...state.hidden].join()]") == [
        "map@r", "chance", "margin",
    ]  # fmt: skip
    assert page.locator("#examples-a").input_value() == "proxy_anchor"
    assert page.evaluate("isDark()")
    page.goto("about:blank")
    page.goto(f"{address.partition('#')[0]}#ranking&metric=nothing&filter=x")
    assert page.evaluate("state.metric") == "recall@1"


def test_the_print_has_a_key_and_no_controls(page: Any) -> None:
    _draw_all(page)
    page.emulate_media(media="print")
    assert page.locator("[data-figure=few-shot] [data-key]").is_visible()
    assert not page.locator("#metric").is_visible()
    assert not page.locator("#examples-a").is_visible()


def test_theme_is_switched(page: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").click()
    assert page.evaluate(paper) != light
    page.wait_for_function(f"{CURVES}.some((trace) => trace.line.color === '#62aeea')")


def test_numbers_and_csv(page: Any) -> None:
    figure = page.locator("[data-figure=generalization]")
    figure.locator("summary").click()
    figure.locator("table tbody tr").nth(11).wait_for()  # the rows appear when the figure is drawn
    assert figure.locator("table tbody tr").count() == 12
    with page.expect_download() as download:
        figure.get_by_role("button", name="CSV").click()
    lines = Path(download.value.path()).read_text("utf-8").splitlines()
    assert lines[0] == "method,split,shift,mean,low,high,seeds"
    assert len(lines) == 13


def test_class_map_shows_the_sample_of_a_class(page: Any) -> None:
    _draw_all(page)
    page.locator("[data-figure=map-0]").scroll_into_view_if_needed()
    spot = page.locator("[data-figure=map-0] .point").first.bounding_box()
    page.mouse.move(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
    card = page.locator("#card")
    card.wait_for(state="visible")
    assert card.locator("img").count() == 1


def test_phone(browser: Any, made: Made) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    tab = context.new_page()
    tab.goto(made.page.as_uri())
    tab.wait_for_function(f"{CURVES}?.length > 0")
    tab.evaluate(UNFOLD)
    _draw_all(tab)
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
    strips = tab.locator("#examples button.row").first.locator(".strip")
    upper, lower = (strips.nth(place).bounding_box() for place in (0, 1))
    assert upper["x"] == lower["x"]
    assert upper["y"] + upper["height"] <= lower["y"]
    context.close()


def test_long_names_fit_a_phone(browser: Any, tmp_path: Path) -> None:
    name = "a_method_with_its_options_in_its_name_lr=0.001_margin=0.2"
    images = made_up_study(tmp_path, {name: 0.7, "b": 0.6}, seeds=1, shots=())
    context = browser.new_context(viewport={"width": 390, "height": 844})
    tab = context.new_page()
    tab.goto(write_report(tmp_path, images, paper=False).page.as_uri())
    tab.evaluate(UNFOLD)
    tab.wait_for_function("allFigures().every((figure) => drawn.has(figure))")
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_labels(browser: Any, made: Made, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    context = browser.new_context(color_scheme=scheme)
    tab = context.new_page()
    tab.goto(made.page.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true })")
    _draw_all(tab)
    only = ["wcag2a", "wcag2aa", "best-practice"] if scheme == "light" else ["color-contrast"]
    result = axe.Axe().run(tab, {"exclude": [[".main-svg"]]}, {"runOnly": only})
    problems = [
        (broken["id"], node["html"][:150])
        for broken in result.response["violations"]
        for node in broken["nodes"]
    ]
    assert problems == []
    context.close()
