import numpy as np
import pytest

from oodml.analysis.diagnostics import is_control, size_effects, without_controls
from oodml.analysis.intervals import student_interval
from tests.analysis.tables import falling, results

ROWS = [
    ("m", split, shift, seed, value + (0.01 * seed if split == "0" else 0.0))
    for split, shift, value in (
        ("0", 10.0, 0.8), ("R22", 60.0, 0.5), ("R22 control 0", 11.0, 0.76),
        ("R22 control 1", 12.0, 0.74),
    )
    for seed in range(3)
]  # fmt: skip


def test_losses_by_size_and_by_shift() -> None:
    row = size_effects(results(ROWS)).iloc[0]
    assert (row["method"], row["split"], row["controls"]) == ("m", "R22", 2)
    by_size = student_interval([0.05, 0.06, 0.07])
    result = (row["by_size"], row["by_size_low"], row["by_size_high"])
    assert result == pytest.approx(by_size[:3])
    assert row["by_shift"] == pytest.approx(0.25)


def test_controls_are_no_part_of_the_progression() -> None:
    kept = without_controls(results(ROWS))
    assert set(kept["split"]) == {"0", "R22"}
    assert is_control("R22 control 0")
    assert not is_control("R22")


def test_without_controls_or_standard_split() -> None:
    assert size_effects(falling({"m": 0.2})).empty
    no_start = results([row for row in ROWS if row[1] != "0"])
    assert size_effects(no_start).empty


def test_a_missing_run_leaves_no_interval() -> None:
    row = size_effects(results([row for row in ROWS if row[1] != "R22" or row[3] == 0])).iloc[0]
    assert np.isnan(row["by_shift_low"])
    assert row["by_shift"] == pytest.approx(0.25)
