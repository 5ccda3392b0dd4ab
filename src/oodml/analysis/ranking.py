"""Rankings of methods by AGS, with paired comparisons over seeds.

Baselines are constants: they do not train, so their value does not depend on the seed. A trained
method is compared with a baseline by a one-sample t test, and with another trained method by a
paired t test.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from oodml.analysis import intervals
from oodml.analysis.intervals import SEPARATED, Interval
from oodml.analysis.table import shifts, standard_split, trained, zero_shot
from oodml.errors import unknown
from oodml.results.schema import baselines_of

PAIR_COLUMNS = ("method", "other", "difference", "low", "high", "n", "probability")


def compare_methods(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Score every method, baselines included.

    Returns:
        One row per method, by descending `ags` (with its 95% interval over `seeds`, NaN for
        baselines and for one seed): `level` and `slope`, the value of the least-squares line over
        the rescaled shift on the easiest split and its change up to the hardest; the metric on the
        splits `easiest`, `standard` (NaN without one), `hardest`, and `worst` (`worst_split`);
        `loss`, from the standard split (or the easiest, without one) to the hardest, and its share
        `relative_loss` of the initial value; `trains`, False for baselines; and `rank`.
    """
    wide, baselines = zero_shot(table, metric), baselines_of(table)
    shift = shifts(table)[wide.columns]
    rows = [
        {"method": method} | _summary(values.droplevel("method"), shift, str(method) in baselines)
        for method, values in wide.groupby(level="method", sort=True)
    ]
    order = pd.DataFrame(rows)
    order = order.sort_values(["ags", "hardest", "method"], ascending=[False, False, True])
    return order.assign(rank=np.arange(1, len(order) + 1)).reset_index(drop=True)


def _summary(values: pd.DataFrame, shift: "pd.Series[float]", constant: bool) -> dict[str, Any]:
    mean, distance = values.mean().to_numpy(), shift.to_numpy()
    splits = list(shift.index)
    standard = standard_split(splits)
    start = splits[0] if standard is None else standard
    loss = drop(values, start, splits[-1], constant)
    score, level, slope = Interval(), np.nan, np.nan
    if len(set(distance)) > 1:
        score = intervals.ags_interval(distance, values.to_numpy(dtype=np.float64))
        score = Interval(score.mean, n=score.n) if constant else score
    known = ~np.isnan(mean)
    if len(set(distance[known])) > 1:
        rescaled = (distance - distance.min()) / (distance.max() - distance.min())
        slope, level = map(float, np.polyfit(rescaled[known], mean[known], 1))
    initial, worst = mean[splits.index(start)], np.where(known, mean, np.inf).argmin()
    return {
        "ags": score.mean, "ags_low": score.low, "ags_high": score.high,
        "seeds": len(values), "level": level, "slope": slope, "easiest": mean[0],
        "standard": np.nan if standard is None else initial, "hardest": mean[-1],
        "worst": mean[worst], "worst_split": splits[worst] if known.any() else "",
        "loss": loss.mean, "loss_low": loss.low, "loss_high": loss.high,
        "relative_loss": loss.mean / initial if initial else np.nan,
        "trains": not constant,
    }  # fmt: skip


def drop(values: pd.DataFrame, start: str, end: str, constant: bool = False) -> Interval:
    """The loss from one split to another, paired by seed."""
    paired = (values[start] - values[end]).dropna()
    if len(paired):
        return intervals.method_interval(paired, constant)
    return Interval(float(values[start].mean() - values[end].mean()))


def ranks(wide: pd.DataFrame) -> pd.DataFrame:
    """The rank of each method's mean on each split, [methods splits], from `zero_shot`."""
    return wide.groupby(level="method").mean().rank(ascending=False, method="average")


