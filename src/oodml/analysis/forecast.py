"""Forecasts of Recall@1 on an unlabeled target: the level of the frozen network, and gains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from oodml.analysis.signal_models import fit_level, fit_ridge, from_logit, to_logit
from oodml.analysis.small_targets import SmallTargets, hint
from oodml.errors import OodmlError

LEVELS = (0.8, 0.95)
NEAR = float(np.log(2))
"""Errors on small targets of other sizes count less: the standard deviation of their Gaussian
weights, in log images and log images per class. With twice the images, an error counts 61%."""
MIN_GROUPS = 5
"""With fewer groups, an interval cannot be calibrated; the largest error is used."""
MIN_OTHERS = 5
"""A group is left out if at least this many small targets have no classes of it."""
Predict = Callable[[Any], Float[np.ndarray, " k"]]
"""A fitted model: from what is known of a target to the predictions of k candidates."""
Targets = Float[np.ndarray, " t"]
Rows = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class TargetSignals:
    """What is known of a target without labels: the signals of its queries, its number of images,
    its mean shift from the training classes of the splits, and its number of classes if given."""

    values: Float[np.ndarray, "q s"]
    images: int
    shift: float
    classes: float | None = None


@dataclass(frozen=True)
class TargetForecast:
    """The forecast for a target.

    `methods` are sorted by `expected` Recall@1, with its bounds `low_80` to `high_95`, and the
    `gain` over the features of the frozen network with `gain_low_80` and `gain_high_80`. `sizes`
    has the rows "images per class", "classes", and "singletons" (the share of images without a
    partner), with `expected`, and `low` and `high` of an 80% interval.
    """

    methods: pd.DataFrame
    sizes: pd.DataFrame
    correct: Float[np.ndarray, " q"]  # the chance that the frozen network's neighbor is correct
    outside: tuple[str, ...]  # signals outside the range of small targets, the farthest first
    widening: float  # the factor by which this widens the intervals
    groups: int  # the number of groups that were left out to calibrate the intervals

    @property
    def calibrated(self) -> bool:
        """Whether there are enough groups to calibrate the intervals."""
        return self.groups >= MIN_GROUPS


class Prediction(NamedTuple):
    """A quantity of a new target, and of the left-out targets [c] without their groups."""

    value: float
    left_out: Float[np.ndarray, " c"]


class CrossFit:
    """A model of small targets, and the same without each group.

    The targets with classes of a single group are left out: they are what a target of new kinds
    of images is to the study. A model predicts from `items`; `fit` fits candidates to the targets
    with given positions; `scale` is applied before errors are compared; `weights` are those of
    errors within their group.
    """

    def __init__(
        self,
        items: Sequence[Any],
        fit: Callable[[Rows], Predict],
        truth: Targets,
        groups: Bool[np.ndarray, "t g"],
        scale: Callable[[Any], Any] = np.asarray,
        weights: Targets | None = None,
    ) -> None:
        single = groups & (groups.sum(axis=1, keepdims=True) == 1)
        single &= (~groups).sum(axis=0) >= MIN_OTHERS
        self.shown = np.flatnonzero(single.any(axis=1))
        if not len(self.shown):
            needed = "a forecast requires small targets of at least two groups of test classes"
            problem = "the study's test classes are too few, or have too few images"
            raise OodmlError(f"{needed}; {problem}", location="test classes")
        names, self.group_of = np.unique(groups[self.shown].argmax(1), return_inverse=True)
        self.n_groups, self.truth = len(names), truth[self.shown]
        self.full = fit(np.arange(len(items)))
        without = [fit(np.flatnonzero(~groups[:, group])) for group in names]
        rows = zip(self.shown.tolist(), self.group_of.tolist(), strict=True)
        self.left_out = np.stack([without[group](items[row]) for row, group in rows])
        missed = np.abs(scale(self.left_out) - scale(self.truth)[:, None])
        own = np.ones(len(self.shown)) if weights is None else weights[self.shown]
        sums = np.stack([np.bincount(self.group_of, column * own) for column in missed.T])
        self.errors = sums / np.bincount(self.group_of, own)
        """[k g] the mean error of each candidate on each group that was left out."""

    def predict(self, item: Any) -> Prediction:
        """Predict with all candidates, weighted by their errors on left-out groups.

        For a left-out target, the weights come from the errors on the other groups.
        """
        total = self.errors.sum(axis=1, keepdims=True)
        others = _by_precision(total - self.errors)[:, self.group_of]
        left_out = (self.left_out * others.T).sum(axis=1)
        return Prediction(float(self.full(item) @ _by_precision(total)[:, 0]), left_out)

    def half_width(self, prediction: Prediction, *options: Any) -> float:
        """The half width of a prediction's interval; the options are those of `half_width`."""
        return half_width(np.abs(self.truth - prediction.left_out), self.n_groups, *options)


