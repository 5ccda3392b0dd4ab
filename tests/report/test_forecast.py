import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.report.folder import StudyFolder, read_study
from oodml.report.forecast import LeftOut, forecast_target, left_out_forecasts, told
from oodml.report.superclasses import superclass_recalls
from oodml.vectors import VectorSet
from tests.report.conftest import Made
from tests.report.study_folder import made_up_study


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
    three = {"margin": ["-4", "0", "8"], "proxy_anchor": ["0", "8", "R6"]}
    apart = [
        folder.table[(folder.table["method"] == method) & folder.table["split"].isin(splits)]
        for method, splits in three.items()
    ]
    with pytest.raises(OodmlError, match="at least 4 splits"):  # means can be checked, lines not
        forecast_target(replace(folder, table=pd.concat(apart)), _target(folder, 0))


def test_left_out_forecasts_of_a_study(folder: StudyFolder) -> None:
    found = left_out_forecasts(folder)
    assert [one.kind for one in found] == ["split"]  # two superclasses are too few to leave out
    splits = found[0]
    assert len(splits.forecasts) == 3 * 4 * (3 + 3 + 1)
    assert set(splits.drawn()) == {"class_mean_fid", "image_fid", "clustered_fid"}
    assert all(len(rows) == 3 * 4 for rows in splits.drawn().values())
    assert splits.flat["fit"] == "flat"
    assert splits.best["error"] == splits.calibration["error"][:-1].min()
    assert splits.chosen is None  # four splits: with two away no line is left to choose by
    assert left_out_forecasts(replace(folder, features=None)) == []


def _left_out(few: bool = False, widening: float = 1.0, **row: float) -> LeftOut:
    start = {"fit": "own", "measure": "image_fid", "forecasts": 40, "error": 0.01}
    good = {"coverage_80": 0.8, "widening_80": widening, "kept_80": 0.8}
    rows = [start | good | (row if few else {}), start | good | {"fit": "flat", "error": 0.03}]
    chosen = None if few else pd.Series(start | good | {"error": 0.012} | row)
    return LeftOut("superclass", "recall@1", pd.DataFrame(), pd.DataFrame(rows), chosen)


def test_how_a_forecast_did_is_told() -> None:
    assert told(_left_out()) == (
        "With superclasses left out, the 80% interval held 80% of the 40 truths when the other "
        "superclasses alone chose the line. "
        "The mean error is 1.2 points; without knowing the shift it is 3.0."
    )
    narrow = told(_left_out(kept_80=0.5, widening=1.7))
    assert "held 50% of the 40 truths when the other superclasses alone chose the line" in narrow
    assert "and widened its interval (now by 1.70), fewer than it should." in narrow
    assert "wider than it could be" in told(_left_out(kept_80=0.97))
    assert "Shift does not help here" in told(_left_out(error=0.04))
    few = told(_left_out(few=True, coverage_80=0.5, widening=1.7))
    assert "50% of the 40 truths, fewer than it should; it is 1.70 times as wide" in few
    assert "These truths chose the line, too: that takes five superclasses to avoid." in few


def test_recall_by_superclass_is_computed_once(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1)
    folder = read_study(tmp_path, images)
    found = superclass_recalls(folder)
    assert len(found) == 3 * (2 + 2 + 2 + 1)  # one split tests one superclass alone
    kept = tmp_path / "report" / "recall_by_superclass.csv"
    written = kept.stat().st_mtime_ns
    pd.testing.assert_frame_equal(superclass_recalls(folder), found)
    assert kept.stat().st_mtime_ns == written
    run = str(found["run"].iloc[0])
    vectors = folder.vectors(run)
    assert vectors is not None
    replace(vectors, vectors=np.ones_like(vectors.vectors)).save(
        tmp_path / "runs" / run / "vectors.npz"
    )
    later = written / 1e9 + 5
    os.utime(tmp_path / "runs" / run / "vectors.npz", (later, later))
    again = superclass_recalls(folder)
    assert (again["run"] == found["run"]).all()
    assert (again["value"] != found["value"]).sum() in (1, 2)


def test_command(made: Made, folder: StudyFolder, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from oodml.cli import app

    _target(folder, 1).save(tmp_path / "target.npz")
    arguments = ["forecast", str(made.folder), "--target", str(tmp_path / "target.npz")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "Expected to hold up best there: multisimilarity" in found.output
