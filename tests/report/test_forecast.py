from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodml.errors import OodmlError
from oodml.report.folder import StudyFolder, read_study
from oodml.report.forecast import forecast_target, left_out_forecasts
from oodml.vectors import VectorSet
from tests.report.conftest import Made


@pytest.fixture(scope="module")
def folder(made: Made) -> StudyFolder:
    return read_study(made.folder, made.images)


def _target(folder: StudyFolder, position: int) -> VectorSet:
    assert folder.features is not None
    assert folder.progression is not None
    return folder.features.subset(folder.progression[position].test)


def test_a_test_set_of_the_study_lies_within_its_range(folder: StudyFolder) -> None:
    found = forecast_target(folder, _target(folder, 0), split="-4")
    assert found.split == "-4"
    assert not found.outside
    assert found.methods["method"].tolist()[0] == "multisimilarity"
    assert found.measure in ("image_fid", "clustered_fid")


def test_labels_of_the_target_are_not_looked_at(folder: StudyFolder) -> None:
    target = _target(folder, 2)
    renamed = replace(target, classes=np.full(len(target), "?"))
    assert forecast_target(folder, renamed).shift == forecast_target(folder, target).shift


def test_a_far_target_is_called_outside(folder: StudyFolder) -> None:
    target = _target(folder, 2)
    far = replace(target, vectors=target.vectors + np.float32(20))
    assert forecast_target(folder, far).outside


def test_errors(folder: StudyFolder) -> None:
    with pytest.raises(OodmlError, match="unknown split '9'"):
        forecast_target(folder, _target(folder, 0), split="9")
    with pytest.raises(OodmlError, match="needs splits.json and features.npz"):
        forecast_target(replace(folder, features=None), _target(folder, 0))
    few = folder.table[folder.table["split"].isin(["0", "8"])]
    with pytest.raises(OodmlError, match="at least 4 splits"):
        forecast_target(replace(folder, table=few), _target(folder, 0))


def test_left_out_forecasts_of_a_study(folder: StudyFolder) -> None:
    left_out, calibrated = left_out_forecasts(folder)
    assert len(left_out) == 3 * 3 * 4
    assert set(calibrated["measure"]) == {"class_mean_fid", "image_fid", "clustered_fid"}
    nothing = left_out_forecasts(replace(folder, features=None))
    assert all(frame.empty for frame in nothing)


def test_command(made: Made, folder: StudyFolder, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from oodml.cli import app

    _target(folder, 1).save(tmp_path / "target.npz")
    arguments = ["forecast", str(made.folder), "--target", str(tmp_path / "target.npz")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "Expected to hold up best there: multisimilarity" in found.output
