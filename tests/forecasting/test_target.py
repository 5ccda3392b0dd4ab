import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.datasets import open_unlabeled
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.evaluate.signals import signal_names
from oodml.forecasting.description import describe_choice, describe_forecast
from oodml.forecasting.judge import (
    describe_judged,
    judged_methods,
    read_answers,
    write_judge_page,
)
from oodml.forecasting.target import (
    FeatureViews,
    OpenForecast,
    forecast_changes,
    forecast_target,
    open_forecast,
    principal_axes,
)
from oodml.report.folder import read_folder
from oodml.report.gain_tables import describe_losses, gains, losses
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from tests.forecasting.drawings import drawings, write_drawings

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
STUDY = """
data = "photos"
seeds = [0, 1]
methods = ["margin", "frozen"]
[splits]
n_splits = 2
backbone = "pixels"
image_size = 16
validation = 0.0
[model]
backbone = "pixels"
image_size = 16
views = 2
[train]
epochs = 1
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study, beside the folder of a target."""
    folder = tmp_path_factory.mktemp("forecast")
    images = drawings(superclasses=7)
    assert images.superclasses is not None
    write_drawings(images.select(images.superclasses != "group6"), folder / "photos")
    write_drawings(images.select(images.superclasses == "group6"), folder / "new")
    (folder / "study.toml").write_text(STUDY)
    run_study(read_study(folder / "study.toml"), folder / "study", device="cpu")
    return folder / "study"


@pytest.fixture(scope="module")
def opened(study: Path) -> OpenForecast:
    return open_forecast(read_folder(study), str(study.parent / "new"), device="cpu")


def test_the_answer_comes_first(opened: OpenForecast) -> None:
    methods = opened.forecast.methods
    assert set(methods["method"]) == {"margin", "frozen"}
    assert methods["expected"].is_monotonic_decreasing
    assert opened.forecast.groups > 1
    first = describe_forecast(opened).splitlines()[0]
    assert methods["method"].iloc[0] in first


def test_the_images_of_the_study_are_recognized(study: Path, opened: OpenForecast) -> None:
    own = open_forecast(read_folder(study), str(study.parent / "photos"), device="cpu")
    assert own.is_own
    assert not opened.is_own
    assert len(describe_choice(own)) == 1 + len(describe_choice(opened))


def test_opened_images_give_the_same_answer(study: Path, opened: OpenForecast) -> None:
    images = replace(open_unlabeled(opened.name), name=opened.name)
    again = open_forecast(read_folder(study), images, device="cpu")
    assert describe_choice(again) == describe_choice(opened)


def test_internal_names_of_signals_are_not_printed(opened: OpenForecast) -> None:
    outside = replace(opened.forecast, outside=("rank of own image", "similarity 1"))
    text = describe_forecast(replace(opened, forecast=outside))
    assert "rank of own image" not in text
    assert f"2 of {len(signal_names(2))} signals" in text


def test_labels_of_the_target_are_not_used(study: Path, opened: OpenForecast) -> None:
    test = opened.target.test
    renamed = replace(test, classes=np.full(len(test), "?"))
    renamed.save(study.parent / "renamed.npz")
    test.save(study.parent / "target.npz")
    one, other = (
        open_forecast(read_folder(study), str(study.parent / f"{name}.npz"))
        for name in ("renamed", "target")
    )
    pd.testing.assert_frame_equal(one.forecast.methods, other.forecast.methods)
    assert one.images is None


def test_the_command(study: Path) -> None:
    arguments = ["forecast", str(study), "--new", str(study.parent / "new")]
    outcome = CliRunner().invoke(app, [*arguments, "--classes", "5"])
    assert outcome.exit_code == 0, outcome.output
    assert "margin" in outcome.output
    both = CliRunner().invoke(app, [*arguments, "--classes", "5", "--images-per-class", "6"])
    assert isinstance(both.exception, OodmlError)


def test_small_targets_are_refused(study: Path, opened: OpenForecast) -> None:
    opened.target.test.select(np.arange(8)).save(study.parent / "few.npz")
    with pytest.raises(OodmlError) as error:
        open_forecast(read_folder(study), str(study.parent / "few.npz"))
    assert error.value.given == 8


def test_judged_queries_give_the_value(opened: OpenForecast, tmp_path: Path) -> None:
    page = tmp_path / "judge.html"
    write_judge_page(opened, 28, page)
    assert "__DATA__" not in page.read_text()
    plan = json.loads(page.with_suffix(".json").read_text())
    class_of = dict(zip(opened.target.test.ids, opened.target.test.classes, strict=True))
    rows = [
        (one["query"], name, "same" if class_of[one["query"]] == class_of[name] else "different")
        for one in plan["queries"]
        for name in set(one["neighbors"].values())
    ]
    table = pd.DataFrame(rows, columns=["query", "neighbor", "answer"])
    table.to_csv(tmp_path / "judged.csv", index=False)
    answers = read_answers(tmp_path / "judged.csv")
    results = judged_methods(opened, plan, answers)
    assert {one.method for one in results} == {"margin", "frozen"}
    for one in results:
        assert one.judged.low <= one.combined.expected <= one.judged.high
    half = {key: value for key, value in answers.items() if key[0] < plan["queries"][14]["query"]}
    assert len(judged_methods(opened, plan, half)) == 2  # answering may go on later
    table.assign(answer="maybe").to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(OodmlError) as error:
        read_answers(tmp_path / "bad.csv")
    assert error.value.given == "maybe"


