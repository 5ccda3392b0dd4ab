import numpy as np
import pandas as pd
import pytest

from oodml.analysis.diagnostics import epoch_gap
from oodml.analysis.intervals import student_interval
from oodml.results.schema import Stage
from tests.analysis.tables import falling


def with_best_epochs(table: pd.DataFrame, gain: float = 0.01) -> pd.DataFrame:
    """A table of runs with `keep_epochs`: the best test epoch beside the chosen one."""
    chosen = table[table["stage"] == "zero_shot"]
    generator = np.random.default_rng(7)
    best = chosen.assign(
        stage=Stage.BEST_TEST_EPOCH,
        value=chosen["value"] + gain + generator.normal(0, 0.002, len(chosen)),
    )
    epochs = chosen.assign(metric="epoch")
    return pd.concat(
        [table, best, epochs.assign(stage=Stage.BEST_TEST_EPOCH, value=9.0),
         epochs.assign(stage="validation", value=6.0)]
    )  # fmt: skip


def test_the_gap_is_paired_over_seeds() -> None:
    table = with_best_epochs(falling({"b": 0.2, "a": 0.4}))
    result = epoch_gap(table)
    assert result["method"].tolist() == ["a"] * 4 + ["b"] * 4
    assert result["split"].tolist()[:4] == ["0", "6", "10", "30"]
    rows = table.query("method == 'b' and split == '10' and metric == 'recall@1'")
    wide = rows.pivot(index="seed", columns="stage", values="value")
    expected = student_interval(wide[Stage.BEST_TEST_EPOCH] - wide["zero_shot"])
    row = result.query("method == 'b' and split == '10'").iloc[0]
    assert row[["gap", "gap_low", "gap_high", "seeds"]].tolist() == pytest.approx([*expected])
    assert row["best"] - row["chosen"] == pytest.approx(row["gap"])
    assert (row["chosen_epoch"], row["best_epoch"]) == (6.0, 9.0)


def test_one_seed_has_no_interval_and_seeds_without_the_stage_are_skipped() -> None:
    table = with_best_epochs(falling({"a": 0.2}, seeds=2))
    one = table[(table["stage"] != Stage.BEST_TEST_EPOCH) | (table["seed"] == 0)]
    result = epoch_gap(one)
    assert (result["seeds"] == 1).all()
    assert result["gap_low"].isna().all()


def test_empty_without_recorded_epochs() -> None:
    assert epoch_gap(falling({"a": 0.2})).empty
    assert epoch_gap(with_best_epochs(falling({"a": 0.2})), "map@r").empty
