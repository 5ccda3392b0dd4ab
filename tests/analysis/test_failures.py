import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LinearRegression

from oodml.analysis.failures import (
    TRAITS,
    class_recalls,
    confused_pairs,
    exceptions,
    explain_recall,
    kind_recalls,
    wilson_interval,
)


def _confusions(recalls: dict[str, float], method: str = "a", seeds: int = 2) -> pd.DataFrame:
    """Twenty queries per class; the wrong ones have their nearest image in the next class."""
    names = list(recalls)
    rows = []
    for seed in range(seeds):
        for i, name in enumerate(names):
            hits = round(20 * recalls[name])
            other = names[(i + 1) % len(names)]
            for target, count in ((name, hits), (other, 20 - hits)):
                if count:
                    rows.append((name, target, f"{name}/q", f"{target}/n", count, name[0], seed))
    columns = ["class", "other", "query", "neighbor", "count", "superclass", "seed"]
    return pd.DataFrame(rows, columns=columns).assign(method=method, split="0")


def test_wilson_interval_equals_scipy() -> None:
    low, high = wilson_interval(np.array([0.3, 1.0]), np.array([20.0, 7.0]))
    for i, (hits, n) in enumerate([(6, 20), (7, 7)]):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_recall_of_classes_and_kinds() -> None:
    recalls = class_recalls(_confusions({"a1": 0.5, "a2": 1.0, "b1": 0.0}))
    assert recalls["recall"].tolist() == [0.5, 1.0, 0.0]
    assert recalls["queries"].tolist() == [20, 20, 20]
    kinds = kind_recalls(recalls).set_index("superclass")
    assert kinds.loc["a", "recall"] == 0.75
    assert (kinds.loc["a", "low"], kinds.loc["a", "high"]) == (0.5, 1.0)
    assert np.isnan(kinds.loc["b", "low"])


def test_pairs_by_share() -> None:
    pairs = confused_pairs(_confusions({"a1": 0.5, "a2": 1.0, "b1": 0.0}))
    assert pairs[["class", "other"]].to_numpy().tolist() == [["b1", "a1"], ["a1", "a2"]]
    assert pairs["share"].tolist() == [1.0, 0.5]
    assert pairs["query"].tolist() == ["b1/q", "a1/q"]


def test_planted_bad_classes_of_the_leader_are_found_and_no_others() -> None:
    names = [f"c{i:02d}" for i in range(40)]
    leader = dict.fromkeys(names, 0.9) | {"c03": 0.2, "c17": 0.3}
    other = dict.fromkeys(names, 0.85)
    both = pd.concat([_confusions(leader), _confusions(other, "b")])
    table = exceptions(class_recalls(both), ["a", "b"])
    assert set(table.loc[table["separated"], "class"]) == {"c03", "c17"}
    assert table["difference"].tolist() == pytest.approx([0.65, 0.55])
    same = pd.concat([_confusions(other), _confusions(other, "b")])
    assert exceptions(class_recalls(same), ["a", "b"]).empty


def test_chance_differences_are_rarely_separated() -> None:
    generator = np.random.default_rng(0)
    separated = []
    for _ in range(100):
        draws = generator.binomial(20, 0.7, (2, 30)) / 20
        frames = [
            _confusions({f"c{i}": share for i, share in enumerate(row)}, method, 1)
            for method, row in zip("ab", draws, strict=True)
        ]
        table = exceptions(class_recalls(pd.concat(frames)), ["a", "b"])
        separated.append(bool(table["separated"].any()))
    assert np.mean(separated) <= 0.1


def _explained(effect: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(seed)
    names = [f"c{i:02d}" for i in range(60)]
    traits = pd.DataFrame(generator.normal(size=(60, 3)), columns=[*TRAITS])
    traits = traits.assign(split="0", **{"class": names})
    recall = 0.5 + effect * traits[TRAITS[1]] + generator.normal(0, 0.05, 60)
    recalls = pd.DataFrame({"method": "a", "split": "0", "class": names, "recall": recall})
    return recalls, traits


def test_regression_equals_scikit_learn_and_finds_the_planted_trait() -> None:
    recalls, traits = _explained(0.1, 0)
    table = explain_recall(recalls, traits).set_index("trait")
    x = traits[[*TRAITS]].to_numpy()
    fit = LinearRegression().fit((x - x.mean(0)) / x.std(0), recalls["recall"])
    assert table["effect"].to_numpy() == pytest.approx(fit.coef_)
    assert table.loc[TRAITS[1], "low"] > 0.05
    assert table["effect"].abs().drop(TRAITS[1]).max() < 0.03
    assert 0.6 < table["explained"].iloc[0] < 0.95


def test_regression_explains_nothing_where_nothing_was_planted() -> None:
    explained, covered = [], []
    for seed in range(60):
        table = explain_recall(*_explained(0.0, seed), resamples=300)
        explained.append(table["explained"].iloc[0])
        covered += ((table["low"] <= 0) & (table["high"] >= 0)).tolist()
    assert np.mean(explained) < 0.02
    assert np.mean(covered) > 0.88
