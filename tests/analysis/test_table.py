from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oodml.analysis.table import (
    checked,
    is_quality,
    methods,
    metrics,
    read_table,
    shifts,
    zero_shot,
)
from oodml.errors import OodmlError
from tests.analysis.tables import results

ROWS = [("b", "8", 30.0, 0, 0.5), ("b", "-4", 10.0, 0, 0.7), ("frozen", "8", 30.0, 0, 0.3)]


def test_splits_are_ordered_by_shift() -> None:
    table = results(ROWS)
    assert shifts(table).to_dict() == {"-4": 10.0, "8": 30.0}
    wide = zero_shot(table, "recall@1")
    assert list(wide.columns) == ["-4", "8"]
    np.testing.assert_array_equal(wide.loc[("frozen", 0)], [np.nan, 0.3])


def test_an_infinite_value_counts_as_missing() -> None:
    wide = zero_shot(results([*ROWS, ("c", "8", 30.0, 0, np.inf)]), "recall@1")
    assert np.isnan(wide.loc[("c", 0), "8"])


def test_the_baseline_comes_last() -> None:
    assert methods(results([*ROWS, ("z", "8", 30.0, 0, 0.1)])) == ["b", "z", "frozen"]


def test_recall_comes_first_and_structure_last() -> None:
    names = ("density", "nmi", "recall@1")
    table = pd.concat([results(ROWS, metric) for metric in names])
    assert metrics(table) == ["recall@1", "nmi", "density"]
    assert not is_quality("density")


def test_unknown_metric() -> None:
    with pytest.raises(OodmlError, match="Did you mean 'recall@1'"):
        zero_shot(results(ROWS), "recal@1")


def test_a_number_twice_is_an_error() -> None:
    table = results(ROWS)
    with pytest.raises(OodmlError, match=r"1 numbers stand there twice.*method b"):
        checked(pd.concat([table, table.iloc[:1]]))


def test_a_split_of_two_shifts_is_an_error() -> None:
    with pytest.raises(OodmlError, match="split '8' has several shifts"):
        results([*ROWS, ("c", "8", 31.0, 0, 0.1)])


def test_a_missing_column_is_named() -> None:
    with pytest.raises(OodmlError, match="column 'seed' is missing"):
        checked(results(ROWS).drop(columns="seed"))


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    with pytest.raises(OodmlError, match="no such file"):
        read_table(path)
    table = results(ROWS)
    table.to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path), table)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OodmlError, match="not a readable results table"):
        read_table(path)