class Forecaster:
    """Forecasts targets of a study; `sized` if their numbers of classes are given."""

    def __init__(self, small: SmallTargets, sized: bool = False) -> None:
        self.small, self.sized, self.hints = small, sized, small.hints()
        self.means = np.stack([values.mean(axis=0) for values in small.signals])
        self.level_model = fit_level(small.signals, small.correct)
        logits, groups = to_logit(small.level), small.groups
        fit_levels = partial(_fit_levels, small, self.hints, sized)
        items = list(zip(small.signals, self.hints, strict=True))
        self.level = CrossFit(items, fit_levels, logits, groups, from_logit)
        tested = self.tested = np.flatnonzero(small.values.notna().all(axis=1))
        known = np.stack([np.log(small.sizes["images"]), small.sizes["shift"], logits], 1)[tested]
        queries = small.queries[tested].astype(np.float64)
        rows, self.gains = list(known[:, None]), dict[str, CrossFit]()
        for method, values in small.values.sub(small.level, axis=0).items():
            y = values.to_numpy()[tested]
            fit = partial(_fit_gains, known, y, queries)
            self.gains[str(method)] = CrossFit(rows, fit, y, groups[tested], weights=queries)
        singletons = to_logit(small.sizes["singletons"].to_numpy())
        self.sizes = {
            name: CrossFit(list(self.means[:, None]), partial(_fit_line, self.means, y), y, groups)
            for name, y in (("images per class", self.hints[:, 1]), ("singletons", singletons))
        }

    def forecast(self, target: TargetSignals) -> TargetForecast:
        """Forecast every method on a target."""
        classes = 1.0 if target.classes is None else target.classes
        level = self.level.predict((target.values, hint(target.images, classes)))
        names, widening = self._range(target)
        weights = self._weights(self.level, self.level.shown, target)
        noise = _logit_noise(level.left_out, self.small.queries[self.level.shown])
        own = float(_logit_noise(level.value, len(target.values)))
        halves = [self.level.half_width(level, weights, share, noise, own) for share in LEVELS]
        rows = [self._value(name, level.value, halves, target, widening) for name in self.gains]
        methods = pd.DataFrame(rows).sort_values(["expected", "method"], ascending=[False, True])
        methods, sizes = methods.reset_index(drop=True), self._sizes(target)
        correct = self.level_model.correct(target.values)
        return TargetForecast(methods, sizes, correct, names, widening, self.level.n_groups)

    def _weights(self, model: CrossFit, rows: Rows, target: TargetSignals) -> Targets:
        """Weights of left-out targets: like the target counts more, and every group the same.

        A target is like another if it has about as many images, and seems to have about as many
        of each class.
        """
        if target.classes is None:
            sizes = self.sizes["images per class"]
            estimate = sizes.predict(target.values.mean(axis=0, keepdims=True))
            own, per_class = estimate.value, np.full(len(self.means), np.nan)
            per_class[sizes.shown] = estimate.left_out
        else:
            own, per_class = hint(target.images, target.classes)[1], self.hints[:, 1]
        images = np.log(self.small.sizes["images"].to_numpy()[rows] / target.images)
        distance = np.hypot(images, per_class[rows] - own)
        near = np.exp(-((distance / NEAR) ** 2) / 2) + 1e-6
        return np.asarray(near / np.bincount(model.group_of, near)[model.group_of])

    def _value(
        self,
        method: str,
        level: float,
        level_halves: Sequence[float],
        target: TargetSignals,
        widening: float,
    ) -> dict[str, Any]:
        """The expected value of a method and its gain, with their intervals.

        The errors of level and gain are independent, so the squares of their half widths add up.
        """
        model = self.gains[method]
        gain = model.predict(np.array([[np.log(target.images), target.shift, level]]))
        rows = self.tested[model.shown]
        weights = self._weights(model, rows, target)
        spread = self.small.spread[method].to_numpy()[rows]
        noise = spread / self.small.queries[rows]
        own = float(np.average(spread, weights=weights)) / len(target.values)
        halves = [model.half_width(gain, weights, share, noise, own) for share in LEVELS]
        center = to_logit(np.clip(from_logit(level) + gain.value, 0.0, 1.0))
        slope = 1 / float(_logit_noise(center, 1.0))
        row = {"method": method, "expected": float(from_logit(center))}
        for share, level_half, half in zip(LEVELS, level_halves, halves, strict=True):
            total = widening * float(np.hypot(level_half, half / slope))
            row[f"low_{100 * share:.0f}"] = float(from_logit(center - total))
            row[f"high_{100 * share:.0f}"] = float(from_logit(center + total))
        half = widening * halves[0]
        bounds = {"gain_low_80": gain.value - half, "gain_high_80": gain.value + half}
        return row | {"gain": gain.value} | bounds

    def _sizes(self, target: TargetSignals) -> pd.DataFrame:
        """The estimated sizes of the target, with 80% intervals."""
        rows = {}
        for name, model in self.sizes.items():
            estimate = model.predict(target.values.mean(axis=0, keepdims=True))
            weights = self._weights(model, model.shown, target)
            half = model.half_width(estimate, weights, LEVELS[0])
            scale = from_logit if name == "singletons" else np.exp
            rows[name] = [float(scale(estimate.value + sign * half)) for sign in (0, -1, 1)]
        rows["images per class"] = [max(size, 1.0) for size in rows["images per class"]]
        value, low, high = rows["images per class"]
        rows["classes"] = [target.images / size for size in (value, high, low)]
        return pd.DataFrame.from_dict(rows, orient="index", columns=["expected", "low", "high"])

    def _range(self, target: TargetSignals) -> tuple[tuple[str, ...], float]:
        """The names of the signals outside the range seen, and the widening because of them."""
        low, high = self.means.min(axis=0), self.means.max(axis=0)
        mean = target.values.mean(axis=0)
        excess = np.maximum(low - mean, mean - high) / np.maximum(high - low, 1e-12)
        order = np.argsort(-excess, kind="stable")
        names = tuple(self.small.names[i] for i in order if excess[i] > 1e-6)
        return names, 1.0 + max(0.0, float(excess.max()))


