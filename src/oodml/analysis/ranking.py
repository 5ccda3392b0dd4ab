"""Rankings of methods by AGS, with paired comparisons over seeds.

Baselines are constants: they do not train, so their value does not depend on the seed. A trained
method is compared with a baseline by a one-sample t test, and with another trained method by a
paired t test.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oodml.analysis.intervals import (
    SEPARATED,
    Interval,
    ags_interval,
    ags_weights,
    method_interval,
    probability_positive,
    student_interval,
)
from oodml.analysis.table import shifts, standard_split, trained, zero_shot
from oodml.errors import unknown
from oodml.results.schema import baselines_of

PAIR_COLUMNS = ("method", "other", "difference", "low", "high", "n", "probability")


def compare_methods(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Score every method, baselines included.

    Returns:
        One row per method, by descending AGS:

        - `ags`, `ags_low`, `ags_high`, `seeds`: the score, its 95% interval over seeds (NaN for
          baselines and for one seed), and the number of seeds.
        - `level`, `slope`: the least-squares line over the rescaled shift: its value on the
          easiest split, and its change up to the hardest.
        - `easiest`, `standard`, `hardest`, `worst`, `worst_split`: the metric on these splits;
          `standard` is NaN without a standard split.
        - `loss`, `loss_low`, `loss_high`, `relative_loss`: the loss from the standard split (or
          the easiest, without one) to the hardest, and its share of the initial value.
        - `trains`: False for baselines.
        - `rank`: the position in this order.
    """
    wide, shift, baselines = zero_shot(table, metric), shifts(table), baselines_of(table)
    rows = [
        {
            "method": method,
            **_summary(values.droplevel("method"), shift[values.columns], str(method) in baselines),
        }
        for method, values in wide.groupby(level="method", sort=True)
    ]
    order = pd.DataFrame(rows)
    order = order.sort_values(["ags", "hardest", "method"], ascending=[False, False, True])
    order["rank"] = np.arange(1, len(order) + 1)
    return order.reset_index(drop=True)


def _summary(
    values: pd.DataFrame, shift: "pd.Series[float]", constant: bool
) -> dict[str, float | str | int | bool]:
    mean = values.mean()
    hardest, easiest = str(shift.index[-1]), str(shift.index[0])
    standard = standard_split(values.columns)
    start = standard or easiest
    loss = drop(values, start, hardest, constant)
    level, slope = _line(shift, mean)
    score = _score(shift, values, constant)
    return {
        "ags": score.mean, "ags_low": score.low, "ags_high": score.high,
        "seeds": len(values), "level": level, "slope": slope, "easiest": mean[easiest],
        "standard": mean[standard] if standard else np.nan, "hardest": mean[hardest],
        "worst": mean.min(), "worst_split": "" if mean.isna().all() else str(mean.idxmin()),
        "loss": loss.mean, "loss_low": loss.low, "loss_high": loss.high,
        "relative_loss": loss.mean / mean[start] if mean[start] else np.nan,
        "trains": not constant,
    }  # fmt: skip


def drop(values: pd.DataFrame, start: str, end: str, constant: bool = False) -> Interval:
    """The loss from one split to another, paired by seed."""
    paired = (values[start] - values[end]).dropna()
    if len(paired):
        return method_interval(paired, constant)
    return Interval(float(values[start].mean() - values[end].mean()))


def _score(shift: "pd.Series[float]", values: pd.DataFrame, constant: bool) -> Interval:
    if shift.nunique() < 2:
        return Interval()
    score = ags_interval(shift.to_numpy(), values.to_numpy(dtype=np.float64))
    return Interval(score.mean, n=score.n) if constant else score


def _line(shift: "pd.Series[float]", mean: "pd.Series[float]") -> tuple[float, float]:
    known = mean.notna()
    if shift[known].nunique() < 2:
        return float("nan"), float("nan")
    rescaled = (shift - shift.min()) / (shift.max() - shift.min())
    slope, level = np.polyfit(rescaled[known], mean[known], 1)
    return float(level), float(slope)


