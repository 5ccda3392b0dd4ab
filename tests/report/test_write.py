import html
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image

from oodml.analysis.ranking import compare_methods
from oodml.errors import OodmlError
from oodml.evaluate.registry import find_metric
from oodml.report.folder import read_folder
from oodml.report.paper import WIDTHS
from oodml.report.style import method_styles
from oodml.report.tables import select
from oodml.report.write import write_report
from tests.images.samples import write_folder
from tests.report.conftest import Made
from tests.report.study_folder import keep_epochs, made_up_study

SECTIONS = (
    "overview", "generalization", "gain", "ranking", "few-shot", "forecast", "structure",
    "progression", "open-set", "compression", "by-kind", "confused-pairs", "examples", "findings",
    "runs", "cite",
)  # fmt: skip


def _without_scripts(path: Path) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", path.read_text("utf-8"), flags=re.S)


def _planned(run: str) -> dict[str, object]:
    """The entry of a plan for a run of `made_up_study`."""
    method, split, seed = run.rsplit("-", 2)
    entry = {"data": "stripes", "fingerprint": "0", "label": method, "method": method}
    return {"id": run, "split": split, "shift": 1.0, "seed": int(seed), **entry}


def _data(path: Path) -> dict[str, object]:
    result = re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    assert result
    return json.loads(result[1])


def test_page_has_every_section_and_reaches_for_no_network(made: Made) -> None:
    text = _without_scripts(made.page)
    for section in SECTIONS:
        assert f'id="{section}"' in text
    loaded = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert not [one for one in loaded if "//" in one and not one.startswith("data:")]
    assert made.page.stat().st_size < 15e6


def test_failed_runs_are_listed_and_escaped(made: Made) -> None:
    text = _without_scripts(made.page)
    assert "1 run failed." in text
    assert "RuntimeError: &lt;out of memory&gt;" in text


def test_the_ranking_of_the_page_is_that_of_the_table(made: Made) -> None:
    order = compare_methods(pd.read_parquet(made.folder / "results.parquet"))
    text = html.unescape(_without_scripts(made.page))
    for row in order.to_dict("records"):
        assert f"<b>{100 * row['ags']:.1f}%</b>" in text
        assert f"{100 * row['ags_low']:.1f} to {100 * row['ags_high']:.1f}%" in text


def test_data_cannot_end_the_script(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, methods={"</script><b>": 0.7, "b": 0.6}, seeds=1)
    page = write_report(tmp_path, images, paper=False).page
    assert "</script><b>" not in page.read_text("utf-8")
    assert {method["name"] for method in _data(page)["methods"]} == {"</script><b>", "b"}


def test_figures_and_tables_for_a_paper(made: Made) -> None:
    folder = made.folder / "report"
    for name in ("generalization", "ags", "few_shot", "progression"):
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(folder / f"{name}.png") as picture:
            assert len(picture.convert("L").getcolors() or [0] * 9) > 8
    order = compare_methods(pd.read_parquet(made.folder / "results.parquet"))
    written = pd.read_csv(folder / "ags.csv").query("metric == 'recall@1'")
    assert written["ags"].to_numpy() == pytest.approx(order["ags"].to_numpy())
    latex = (folder / "ags.tex").read_text()
    assert rf"proxy\_anchor & {order.set_index('method').loc['proxy_anchor', 'ags']:.3f}" in latex
    assert latex.count(r"\\") == 5
    assert r"chance & 0.070 &" in latex
    chance = pd.read_csv(folder / "chance.csv").query("metric == 'recall@1'")
    assert chance["chance"].to_numpy() == pytest.approx([5 / 71] * 4)
    gaps = pd.read_csv(folder / "best_test_epoch_diagnostic.csv")
    assert gaps["gap"].to_numpy() == pytest.approx([0.012] * 12)
    assert len(pd.read_csv(folder / "few_shot.csv")) == 3 * 4 * 2


def test_the_same_study_gives_the_same_page(made: Made) -> None:
    before = made.page.read_bytes()
    assert write_report(made.folder, made.images, paper=False).page.read_bytes() == before


