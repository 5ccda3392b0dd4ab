from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.datasets import image_column, open_images
from oodml.errors import OodmlError
from oodml.forecasting.trial import (
    COLUMNS,
    TrialSettings,
    _column,
    _leave_outs,
    describe_trial,
    run_trial,
)
from oodml.report.folder import StudyFolder
from oodml.report.gain_tables import trial_scores
from oodml.vectors import VectorSet
from tests.forecasting.drawings import drawings, write_drawings


def test_a_trial_leaves_superclasses_out_and_forecasts_them(tmp_path: Path) -> None:
    write_drawings(drawings(superclasses=4, classes=10), tmp_path / "photos")
    settings = TrialSettings(
        str(tmp_path / "photos"), methods=("margin",), seeds=1, n_splits=1, epochs=1,
        backbone="pixels", image_size=16,
    )  # fmt: skip
    trial = run_trial(settings, tmp_path / "trial", "cpu")
    assert tuple(trial.rows) == COLUMNS
    assert set(trial.rows["method"]) == {"margin", "frozen"}
    assert trial.rows["leave"].nunique() == 4
    assert trial.rows[["truth", "expected"]].stack().between(0, 1).all()
    frozen = trial.rows[trial.rows["method"] == "frozen"]
    assert (frozen[["gain", "gain_expected"]] == 0).all(axis=None)
    assert len(trial.sized) == len(trial.rows)
    text = describe_trial(trial)
    assert "mean of splits" in text
    folder = StudyFolder(tmp_path / "trial", trial.rows, "photos")
    assert trial_scores(folder)["error"].between(0, 1).all()


def test_clusters_stand_in_for_superclasses(tmp_path: Path) -> None:
    images = replace(drawings(superclasses=4, classes=6), superclasses=None)
    options = {"backbone": "pixels", "image_size": 16, "device": "cpu"}
    column = _column(TrialSettings("photos"), images, options)
    assert len(set(column)) == 4
    pairs = set(zip(images.classes.tolist(), column.tolist(), strict=True))
    assert len(pairs) == len(images.class_names)  # all images of a class are in one cluster
    assert 3 <= len(_leave_outs(images, column)) <= 4
    with pytest.raises(OodmlError):
        _column(TrialSettings("photos", "camera"), images, options)


def test_groups_that_are_too_small_are_not_left_out() -> None:
    images = drawings(superclasses=3, classes=6)
    column = np.where(images.classes == "class00", "one class", images.superclasses)
    assert set(_leave_outs(images, column)) == {"group0", "group1", "group2"}


def test_a_trial_requires_three_groups(tmp_path: Path) -> None:
    write_drawings(drawings(superclasses=2), tmp_path / "photos")
    with pytest.raises(OodmlError) as error:
        run_trial(TrialSettings(str(tmp_path / "photos"), backbone="pixels"), tmp_path / "trial")
    assert error.value.given == 2
    with pytest.raises(OodmlError) as error:
        run_trial(TrialSettings(str(tmp_path / "photos"), groups="style"), tmp_path / "trial")
    assert error.value.given == "style"
    assert error.value.allowed == ("superclass",)


def test_values_of_another_column_are_left_out(tmp_path: Path) -> None:
    write_drawings(drawings(superclasses=3, classes=8, images=9), tmp_path / "photos")
    files = sorted((tmp_path / "photos").rglob("*.png"))
    table = pd.DataFrame({"path": [file.relative_to(tmp_path).as_posix() for file in files]})
    table["class"] = [file.parent.name for file in files]
    table["camera"] = [f"camera{number % 3}" for number in range(len(files))]
    table.to_csv(tmp_path / "photos.csv", index=False)
    settings = TrialSettings(
        str(tmp_path / "photos.csv"), groups="camera", methods=("margin",), seeds=1, n_splits=1,
        epochs=1, backbone="pixels", image_size=16,
    )  # fmt: skip
    trial = run_trial(settings, tmp_path / "trial", "cpu")
    whole = trial.rows[trial.rows["target"] == "whole"]
    assert set(whole["leave"]) == {"camera0", "camera1", "camera2"}
    assert (whole["n_images"] == 3 * 24).all()
    assert (whole["n_classes"] == 24).all()
    vectors = VectorSet.load(next((tmp_path / "trial").glob("studies/1/runs/*/vectors.npz")))
    first = table["path"][table["camera"] == whole["leave"].iloc[0]]
    assert set(first) < set(vectors.ids)  # a run embeds them, whatever their class is
    again = run_trial(settings, tmp_path / "trial", "cpu")
    pd.testing.assert_frame_equal(again.rows, trial.rows)
    with pytest.raises(OodmlError):
        run_trial(replace(settings, epochs=2), tmp_path / "trial")


def test_values_with_one_image_per_class_are_left_out_together() -> None:
    images = open_images("emoji", groups=["food"])
    style = image_column("emoji", images, "style")
    leave_outs = _leave_outs(images, style)
    assert len(leave_outs) == 7
    for name, left in leave_outs.items():
        assert set(style[left]) == set(name.split("+"))
        assert len(set(style[left])) == 2


def test_help_has_an_example() -> None:
    assert (
        "oodml study leave-out" in CliRunner().invoke(app, ["study", "leave-out", "--help"]).output
    )