def test_principal_axes() -> None:
    vectors = np.random.default_rng(2).normal(size=(200, 6)) * np.arange(1, 7)
    projected = principal_axes(vectors, 6).project(vectors)
    for i, j in ((0, 50), (3, 199)):
        before = np.linalg.norm(vectors[i] - vectors[j])
        assert np.linalg.norm(projected[i] - projected[j]) == pytest.approx(before)
    assert (np.diff(projected.var(axis=0)) < 0).all()
    with pytest.raises(OodmlError) as error:
        principal_axes(vectors).project(vectors[:, :4])
    assert error.value.given == 4


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt install chromium)")
def test_the_page_works_from_disk_with_keys_and_survives_a_reload(
    opened: OpenForecast, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    file = tmp_path / "judge" / "page.html"
    write_judge_page(opened, 10, file)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(accept_downloads=True, offline=True).new_page()
        page.goto(file.as_uri())
        assert page.locator("#pair img").count() == 2
        for key in ("s", "d", "n", "u"):
            page.keyboard.press(key)
        query = page.locator("#pair img").first.get_attribute("alt")
        page.reload()
        assert page.locator("#pair img").first.get_attribute("alt") == query
        page.keyboard.press("n")
        with page.expect_download() as download:
            page.locator("#save").click()
        download.value.save_as(tmp_path / "judged.csv")
        browser.close()
    answers = read_answers(tmp_path / "judged.csv")
    assert list(answers.values()) == ["same", "different", "none"]


def test_two_people_are_compared(opened: OpenForecast, tmp_path: Path) -> None:
    page = tmp_path / "judge.html"
    write_judge_page(opened, 28, page)
    plan = json.loads(page.with_suffix(".json").read_text())
    pairs = [(q["query"], name) for q in plan["queries"] for name in set(q["neighbors"].values())]
    table = pd.DataFrame(pairs, columns=["query", "neighbor"])
    for name, share in (("one", 0.5), ("two", 0.75)):
        table["answer"] = np.where(np.arange(len(table)) < share * len(table), "same", "different")
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    text = describe_judged(opened, [tmp_path / "one.csv", tmp_path / "two.csv"], page)
    agreed = (np.arange(len(table)) < 0.5 * len(table)) | (
        np.arange(len(table)) >= 0.75 * len(table)
    )
    assert f"{100 * agreed.mean():.0f}%" in text
    assert "kappa" in text


def test_level_and_gain_of_a_study(study: Path) -> None:
    folder = read_folder(study)
    table = gains(folder)
    assert set(table["method"]) == {"margin"}
    np.testing.assert_allclose(table["level"] + table["gain"], table["value"])
    loss = losses(folder, table)
    assert table["equal"].notna().all()
    assert loss["raw"].iloc[0] == pytest.approx(table["value"].iloc[0] - table["value"].iloc[1])
    assert "points" in describe_losses(loss)


def test_features_are_required(study: Path) -> None:
    folder = replace(read_folder(study), features=None)
    assert gains(folder).empty
    assert losses(folder, gains(folder)).empty


def test_views_are_those_of_the_study(opened: OpenForecast) -> None:
    images = opened.images
    assert images is not None
    view = embed(images, "pixels", image_size=16, view=1, device="cpu").vectors
    np.testing.assert_array_equal(opened.target.augmented[1], view)


def test_the_change_is_the_difference_of_two_forecasts(study: Path) -> None:
    folder = read_folder(study)
    assert folder.features is not None
    index = folder.features
    new = index.select(index.superclasses == "group2")
    changes = forecast_changes(folder, "margin", index, {"same": index, "new": new})
    assert changes["same"][0] == pytest.approx(0)
    assert changes["same"][1] <= 0 <= changes["same"][2]
    rows = np.random.default_rng(0).permutation(len(index))[: len(new)]
    levels = [
        forecast_target(folder, FeatureViews(index), FeatureViews(one)).methods.set_index("method")
        for one in (new, index.select(rows))
    ]
    level, base = (table.loc["margin"] for table in levels)
    expected = level["expected"] - base["expected"]
    assert changes["new"][0] == pytest.approx(expected, abs=1e-6)
    low = np.hypot(level["expected"] - level["low_80"], base["high_80"] - base["expected"])
    assert changes["new"][1] == pytest.approx(expected - low, abs=1e-6)
    with pytest.raises(OodmlError) as error:
        forecast_changes(folder, "margn", index, {"new": new})
    assert error.value.given == "margn"
    narrow = replace(new, vectors=new.vectors[:, :4])
    with pytest.raises(OodmlError) as error:
        forecast_changes(folder, "margin", index, {"new": narrow})
    assert error.value.location == "new"


def test_drift_with_the_expected_change(study: Path, tmp_path: Path) -> None:
    features = read_folder(study).features
    assert features is not None
    features.save(tmp_path / "index.npz")
    features.select(features.superclasses == "group2").save(tmp_path / "new.npz")
    files = [str(tmp_path / name) for name in ("index.npz", "new.npz")]
    arguments = ["shift", *files, "--test", "--model", f"{study}:margin"]
    page = tmp_path / "drift.html"
    result = CliRunner().invoke(app, [*arguments, "--json", "--page", str(page)])
    assert len(json.loads(result.stdout)["new.npz"]["recall_change"]) == 3
    assert "Recall@1" in page.read_text()
    assert CliRunner().invoke(app, [*arguments[:-1], "margin"]).exit_code == 1