def ranks(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """The rank of each method's mean on each split: [methods splits], 1 is the highest."""
    means = zero_shot(table, metric).groupby(level="method").mean()
    return means.rank(ascending=False, method="average")


def seed_scores(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """Scores by seed: [seeds methods], NaN where a run is missing.

    Args:
        split: score by the metric on this split instead of AGS.
    """
    wide = zero_shot(table, metric)
    if split is not None:
        if split not in wide.columns:
            raise unknown("split", split, map(str, wide.columns), "results table")
        return wide[split].unstack("method")
    weights = ags_weights(shifts(table)[wide.columns].to_numpy())
    return wide.mul(weights).sum(axis=1, skipna=False).unstack("method")


def compare_pairs(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """Compare every two methods by AGS, or on one split.

    Returns:
        One row per ordered pair (`method`, `other`) with common seeds: the mean `difference`, its
        95% interval (`low`, `high`), the number `n` of seeds, and the `probability` that the
        difference is above zero. Interval and probability are NaN with fewer than two seeds and
        where all differences are equal. Two baselines differ with certainty.
    """
    scores, baselines = seed_scores(table, metric, split), baselines_of(table)
    rows = []
    for first in scores.columns:
        for second in scores.columns:
            differences = _differences(scores, first, second, baselines)
            if first == second or not len(differences):
                continue
            lead = student_interval(differences)
            certain = first in baselines and second in baselines
            probability = (
                (1 + np.sign(lead.mean)) / 2 if certain else probability_positive(differences)
            )
            rows.append((first, second, *lead, float(probability)))
    return pd.DataFrame(rows, columns=[*PAIR_COLUMNS])


def _differences(
    scores: pd.DataFrame, first: str, second: str, baselines: Collection[str]
) -> NDArray[np.float64]:
    both = [
        scores[name].dropna().mean() if name in baselines else scores[name]
        for name in (first, second)
    ]
    difference = np.atleast_1d(np.asarray(both[0] - both[1], dtype=np.float64))
    return difference[np.isfinite(difference)]


def beat_probability(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """The probability that the row's method is better than the column's: [methods methods].

    By AGS over all splits, or on one `split`; see `compare_pairs`. NaN where it is unknown.
    """
    pairs = compare_pairs(table, metric, split)
    names = seed_scores(table, metric, split).columns
    wide = pairs.pivot(index="method", columns="other", values="probability")
    return wide.reindex(index=names, columns=names).astype(np.float64)


def separated_leader(pairs: pd.DataFrame) -> str | None:
    """The method that is better than every other one with a probability of `SEPARATED` or more."""
    names = set(pairs["method"]) | set(pairs["other"])
    wins = pairs[pairs["probability"] >= SEPARATED].groupby("method").size()
    leaders = wins[wins == len(names) - 1]
    return str(leaders.index[0]) if len(leaders) else None


@dataclass(frozen=True)
class Misranking:
    """Whether the standard split alone would have ranked the methods differently.

    Attributes:
        agreement: Kendall's τ between the two rankings.
        inverted: pairs (better by AGS, better on the standard split) where both orders are
            separated.
        tied_inverted: the remaining pairs with a different order.
    """

    agreement: float
    inverted: tuple[tuple[str, str], ...]
    tied_inverted: tuple[tuple[str, str], ...]


def misranking(table: pd.DataFrame, metric: str = "recall@1") -> Misranking | None:
    """Compare the ranking on the standard split with that by AGS, for trained methods.

    An order is certain from a probability of 0.95.

    Returns:
        None without a standard split, a second split, or a second method.
    """
    from scipy.stats import kendalltau

    runs = trained(table)
    wide = zero_shot(runs, metric)
    start = standard_split(wide.columns)
    if start is None or shifts(runs)[wide.columns].nunique() < 2:
        return None
    standard = wide[start].groupby(level="method").mean()
    score = compare_methods(runs, metric).set_index("method")["ags"]
    names = score.dropna().index.intersection(standard.dropna().index)
    standard, score = standard[names], score[names]
    if len(names) < 2:
        return None
    by_standard, overall = beat_probability(runs, metric, start), beat_probability(runs, metric)
    certain: list[tuple[str, str]] = []
    uncertain: list[tuple[str, str]] = []
    for better in names:
        for other in names:
            if score[better] > score[other] and standard[better] < standard[other]:
                lowest = min(overall.loc[better, other], by_standard.loc[other, better])
                (certain if lowest >= 0.95 else uncertain).append((better, other))
    agreement = float(kendalltau(standard, score).statistic)
    return Misranking(agreement, tuple(certain), tuple(uncertain))
