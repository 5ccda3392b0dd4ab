import numpy as np
import pandas as pd
import pytest

from oodml.analysis.table import (
    clip_to_bounds,
    is_quality,
    methods,
    metrics,
    shifts,
    trained,
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
    with pytest.raises(OodmlError) as error:
        zero_shot(results(ROWS), "recal@1")
    assert error.value.given == "recal@1"
    assert error.value.allowed == ("recall@1",)


def test_baselines_are_known_by_what_trains() -> None:
    table = results([*ROWS, ("raw", "8", 30.0, 0, 0.1)])
    table = table.assign(trains=~table["method"].isin(["raw", "frozen"]))
    assert methods(table) == ["b", "frozen", "raw"]
    assert trained(table)["method"].unique().tolist() == ["b"]


def test_clipping_to_what_a_metric_can_be() -> None:
    frame = pd.DataFrame({"low": [-0.2, 0.1], "high": [1.3, 0.2]})
    clipped = clip_to_bounds(frame, "recall@1", ("low", "high", "absent"))
    assert clipped.to_numpy().tolist() == [[0.0, 1.0], [0.1, 0.2]]