def test_bare_study(tmp_path: Path) -> None:
    """One method, split and seed, no vectors, no features: the page says what is missing."""
    images = made_up_study(
        tmp_path, {"margin": 0.7}, {"0": 9.0}, seeds=1, shots=(), keep_vectors=False
    )
    for name in ("features.npz", "splits.json", "study.toml"):
        (tmp_path / name).unlink()
    text = _without_scripts(write_report(tmp_path, images).page)
    for missing in ("One split", "features.npz", "splits.json", "shots"):
        assert missing.lower() in text.lower()
    assert not (tmp_path / "report" / "few_shot.png").exists()
    assert not (tmp_path / "report" / "ags.png").exists()


def test_controls_of_removal_splits(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=2, shots=())
    table = pd.read_parquet(tmp_path / "results.parquet")
    control = table[table["split"] == "0"].assign(split="R6 control 0", shift=27.0)
    pd.concat([table, control]).to_parquet(tmp_path / "results.parquet")
    page = write_report(tmp_path, images, paper=False).page
    assert "Lost to size" in _without_scripts(page)
    assert [split["split"] for split in _data(page)["splits"]] == ["-4", "0", "8", "R6"]


def test_missing_images(tmp_path: Path) -> None:
    made_up_study(tmp_path, seeds=1)
    source = {"name": str(tmp_path / "moved"), "options": {}}
    runs = [_planned("margin-0-0"), _planned("margin-0-7")]
    (tmp_path / "plan.json").write_text(json.dumps({"source": source, "runs": runs}))
    page = write_report(tmp_path, paper=False).page
    assert "The images could not be opened" in _without_scripts(page)
    assert "1 of 2 planned runs has no result yet." in _without_scripts(page)
    assert _data(page)["images"] == {}


def test_code_that_a_folder_names_is_run_where_it_is_trusted_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = made_up_study(tmp_path / "study", seeds=1)
    code, marker = tmp_path / "code", tmp_path / "it-ran"
    write_folder(images, code / "photos")
    (code / "their_stripes.py").write_text(
        "from pathlib import Path\n"
        "from oodml.datasets import open_images\n"
        "def made(root, marker):\n"
        "    Path(marker).touch()\n"
        "    return open_images(root)\n"
    )
    options = {"root": str(code / "photos"), "marker": str(marker)}
    source = {"name": "their_stripes:made", "options": options}
    plan = {"source": source, "import_from": [str(code)], "runs": []}
    (tmp_path / "study" / "plan.json").write_text(json.dumps(plan))
    monkeypatch.setattr(sys, "path", [*sys.path])
    page = write_report(tmp_path / "study", paper=False).page
    assert not marker.exists()
    assert str(code) not in sys.path
    assert "their_stripes:made" in _without_scripts(page)
    result = read_folder(tmp_path / "study", trust_code=True)
    assert marker.exists()
    assert result.images is not None
    assert len(result.images) == len(images)
    assert not [note for note in result.notes if "images" in note]


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(OodmlError, match="oodml study run"):
        write_report(tmp_path)


def test_no_result_yet(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1)
    table = pd.read_parquet(tmp_path / "results.parquet")
    table[table["stage"] != "zero_shot"].to_parquet(tmp_path / "results.parquet")
    with pytest.raises(OodmlError, match=r"results\.parquet"):
        write_report(tmp_path, images)


def test_the_best_test_epoch_is_a_diagnostic_alone(made: Made, tmp_path: Path) -> None:
    text = _without_scripts(made.page)
    box = text[text.index('id="epochs"') :]
    assert "Diagnostic only" in box
    assert box.count("+1.2") == 3 * 4
    assert "the gap is understated" not in box
    images = made_up_study(tmp_path, seeds=1)
    bare = _without_scripts(write_report(tmp_path, images, paper=False).page)
    assert 'id="epochs"' not in bare
    assert 'id="search"' not in bare


