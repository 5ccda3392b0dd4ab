"""Study folders in states that other people's folders have: reported correctly, or refused."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from oodml.analysis.paper_results import NETWORK, comparable_curves, published_results
from oodml.analysis.ranking import beat_probability, compare_methods, compare_pairs
from oodml.cli import app
from oodml.errors import OodmlError
from oodml.report.folder import read_folder
from oodml.report.paper import ags_latex, escape_latex
from oodml.report.tables import select, tables
from oodml.report.write import write_report
from oodml.results.schema import write_results
from tests.analysis.tables import falling, results
from tests.report.study_folder import made_up_study

SPECIAL = "\\{}$#^~_%&"


def _text(page: Path) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", page.read_text("utf-8"), flags=re.S)


def _plan(folder: Path, **more: object) -> None:
    """Write a plan with the runs of the folder's results, and other keys."""
    table = pd.read_parquet(folder / "results.parquet").drop_duplicates("run")
    keys = ["data", "split", "shift", "seed"]
    runs = [
        {"id": row["run"], "label": row["method"], "method": row["method"], "fingerprint": "0"}
        | {key: row[key] for key in keys}
        for row in table.to_dict("records")
    ]
    (folder / "plan.json").write_text(json.dumps({"runs": runs} | more))


# Labels


@given(st.text(SPECIAL + "ab ", min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_every_special_character_of_latex_is_escaped(label: str) -> None:
    text = escape_latex(label)
    for command in (r"\textbackslash{}", r"\textasciicircum{}", r"\textasciitilde{}"):
        text = text.replace(command, "")
    assert not set(re.sub(r"\\[_%&#${}]", "", text)) & set(SPECIAL)
    row = {"method": label, "ags": 0.5, "ags_low": 0.4, "ags_high": 0.6, "hardest": 0.4}
    lines = ags_latex(pd.DataFrame([row | {"relative_loss": 0.1}])).splitlines()
    assert len(re.findall(r"(?<!\\)&", lines[4])) == 4


def test_labels_do_not_break_page_or_figures(tmp_path: Path) -> None:
    labels = ("margin $1", "a\nb", "<b>&amp;", "x" * 80, "مرحبا", "'\"`")
    images = made_up_study(tmp_path, dict.fromkeys(labels, 0.7) | {"b": 0.6}, seeds=1, shots=())
    page = write_report(tmp_path, images).page
    assert "<b>&amp;<" not in _text(page)
    assert (tmp_path / "report" / "generalization.pdf").exists()


# Baselines


def test_a_baseline_with_one_seed_is_compared_by_a_one_sample_test() -> None:
    from scipy.stats import ttest_1samp

    table = falling({"m": 0.2, "frozen": 0.5}, seeds=4)
    once = table[(table["method"] == "m") | (table["seed"] == 0)]
    scores = compare_pairs(once).set_index(["method", "other"]).loc[("m", "frozen")]
    frozen = float(compare_methods(once).set_index("method").loc["frozen", "ags"])
    from oodml.analysis.ranking import seed_scores

    own = seed_scores(once)["m"]
    p = ttest_1samp(own, frozen, alternative="greater").pvalue
    assert scores["probability"] == pytest.approx(1 - p)
    assert beat_probability(once).loc["frozen", "m"] == pytest.approx(p)


def test_a_baseline_has_no_interval_whatever_its_seeds() -> None:
    order = compare_methods(falling({"m": 0.2, "frozen": 0.5}, noise=0.0)).set_index("method")
    assert np.isnan(order.loc["frozen", ["ags_low", "ags_high"]].astype(float)).all()


def test_a_baseline_is_known_by_what_it_does_not_by_its_label(tmp_path: Path) -> None:
    made_up_study(tmp_path, {"raw": 0.9, "margin": 0.7}, shots=())
    table = pd.read_parquet(tmp_path / "results.parquet")
    write_results(table, tmp_path / "results.parquet", baselines=["raw"])
    computed = tables(read_folder(tmp_path))
    order = select(computed, "ags", "recall@1").set_index("method")
    assert not order.loc["raw", "trains"]
    report = write_report(tmp_path, paper=False)
    assert "raw, which is not trained" in report.answer.headline


def test_one_trained_seed_against_a_baseline_has_no_probability() -> None:
    table = falling({"m": 0.2, "frozen": 0.5}, seeds=1)
    assert beat_probability(table).isna().all().all()


def test_the_forecast_includes_baselines(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, {"margin": 0.7, "frozen": 0.705}, shots=())
    folder = read_folder(tmp_path, images)
    assert folder.features is not None
    assert folder.progression is not None
    target = folder.features.subset(folder.progression.splits[1].test)
    target.save(tmp_path / "target.npz")
    result = CliRunner().invoke(
        app, ["forecast", str(tmp_path), "--new", str(tmp_path / "target.npz")]
    )
    assert result.exit_code == 0, result.output
    assert "frozen" in result.output
    assert "margin" in result.output


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_page_ranks_and_pairs_agree(seed: int, seeds: int) -> None:
    """A method with a rank of its own at the top is the winner, and there is no other."""
    from oodml.report.answer import answer
    from oodml.report.folder import StudyFolder

    generator = np.random.default_rng(seed)
    table = results(
        (name, split, shift, s, float(np.clip(level + generator.normal(0, 0.02), 0, 1)))
        for name, level in zip(("a", "b", "frozen"), generator.uniform(0.5, 0.6, 3), strict=True)
        for split, shift in (("0", 1.0), ("4", 2.0), ("8", 5.0))
        for s in range(1 if name == "frozen" else seeds)
    )
    computed = tables(StudyFolder(Path("none"), table, "birds"))
    result = answer(computed, "birds", "recall@1")
    order = select(computed, "ags", "recall@1")
    assert order["shared_rank"].is_monotonic_increasing
    leads = order.loc[order["shared_rank"] == 1, "method"].tolist()
    if result.probability is not None:
        assert result.probability >= 0.975
        assert leads == [order["method"].iloc[0]]
    if seeds == 1:
        assert result.probability is None


# Intervals and units


def test_two_equal_seeds_have_no_interval(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, {"margin": 0.7}, seeds=2, shots=(2,))
    table = pd.read_parquet(tmp_path / "results.parquet")
    same = table[table["seed"] == 0]
    pd.concat([same, same.assign(seed=1, run=same["run"] + "b")]).to_parquet(
        tmp_path / "results.parquet"
    )
    computed = tables(read_folder(tmp_path, images))
    assert computed["few_shot"]["gain_low"].isna().all()
    assert computed["ags"]["ags_low"].isna().all()


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_show_no_nan_and_no_value_outside_the_bounds(tmp_path: Path, seeds: int) -> None:
    images = made_up_study(tmp_path, {"margin": 0.98, "frozen": 0.97}, seeds=seeds)
    page = write_report(tmp_path, images, paper=False).page
    text = re.sub(r"<pre.*?</pre>", "", _text(page), flags=re.S)
    assert not re.search(r"\bnan\b", text)
    curves = tables(read_folder(tmp_path, images))["curves"].query("metric == 'recall@1'")
    assert not (curves["high"] > 1).any()
    assert not (curves["low"] < 0).any()


# States of the folder


def test_findings_of_page_and_csv_are_the_same(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, shots=())
    for number, file in enumerate((tmp_path / "runs").glob("*/run.json")):
        run = json.loads(file.read_text())
        backbone = "lite0" if run["label"] == "margin" else "lite2"
        file.write_text(json.dumps(run | {"model": {"backbone": backbone, "mode": "head"}}))
        assert number < 99
    text = _text(write_report(tmp_path, images).page)
    written = pd.read_csv(tmp_path / "report" / "findings.csv")
    assert "lite2" in written["figures"].iloc[-1]
    assert written["figures"].iloc[-1] in text


@pytest.mark.parametrize("kind", ["float64", "object"])
def test_rows_of_other_programs_with_float_shots(tmp_path: Path, kind: str) -> None:
    images = made_up_study(tmp_path, seeds=1)
    table = pd.read_parquet(tmp_path / "results.parquet")
    shots = table["shots"].astype("float64").astype(kind)
    table.assign(shots=shots).to_parquet(tmp_path / "results.parquet")
    write_report(tmp_path, images, paper=False)
    assert set(tables(read_folder(tmp_path, images))["few_shot"]["shots"]) == {2, 5}


def test_a_smoke_test_is_marked(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1, shots=())
    _plan(tmp_path, smoke=True)
    report = write_report(tmp_path, images, paper=False)
    assert report.folder.plan.smoke
    assert "Smoke test" in _text(report.page)
    printed = CliRunner().invoke(app, ["report", str(tmp_path), "--no-paper"]).output
    assert "Smoke test" in printed


def test_methods_without_a_result_are_named_on_top(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1, shots=())
    _plan(tmp_path)
    table = pd.read_parquet(tmp_path / "results.parquet")
    gone = table[table["method"] == "margin"]["run"].unique()
    table[table["method"] != "margin"].to_parquet(tmp_path / "results.parquet")
    (tmp_path / "failed").mkdir()
    for run in gone:
        text = 'Traceback\n  File "/x/y.py"\nRuntimeError: out of memory\n'
        (tmp_path / "failed" / f"{run}.txt").write_text(text)
    page = _text(write_report(tmp_path, images, paper=False).page)
    assert "margin has no result" in page[: page.index('id="generalization"')]
    runs = page[page.index('id="runs"') :]
    assert runs.count("RuntimeError: out of memory") == 1
    assert "margin on split 0, seed 0" in runs


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": {}}', '{"runs": [{"id": "a"}]}', "{"])
def test_a_plan_that_lacks_things_costs_only_what_it_lacks(tmp_path: Path, text: str) -> None:
    made_up_study(tmp_path, seeds=1, shots=())
    (tmp_path / "plan.json").write_text(text)
    assert write_report(tmp_path, paper=False).page.exists()
    result = CliRunner().invoke(app, ["study", "status", str(tmp_path)])
    assert result.exit_code == 0 or isinstance(result.exception, OodmlError)


@pytest.mark.parametrize("name", ["splits.json", "features.npz", "runs/margin-0-0/run.json"])
def test_a_damaged_file_costs_only_its_own_section(tmp_path: Path, name: str) -> None:
    images = made_up_study(tmp_path, seeds=1, shots=())
    (tmp_path / name).write_bytes(b"{damaged")
    assert write_report(tmp_path, images, paper=False).page.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write to every folder")
def test_a_read_only_folder_is_refused_before_computing(tmp_path: Path) -> None:
    _refused(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    made_up_study(tmp_path / "study", seeds=1, shots=())
    (tmp_path / "file").write_text("")
    with pytest.raises(OodmlError) as error:
        write_report(tmp_path / "study", out=tmp_path / "file")
    assert error.value.location == str(tmp_path / "file")
    assert "--out" in str(error.value)


def _refused(folder: Path) -> None:
    made_up_study(folder, seeds=1, shots=())
    folder.chmod(0o555)
    try:
        with pytest.raises(OodmlError) as error:
            write_report(folder)
        assert error.value.location == str(folder)
    finally:
        folder.chmod(0o755)


# Published curves


@pytest.mark.parametrize(
    ("data", "factor", "backbone", "mode", "comparable"),
    [
        ("cub200", 1.02, f"{NETWORK}.tv_in1k", "finetune", True),
        ("cub200", 2.0, f"{NETWORK}.tv_in1k", "finetune", False),
        ("cub200", 1.0, "lite0", "finetune", False),
        ("cub200", 1.0, f"{NETWORK}.tv_in1k", "head", False),
        ("glyphs", 1.0, f"{NETWORK}.tv_in1k", "finetune", False),
    ],
)
def test_published_curves_only_with_comparable_studies(
    data: str, factor: float, backbone: str, mode: str, comparable: bool
) -> None:
    shifts = [factor * shift for shift in published_results()["fid"]["cub200"]]
    models = {"margin": {"backbone": backbone, "mode": mode}, "mine": {"backbone": backbone}}
    curves = comparable_curves(data, shifts, backbone, models)
    assert (set(curves["method"]) == {"margin"}) == comparable
    assert comparable_curves(data, shifts[:4], backbone, models).empty
