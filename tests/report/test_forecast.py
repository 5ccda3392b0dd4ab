from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.report.folder import StudyFolder, read_folder
from oodml.report.forecast import (
    LeftOut,
    describe_left_out,
    forecast_target,
    left_out_forecasts,
    superclass_recalls,
)
from oodml.vectors import VectorSet
from tests.report.conftest import Made
from tests.report.study_folder import made_up_study


@pytest.fixture(scope="module")
def folder(made: Made) -> StudyFolder:
    return read_folder(made.folder, made.images)


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


def test_labels_of_the_target_are_not_used(folder: StudyFolder) -> None:
    target = _target(folder, 2)
    renamed = replace(target, classes=np.full(len(target), "?"))
    assert forecast_target(folder, renamed).shift == forecast_target(folder, target).shift


def test_a_far_target_is_called_outside(folder: StudyFolder) -> None:
    target = _target(folder, 2)
    far = replace(target, vectors=target.vectors + np.float32(20))
    assert forecast_target(folder, far).outside


def test_errors(folder: StudyFolder) -> None:
    with pytest.raises(OodmlError) as error:
        forecast_target(folder, _target(folder, 0), split="9")
    assert error.value.given == "9"
    with pytest.raises(OodmlError, match=r"features\.npz"):
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
    found = left_out_forecasts(folder, superclass_recalls(folder))
    assert [one.kind for one in found] == ["split"]  # two superclasses are too few to leave out
    splits = found[0]
    assert len(splits.forecasts) == 3 * 4 * (3 + 3 + 1)
    counts = splits.drawn()["measure"].value_counts().to_dict()
    assert counts == dict.fromkeys(("class_mean_fid", "image_fid", "clustered_fid"), 3 * 4)
    assert splits.flat["fit"] == "flat"
    assert splits.best["error"] == splits.calibration["error"][:-1].min()
    assert splits.chosen is None  # four splits: with two away no line is left to choose by
    assert left_out_forecasts(replace(folder, features=None), superclass_recalls(folder)) == []


def _left_out(few: bool = False, widening: float = 1.0, **row: float) -> LeftOut:
    start = {"fit": "own", "measure": "image_fid", "forecasts": 40, "error": 0.01}
    good = {"coverage_80": 0.8, "widening_80": widening, "widened_coverage_80": 0.8}
    rows = [start | good | (row if few else {}), start | good | {"fit": "flat", "error": 0.03}]
    chosen = None if few else pd.Series(start | good | {"error": 0.012} | row)
    return LeftOut("superclass", "recall@1", pd.DataFrame(), pd.DataFrame(rows), chosen)


def test_the_description_names_coverage_and_error() -> None:
    text = describe_left_out(_left_out())
    assert "80% of the 40 values" in text
    assert "1.2 points" in text
    assert "3.0" in text
    narrow = describe_left_out(_left_out(widened_coverage_80=0.5, widening=1.7))
    assert "50% of the 40 values, fewer" in narrow
    assert "1.70" in narrow
    assert "too wide" in describe_left_out(_left_out(widened_coverage_80=0.97))
    assert "does not improve" in describe_left_out(_left_out(error=0.04))
    few = describe_left_out(_left_out(few=True, coverage_80=0.5, widening=1.7))
    assert "50% of the 40 values, fewer" in few
    assert "at least five superclasses" in few


def test_recall_by_superclass_is_read_from_the_run_or_computed(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1)
    folder = read_folder(tmp_path, images)
    recalls = superclass_recalls(folder)
    assert len(recalls) == 3 * (2 + 2 + 2 + 1)  # one split tests one superclass alone
    assert not (tmp_path / "report").exists()
    run = str(recalls["run"].iloc[0])
    stored = pd.DataFrame({"superclass": ["round"], "value": [0.25]})
    stored.to_parquet(tmp_path / "runs" / run / "superclasses.parquet")
    again = superclass_recalls(folder)
    assert again[again["run"] == run]["value"].tolist() == [0.25]


def test_command(made: Made, folder: StudyFolder, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from oodml.cli import app

    _target(folder, 1).save(tmp_path / "target.npz")
    arguments = ["forecast", str(made.folder), "--target", str(tmp_path / "target.npz")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "multisimilarity" in found.output