def _by_precision(errors: Any) -> Any:
    """Weights [k …] of candidates in inverse proportion to their squared errors [k …]."""
    weights = 1 / np.maximum(errors, 1e-12) ** 2
    return weights / weights.sum(axis=0)


def _logit_noise(value: Any, queries: Any) -> Any:
    """The variance of the logit of a share among some queries."""
    share = np.clip(from_logit(value), 0.02, 0.98)
    return 1 / (queries * share * (1 - share))


def _fit_levels(
    small: SmallTargets, hints: Float[np.ndarray, "t 2"], sized: bool, rows: Rows
) -> Predict:
    """The candidates for the level; with sizes, models that use them are added, and the mean."""
    signals, correct = ([values[row] for row in rows] for values in (small.signals, small.correct))
    plain = fit_level(signals, correct)
    if not sized:
        return lambda item: plain.predict(item[0])
    informed = fit_level(list(map(_add_hint, signals, hints[rows])), correct)

    def predict(item: Any) -> Float[np.ndarray, " k"]:
        one, two = plain.predict(item[0]), informed.predict(_add_hint(*item))
        return np.array([*one, *two, (one[-1] + two[-1]) / 2])

    return predict


def _add_hint(
    values: Float[np.ndarray, "q s"], sizes: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "q t"]:
    """The signals of a target with its sizes as further columns."""
    return np.column_stack([values, np.tile(sizes, (len(values), 1))])