def test_the_gap_to_the_best_test_epoch_of_a_refit_is_called_understated(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1, keep_vectors=False)
    keep_epochs(tmp_path)
    for file in (tmp_path / "runs").glob("margin*/run.json"):
        run = json.loads(file.read_text())
        file.write_text(json.dumps(run | {"train": {"epochs": 20, "refit": True}}))
    text = _without_scripts(write_report(tmp_path, images, paper=False).page)
    assert "the gap is understated" in text[text.index('id="epochs"') :]


def test_how_options_were_chosen(made: Made) -> None:
    text = _without_scripts(made.page)
    assert "20 trials per method" in text
    assert "beta = 1.05, train.lr = 0.003" in text
    assert "+1.9" in text
    assert "20, 1 failed" in text


def test_settings_of_a_run_are_shown_whole(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, methods={"margin": 0.7}, seeds=1, keep_vectors=False)
    for file in (tmp_path / "runs").glob("*/run.json"):
        run = json.loads(file.read_text())
        run["model"]["input_cache"] = 256
        file.write_text(json.dumps(run))
    text = html.unescape(_without_scripts(write_report(tmp_path, images, paper=False).page))
    assert '"input_cache": 256' in text


def test_a_study_without_baseline_names_one(made: Made) -> None:
    assert "[methods.frozen]" in _without_scripts(made.page)


def test_options_of_the_paper_output(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=3, shots=())
    report = write_report(
        tmp_path, images, metric="map@r", selected=["margin", "proxy_anchor"], formats=["svg"],
        width="column",
    )  # fmt: skip
    folder = tmp_path / "report"
    assert {path.suffix for path in folder.glob("generalization.*")} == {".svg"}
    root = ElementTree.parse(folder / "generalization.svg").getroot()
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(72 * WIDTHS["column"])
    assert set(report.tables["curves"]["method"]) == {"margin", "proxy_anchor"}
    assert find_metric("map@r").label in report.answer.headline
    latex = (folder / "splits.tex").read_text()
    values = select(report.tables, "seeds", "map@r")
    means = values.groupby(["method", "split"])["value"].mean()
    for split in values["split"].unique():
        best = max(means[method, split] for method in ("margin", "proxy_anchor"))
        assert rf"\textbf{{{100 * best:.1f}}}" in latex
    assert latex.count(r"$\pm$") == 2 * values["split"].nunique()


@pytest.mark.parametrize(
    "options",
    [{"metric": "recall"}, {"selected": ["nothing"]}, {"formats": ["bmp"]}, {"width": "wide"}],
)
def test_unknown_options_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1, shots=())
    with pytest.raises(OodmlError) as raised:
        write_report(tmp_path, images, **options)
    assert raised.value.allowed
    assert not (tmp_path / "report").exists()


def test_twelve_methods_have_distinct_colors() -> None:
    styles = method_styles([f"m{k}" for k in range(12)], ())
    assert len({style.light for style in styles.values()}) == 12
    assert len({style.dark for style in styles.values()}) == 12
    twenty = method_styles([f"m{k}" for k in range(24)], ())
    assert len({(style.light, style.marker, style.dash) for style in twenty.values()}) == 24


def test_where_the_leading_method_fails(made: Made) -> None:
    tables = {
        name: pd.read_csv(made.folder / "report" / f"{name}.csv")
        for name in ("by_kind", "by_class", "confused_pairs", "ags", "progression")
    }
    leader = tables["ags"]["method"].iloc[0]
    hardest = str(tables["progression"]["split"].iloc[-1])
    pairs = tables["confused_pairs"]
    shown = pairs[(pairs["method"] == leader) & (pairs["split"].astype(str) == hardest)]
    first = shown.iloc[0]
    section = _without_scripts(made.page).partition('id="confused-pairs"')[2]
    assert section.index(first["class"]) < section.index("% of the queries")
    assert 'src="data:image' in section.partition("</section>")[0]
    classes = tables["by_class"].groupby(["method", "split"])
    weighted = classes.apply(lambda part: (part["recall"] * part["queries"]).sum())
    totals = tables["by_kind"].assign(hits=lambda part: part["recall"] * part["queries"])
    expected = totals.groupby(["method", "split"])["hits"].sum()
    assert weighted.to_numpy() == pytest.approx(expected.to_numpy())
