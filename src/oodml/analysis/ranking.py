"""Which method holds up best, by how much, and how sure that is."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from oodml.analysis.ags import ags_weights
from oodml.analysis.intervals import Interval, ags_interval, probability_positive, student_interval
from oodml.analysis.table import shifts, standard_split, trained, zero_shot
from oodml.errors import OodmlError


def compare_methods(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """One row a method, the highest AGS first.

    ags, ags_low, ags_high, seeds: the score, its 95% interval, and how many seeds it rests on.
    level, slope: the least-squares line over the rescaled shift: its value at the easiest split
    and its change up to the hardest.
    easiest, standard, hardest, worst, worst_split: the metric there (standard: NaN without it).
    loss, loss_low, loss_high: what is lost from the standard (else the easiest) split to the
    hardest; relative_loss: as a share of what there was.
    """
    wide, shift = zero_shot(table, metric), shifts(table)
    rows = [
        {"method": method, **_summary(values.droplevel("method"), shift[values.columns])}
        for method, values in wide.groupby(level="method", sort=True)
    ]
    order = pd.DataFrame(rows)
    order = order.sort_values(["ags", "hardest", "method"], ascending=[False, False, True])
    order["rank"] = np.arange(1, len(order) + 1)
    return order.reset_index(drop=True)


def _summary(values: pd.DataFrame, shift: "pd.Series[float]") -> dict[str, float | str | int]:
    mean = values.mean()
    hardest, easiest = str(shift.index[-1]), str(shift.index[0])
    start = standard_split(values.columns) or easiest
    loss = drop(values, start, hardest)
    level, slope = _line(shift, mean)
    score = _score(shift, values)
    return {
        "ags": score.mean, "ags_low": score.low, "ags_high": score.high,
        "seeds": len(values), "level": level, "slope": slope,
        "easiest": mean[easiest], "standard": mean.get("0", np.nan), "hardest": mean[hardest],
        "worst": mean.min(), "worst_split": "" if mean.isna().all() else str(mean.idxmin()),
        "loss": loss.mean, "loss_low": loss.low, "loss_high": loss.high,
        "relative_loss": loss.mean / mean[start] if mean[start] else np.nan,
    }  # fmt: skip


def drop(values: pd.DataFrame, start: str, end: str) -> Interval:
    """How much the metric falls between two splits, seed by seed; values: [seeds splits]."""
    paired = (values[start] - values[end]).dropna()
    if len(paired):
        return student_interval(paired)
    return Interval(float(values[start].mean() - values[end].mean()), np.nan, np.nan, 0)


def _score(shift: "pd.Series[float]", values: pd.DataFrame) -> Interval:
    if shift.nunique() < 2:
        return Interval(np.nan, np.nan, np.nan, 0)
    return ags_interval(shift.to_numpy(), values.to_numpy(dtype=np.float64))


def _line(shift: "pd.Series[float]", mean: "pd.Series[float]") -> tuple[float, float]:
    known = mean.notna()
    if shift[known].nunique() < 2:
        return float("nan"), float("nan")
    rescaled = (shift - shift.min()) / (shift.max() - shift.min())
    slope, level = np.polyfit(rescaled[known], mean[known], 1)
    return float(level), float(slope)


def ranks(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Methods × splits: the rank of each method's mean, 1 the best, equal ones share."""
    means = zero_shot(table, metric).groupby(level="method").mean()
    return means.rank(ascending=False, method="average")


def seed_scores(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """Seeds × methods: AGS, or with `split` the metric there; NaN where a run is missing."""
    wide = zero_shot(table, metric)
    if split is not None:
        if split not in wide.columns:
            raise OodmlError(f"no split {split!r}; there are {', '.join(wide.columns)}")
        return wide[split].unstack("method")
    weights = ags_weights(shifts(table)[wide.columns].to_numpy())
    return wide.mul(weights).sum(axis=1, skipna=False).unstack("method")


def beat_probability(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """Methods × methods: the probability that the row's method is better than the column's.

    Paired over seeds, and by AGS over all splits, or on one `split` only. A Student-t
    statement about the seeds' paired differences; NaN where fewer than two seeds are common.
    """
    scores = seed_scores(table, metric, split)
    names = scores.columns
    result = pd.DataFrame(np.nan, index=names, columns=names)
    for first in names:
        for second in names:
            differences = (scores[first] - scores[second]).dropna()
            if first != second and len(differences) > 1:
                result.loc[first, second] = probability_positive(differences)
    return result


def share_won(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Methods × methods: on what share of (split, seed) pairs the row's beats the column's."""
    cells = zero_shot(table, metric).stack().unstack("method")
    names = cells.columns
    result = pd.DataFrame(np.nan, index=names, columns=names)
    for first in names:
        for second in names:
            differences = (cells[first] - cells[second]).dropna()
            if first != second and len(differences):
                won = (differences > 0).mean() + (differences == 0).mean() / 2
                result.loc[first, second] = won
    return result


@dataclass(frozen=True)
class Misranking:
    """Whether the standard split alone would have ranked the methods wrongly.

    agreement: Kendall's tau between the ranking there and the ranking by AGS.
    inverted: pairs (better by AGS, better on the standard split), each order with the
    probability of `level` or more.
    tied_inverted: pairs in the other order whose order is not so sure.
    """

    standard: tuple[str, ...]
    overall: tuple[str, ...]
    agreement: float
    inverted: tuple[tuple[str, str], ...]
    tied_inverted: tuple[tuple[str, str], ...]


def misranking(
    table: pd.DataFrame, metric: str = "recall@1", level: float = 0.95
) -> Misranking | None:
    """Compare the standard split's ranking with that by AGS; None without standard split."""
    from scipy.stats import kendalltau

    runs = trained(table)
    wide = zero_shot(runs, metric)
    if standard_split(wide.columns) is None or shifts(runs)[wide.columns].nunique() < 2:
        return None
    there = wide["0"].groupby(level="method").mean()
    score = compare_methods(runs, metric).set_index("method")["ags"]
    names = score.dropna().index.intersection(there.dropna().index)
    there, score = there[names], score[names]
    if len(names) < 2:
        return None
    on_standard, overall = beat_probability(runs, metric, "0"), beat_probability(runs, metric)
    sure: list[tuple[str, str]] = []
    unsure: list[tuple[str, str]] = []
    for better in names:
        for other in names:
            if score[better] > score[other] and there[better] < there[other]:
                certain = min(overall.loc[better, other], on_standard.loc[other, better]) >= level
                (sure if certain else unsure).append((better, other))
    return Misranking(
        tuple(there.sort_values(ascending=False, kind="stable").index),
        tuple(score.sort_values(ascending=False, kind="stable").index),
        float(kendalltau(there, score).statistic),
        tuple(sure),
        tuple(unsure),
    )