def seed_scores(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """Scores by seed, [seeds methods]: AGS, or the metric on one `split`; NaN for missing runs."""
    wide = zero_shot(table, metric)
    if split is not None and split not in wide.columns:
        raise unknown("split", split, map(str, wide.columns), "results table")
    return scores_by_seed(wide, shifts(table), split)


def scores_by_seed(
    wide: pd.DataFrame, shift: "pd.Series[float]", split: str | None = None
) -> pd.DataFrame:
    """`seed_scores` from `zero_shot` and `shifts`."""
    if split is not None:
        return wide[split].unstack("method")
    weights = intervals.ags_weights(shift[wide.columns].to_numpy())
    return wide.mul(weights).sum(axis=1, skipna=False).unstack("method")


def compare_pairs(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """Compare every two methods by AGS, or on one split.

    One row per ordered pair (`method`, `other`) with common seeds: the mean `difference`, its 95%
    interval (`low`, `high`), the number `n` of seeds, and the `probability` that it is above zero,
    NaN for fewer than two seeds and equal differences. Two baselines differ with certainty.
    """
    rows = pair_rows(seed_scores(table, metric, split), baselines_of(table))
    return pd.DataFrame(rows, columns=[*PAIR_COLUMNS])


def pair_rows(scores: pd.DataFrame, baselines: Collection[str]) -> list[tuple[Any, ...]]:
    """The rows of `compare_pairs` from the scores [seeds methods] of `seed_scores`."""
    values = {
        name: scores[name].dropna().mean() if name in baselines else scores[name].to_numpy(float)
        for name in scores
    }
    rows = []
    for first, one in values.items():
        for second, other in values.items():
            differences = np.atleast_1d(np.asarray(one - other, dtype=np.float64))
            differences = differences[np.isfinite(differences)]
            if first == second or not len(differences):
                continue
            lead = intervals.student_interval(differences)
            certain = first in baselines and second in baselines
            sign = (1 + np.sign(lead.mean)) / 2
            probability = sign if certain else intervals.probability_positive(differences)
            rows.append((first, second, *lead, float(probability)))
    return rows


def beat_probability(
    table: pd.DataFrame, metric: str = "recall@1", split: str | None = None
) -> pd.DataFrame:
    """The probability that the row's method is better than the column's: [methods methods].

    By AGS over all splits, or on one `split`; see `compare_pairs`. NaN where it is unknown.
    """
    names = seed_scores(table, metric, split).columns
    pairs = compare_pairs(table, metric, split)
    wide = pairs.pivot(index="method", columns="other", values="probability")
    return wide.reindex(index=names, columns=names).astype(np.float64)


def separated_leader(rows: Sequence[tuple[Any, ...]]) -> str | None:
    """The method that is better than every other one with a probability of `SEPARATED` or more."""
    others = {name for name, *_ in rows}
    wins = Counter(name for name, *_, probability in rows if probability >= SEPARATED)
    return next((name for name, count in wins.items() if count == len(others) - 1), None)


class Misranking(NamedTuple):
    """Whether the standard split alone would have ranked the methods differently.

    `agreement` is Kendall's τ between the two rankings. Pairs (better by AGS, better on the
    standard split) are `inverted` where both orders are certain, and otherwise `tied_inverted`.
    """

    agreement: float
    inverted: tuple[tuple[str, str], ...]
    tied_inverted: tuple[tuple[str, str], ...]


def misranking(
    table: pd.DataFrame, metric: str = "recall@1", scores: pd.DataFrame | None = None
) -> Misranking | None:
    """Compare the ranking on the standard split with that by AGS, for trained methods.

    An order is certain from a probability of 0.95. None without a standard split, a second split,
    or a second method. `scores` is `compare_methods` of the trained methods, if already computed.
    """
    from scipy.stats import kendalltau

    runs = trained(table)
    wide = zero_shot(runs, metric)
    start = standard_split(wide.columns)
    shift = shifts(runs)[wide.columns]
    if start is None or shift.nunique() < 2:
        return None
    scores = compare_methods(runs, metric) if scores is None else scores
    standard = wide[start].groupby(level="method").mean()
    known = scores.set_index("method")[["ags"]].assign(standard=standard).dropna()
    if len(known) < 2:
        return None
    inverted = [
        (better, other)
        for (better, ags, standard), (other, lower, higher) in product(known.itertuples(), repeat=2)
        if ags > lower and standard < higher
    ]
    agreement = float(kendalltau(known["standard"], known["ags"]).statistic)
    overall, on_standard = (
        {(one, other): p for one, other, *_, p in pair_rows(table, ())}
        for table in (scores_by_seed(wide, shift), scores_by_seed(wide, shift, start))
    )
    certain = [p for p in inverted if overall.get(p, 0) >= 0.95 <= on_standard.get(p[::-1], 0)]
    return Misranking(agreement, tuple(certain), tuple(p for p in inverted if p not in certain))
