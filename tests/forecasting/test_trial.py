from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.forecasting.trial import COLUMNS, TrialSettings, describe_trial, run_trial
from oodml.report.folder import StudyFolder
from oodml.report.level_and_gain import trial_scores
from tests.forecasting.drawings import drawings, write_drawings


def test_a_trial_leaves_superclasses_out_and_forecasts_them(tmp_path: Path) -> None:
    write_drawings(drawings(superclasses=6), tmp_path / "photos")
    settings = TrialSettings(
        str(tmp_path / "photos"), methods=("margin",), seeds=1, n_splits=1, epochs=1,
        backbone="pixels", image_size=16,
    )  # fmt: skip
    trial = run_trial(settings, tmp_path / "trial", "cpu")
    assert tuple(trial.rows) == COLUMNS
    assert set(trial.rows["method"]) == {"margin", "frozen"}
    assert trial.rows["leave"].nunique() == 6
    assert trial.rows[["truth", "expected"]].stack().between(0, 1).all()
    frozen = trial.rows[trial.rows["method"] == "frozen"]
    assert (frozen[["gain", "gain_expected"]] == 0).all(axis=None)
    assert len(trial.sized) == len(trial.rows)
    text = describe_trial(trial)
    assert "mean of splits" in text
    folder = StudyFolder(tmp_path / "trial", trial.rows, "photos")
    assert trial_scores(folder)["error"].between(0, 1).all()
    again = run_trial(settings, tmp_path / "trial", "cpu")
    np.testing.assert_allclose(again.rows["truth"], trial.rows["truth"])


def test_a_trial_requires_superclasses(tmp_path: Path) -> None:
    write_drawings(drawings(superclasses=2), tmp_path / "photos")
    with pytest.raises(OodmlError) as error:
        run_trial(TrialSettings(str(tmp_path / "photos"), backbone="pixels"), tmp_path / "trial")
    assert error.value.given == 2
    with pytest.raises(OodmlError) as error:
        run_trial(TrialSettings(str(tmp_path / "photos"), groups="style"), tmp_path / "trial")
    assert error.value.given == "style"


def test_help_has_an_example() -> None:
    assert "oodml forecast-trial" in CliRunner().invoke(app, ["forecast-trial", "--help"]).output
