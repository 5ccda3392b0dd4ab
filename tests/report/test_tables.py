import numpy as np
import pytest

from oodml.analysis.intervals import student_interval
from oodml.analysis.table import shifts, zero_shot
from oodml.report.folder import read_folder
from oodml.report.tables import chance_levels, curves, image_counts, split_sizes
from tests.analysis.tables import falling, results
from tests.report.conftest import Made


def test_curves_are_means_with_their_interval() -> None:
    table = falling({"a": 0.2, "b": 0.4})
    result = curves(zero_shot(table, "recall@1"), "recall@1", shifts(table)).set_index(
        ["method", "split"]
    )
    values = table[(table["method"] == "b") & (table["split"] == "6")]["value"]
    row = result.loc[("b", "6")]
    assert tuple(row[["mean", "low", "high", "n"]]) == pytest.approx(student_interval(values))
    assert result.loc["a"]["shift"].is_monotonic_increasing


def test_missing_runs_have_no_point() -> None:
    table = results([("a", "0", 1.0, 0, 0.5), ("a", "4", 2.0, 0, 0.4), ("b", "4", 2.0, 0, 0.3)])
    result = curves(zero_shot(table, "recall@1"), "recall@1", shifts(table))
    assert result[["method", "split"]].values.tolist() == [["a", "0"], ["a", "4"], ["b", "4"]]
    assert np.isnan(result["low"]).all()


def test_sizes_and_chance(made: Made) -> None:
    folder = read_folder(made.folder, made.images)
    counts = image_counts(made.images)
    sizes = split_sizes(folder.table, folder.progression, counts)
    assert sizes["split"].tolist() == ["-4", "0", "8", "R6"]
    assert sizes[["train", "test", "images"]].values.tolist() == [[12, 12, 72]] * 4
    levels = chance_levels(folder.table, folder.progression, counts)
    recall = levels.query("metric == 'recall@1'")
    assert recall["chance"].tolist() == pytest.approx([5 / 71] * 4)
    assert recall["split"].tolist() == ["-4", "0", "8", "R6"]
    assert chance_levels(folder.table, None, {}).empty
    assert split_sizes(folder.table, None, {})["train"].isna().all()
