"""Where retrieval fails: recall of superclasses and classes, confused pairs, and what explains it.

The functions take confusions: the rows of `oodml.evaluate.confusions.confusions` for every run,
with the columns `method`, `split`, and `seed`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.evaluate.compare import class_draws

LEVEL_Z = 1.959964
FALSE_DISCOVERIES = 0.1
MIN_CLASSES = 20
"""Classes that a regression requires."""
PAIRS = 50
"""Confused pairs per method and split."""
TRAITS = ("images_per_class", "nearest_class", "similarity_to_training")
Traits = Float[np.ndarray, "n t"]
Values = Float[np.ndarray, " n"]


def class_recalls(confusions: pd.DataFrame) -> pd.DataFrame:
    """One row per method, split, and class: `superclass`, `recall` (the mean over seeds),
    `queries`, and the bounds of the 95% Wilson interval of that number of queries."""
    key = ["method", "split", "seed", "class", "superclass"]
    is_hit = confusions["class"] == confusions["other"]
    counted = confusions.assign(hits=confusions["count"].where(is_hit, 0))
    runs = counted.groupby(key)[["count", "hits"]].sum()
    means = (runs["hits"] / runs["count"]).groupby(level=[0, 1, 3, 4]).mean()
    queries = runs["count"].groupby(level=[0, 1, 3, 4]).max()
    low, high = wilson_interval(means.to_numpy(float), queries.to_numpy(float))
    table = pd.DataFrame({"recall": means, "low": low, "high": high, "queries": queries})
    return table.reset_index()


def wilson_interval(share: Values, count: Values) -> tuple[Values, Values]:
    """The 95% interval of a share of independent trials (Wilson 1927)."""
    z2 = LEVEL_Z**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def kind_recalls(recalls: pd.DataFrame, seed: int = 0, resamples: int = 2000) -> pd.DataFrame:
    """Recall@1 of each superclass by method and split, from `class_recalls`, with the 95% interval
    from resampling its classes (NaN for a single class), `classes`, and `queries`."""
    rows = []
    named = recalls[recalls["superclass"] != ""]
    for key, part in named.groupby(["method", "split", "superclass"], sort=False):
        counts = part["queries"].to_numpy(float)
        hits = part["recall"].to_numpy(float) * counts
        low = high = float("nan")
        if len(part) > 1:
            draws = np.concatenate([*class_draws(len(part), resamples, seed)])
            low, high = np.quantile((draws @ hits) / (draws @ counts), [0.025, 0.975])
        rows.append((*key, hits.sum() / counts.sum(), low, high, len(part), int(counts.sum())))
    columns = ["method", "split", "superclass", "recall", "low", "high", "classes", "queries"]
    return pd.DataFrame(rows, columns=columns)


def confused_pairs(confusions: pd.DataFrame, most: int = PAIRS) -> pd.DataFrame:
    """The `most` pairs of classes that each method confuses most often on each split: `class`,
    `other`, the `share` of the class's queries whose nearest image has the other class (the mean
    over seeds), and the ids of one such pair of images, `query` and `neighbor`."""
    by_class = ["method", "split", "class"]
    seeds = confusions.groupby(["method", "split"])["seed"].nunique()
    totals = confusions.groupby([*by_class, "seed"])["count"].sum()
    totals = totals.groupby(level=[0, 1, 2]).mean().rename("total")
    wrong = confusions[confusions["class"] != confusions["other"]]
    grouped = wrong.sort_values("count", ascending=False).groupby([*by_class, "other"])
    table = grouped[["query", "neighbor"]].first().assign(count=grouped["count"].sum())
    table = table.reset_index().merge(totals.reset_index(), on=by_class)
    n_seeds = seeds.reindex(pd.MultiIndex.from_frame(table[by_class[:2]])).to_numpy(float)
    table["share"] = table["count"] / n_seeds / table["total"]
    table = table.sort_values(["share", "count"], ascending=False, kind="stable")
    best = table.groupby(by_class[:2], sort=False).head(most)
    columns = [*by_class, "other", "share", "query", "neighbor"]
    return best.sort_values(by_class[:2], kind="stable")[columns].reset_index(drop=True)


def exceptions(recalls: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Classes on which another method is better than the leader, the first of `order`.

    One row per other method and such class. Recall is averaged over the splits that test a class
    with both methods. The 95% interval of the difference adds a success and a failure to each side
    (Agresti & Caffo 2000); it is too wide, as both methods answer the same queries. `separated`
    differences have at most 10% false discoveries among all classes (Benjamini & Hochberg).
    """
    from scipy.special import ndtr
    from scipy.stats import false_discovery_control

    wide = recalls.pivot_table("recall", ["split", "class"], "method")
    queries = recalls.groupby("class")["queries"].max()
    parts = []
    for method in order[1:] if order[0] in wide else ():
        names = [name for name in (method, order[0]) if name in wide]
        means = wide[names].dropna().groupby(level="class").mean()
        if len(names) < 2 or means.empty:
            continue
        b, a = means.to_numpy(float).T
        count = queries[means.index].to_numpy(float)
        shares = [(count * share + 1) / (count + 2) for share in (b, a)]
        error = np.sqrt(sum(share * (1 - share) for share in shares) / (count + 2))
        middle = shares[0] - shares[1]
        p = false_discovery_control(2 * ndtr(-np.abs(middle) / error))
        table = pd.DataFrame(
            {"method": method, "leader": order[0], "class": means.index, "recall": b,
             "leader_recall": a, "difference": b - a, "low": middle - LEVEL_Z * error,
             "high": middle + LEVEL_Z * error, "separated": p <= FALSE_DISCOVERIES}
        )[b > a]  # fmt: skip
        parts.append(table.sort_values("difference", ascending=False, kind="stable"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def explain_recall(
    recalls: pd.DataFrame, traits: pd.DataFrame, seed: int = 0, resamples: int = 1000
) -> pd.DataFrame:
    """A linear regression of the recall of classes on their standardized `TRAITS`.

    Splits have their own intercept, so that coefficients do not reflect how hard a split is. One
    row per method and trait: `effect` (the change of recall per standard deviation), its 95%
    interval over classes, `explained` (the share of the variance within splits that is explained
    for classes left out of the regression), and `classes`; empty for fewer than 20 classes.
    """
    rows, columns = [], ["recall", *TRAITS]
    for method, part in recalls.merge(traits, on=["split", "class"]).groupby("method", sort=False):
        values = part[columns].to_numpy(float)
        values -= part.groupby("split")[columns].transform("mean").to_numpy(float)
        scale = values.std(0)
        used = np.flatnonzero(scale[1:] > 1e-9)
        names, groups = np.unique(part["class"].to_numpy(), return_inverse=True)
        if len(names) < MIN_CLASSES or not len(used):
            continue
        x, y = values[:, 1 + used] / scale[1 + used], values[:, 0]
        effects = np.linalg.lstsq(x, y, rcond=None)[0]
        draws = _resampled_effects(x, y, groups, seed, resamples)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        explained = _explained(x, y, groups, seed)
        rows += [
            (method, TRAITS[position], *bounds, explained, len(names))
            for position, *bounds in zip(used, effects, low, high, strict=True)
        ]
    columns = ["method", "trait", "effect", "low", "high", "explained", "classes"]
    return pd.DataFrame(rows, columns=columns)


def _resampled_effects(
    x: Traits, y: Values, groups: NDArray[np.int64], seed: int, resamples: int
) -> Float[np.ndarray, "r t"]:
    n = int(groups.max()) + 1
    gram, moments = np.zeros((n, x.shape[1], x.shape[1])), np.zeros((n, x.shape[1]))
    np.add.at(gram, groups, x[:, :, None] * x[:, None])
    np.add.at(moments, groups, x * y[:, None])
    draws = np.concatenate([*class_draws(n, resamples, seed)])
    sums = np.tensordot(draws, gram, 1) + 1e-9 * np.eye(x.shape[1])
    return np.linalg.solve(sums, (draws @ moments)[:, :, None])[:, :, 0]


def _explained(x: Traits, y: Values, groups: NDArray[np.int64], seed: int) -> float:
    """The share of variance explained in ten-fold cross-validation over classes."""
    folds = np.random.default_rng(seed).permutation(np.arange(groups.max() + 1) % 10)[groups]
    errors = np.empty(len(y))
    for fold in range(10):
        rest = folds != fold
        errors[~rest] = y[~rest] - x[~rest] @ np.linalg.lstsq(x[rest], y[rest], rcond=None)[0]
    return float(1 - (errors**2).sum() / (y**2).sum()) if (y**2).sum() > 0 else float("nan")