def _fit_line(x: Float[np.ndarray, "t s"], y: Targets, rows: Rows) -> Predict:
    return fit_ridge(x[rows], y[rows], np.ones(len(rows))).__call__


def _fit_gains(x: Float[np.ndarray, "t s"], y: Targets, queries: Targets, rows: Rows) -> Predict:
    """The candidates for a gain: none, its mean, half of it, a line over log images, shift, and
    level, and the mean of line and mean."""
    weights = queries[rows] / queries[rows].mean()
    mean, line = float(np.average(y[rows], weights=weights)), fit_ridge(x[rows], y[rows], weights)

    def predict(item: Any) -> Float[np.ndarray, " k"]:
        value = float(line(item)[0])
        return np.array([0.0, mean, mean / 2, value, (mean + value) / 2])

    return predict


def weighted_quantile(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], level: float
) -> float:
    """The smallest value with at least a share `level` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    index = min(int(np.searchsorted(share, level - 1e-9)), len(values) - 1)
    return float(values[order[index]])


def half_width(
    errors: Float[np.ndarray, " n"],
    groups: int,
    weights: Float[np.ndarray, " n"],
    level: float,
    noise: Float[np.ndarray, " n"] | float = 0.0,
    own_noise: float = 0.0,
) -> float:
    """The half width that covers a share `level` of left-out targets, for a new target.

    Split conformal prediction with standardized errors (Lei et al., JASA 2018): an error consists
    of that of the model, whose variance is the same for all targets, and of sampling noise, which
    is larger for targets with few queries. Groups, not targets, are exchangeable, so every group
    should have the same weight. With fewer than `MIN_GROUPS`, the largest error is covered. `noise`
    is the variance of the sampling noise of each absolute error, `own_noise` that of the target.
    """
    squares = errors**2
    mean = float(np.average(squares, weights=weights))
    model = max(float(np.average(squares - noise, weights=weights)), mean / 4)
    scaled = errors / np.sqrt(np.maximum(model + noise, 1e-12))
    share = level if groups >= MIN_GROUPS else 1.0
    return weighted_quantile(scaled, weights, share) * float(np.sqrt(model + own_noise))


def score_forecasts(rows: pd.DataFrame) -> dict[str, float]:
    """Score the rows of `trial.parquet`; every leave-out counts the same.

    `error`, `half_80`, `interval_score` (Gneiting and Raftery, 2007), `gain_error`, and `regret`
    (how much better the best method is than the one with the highest forecast) are differences of
    Recall@1. A guess has no bounds.
    """
    truth = rows["truth"]
    columns = {"error": (truth - rows["expected"]).abs()}
    if "low_80" in rows:
        for level in (80, 95):
            inside = truth.between(rows[f"low_{level}"], rows[f"high_{level}"])
            columns[f"coverage_{level}"] = inside.astype(float)
        low, high = rows["low_80"], rows["high_80"]
        columns["half_80"] = (high - low) / 2
        outside = (low - truth).clip(lower=0) + (truth - high).clip(lower=0)
        columns["interval_score"] = high - low + 2 / (1 - LEVELS[0]) * outside
    gains = (rows["gain"] - rows["gain_expected"]).abs()
    columns["gain_error"] = gains[rows["gain"] != 0].reindex(rows.index)
    means = pd.DataFrame(columns).groupby(rows["leave"]).mean().mean()
    targets = rows.groupby(["leave", "target"])
    chosen = rows.loc[targets["expected"].idxmax()].set_index(["leave", "target"])["truth"]
    regret = (targets["truth"].max() - chosen).groupby("leave").mean()
    scores = {str(name): float(value) for name, value in means.items()}
    return scores | {"regret": float(regret.mean())}
