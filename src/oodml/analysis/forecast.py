"""Forecasts of Recall@1 on an unlabeled target: the level of the frozen network, and gains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from oodml.analysis.signal_models import LevelModel, fit_level, fit_ridge, from_logit, to_logit
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

    Attributes:
        methods: one row per method, by descending expected value: `method`, `expected` Recall@1,
            its bounds `low_80` to `high_95`, and the `gain` over the features of the frozen
            network with `gain_low_80` and `gain_high_80`.
        sizes: the rows "images per class", "classes", and "singletons" (the share of images
            without a partner), with `expected`, and `low` and `high` of an 80% interval.
        correct: [q] the chance that each query's neighbor in the frozen network is of its class.
        outside: the signals outside the range of the small targets, the farthest first.
        widening: the factor by which this widens the intervals.
        groups: the number of groups that were left out to calibrate the intervals.
    """

    methods: pd.DataFrame
    sizes: pd.DataFrame
    correct: Float[np.ndarray, " q"]
    outside: tuple[str, ...]
    widening: float
    groups: int

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
    of images is to the study.

    Args:
        items: what a model predicts from, for each target.
        fit: fits candidates to the targets with given positions.
        scale: applied to predictions before errors are compared.
        weights: [t] of the errors, within their group.
    """

    def __init__(
        self,
        items: Sequence[Any],
        fit: Callable[[Int[np.ndarray, " _"]], Predict],
        truth: Float[np.ndarray, " t"],
        groups: Bool[np.ndarray, "t g"],
        scale: Callable[[Any], Any] = np.asarray,
        weights: Float[np.ndarray, " t"] | None = None,
    ) -> None:
        single = groups & (groups.sum(axis=1, keepdims=True) == 1)
        single &= (~groups).sum(axis=0) >= MIN_OTHERS
        self.shown = np.flatnonzero(single.any(axis=1))
        if not len(self.shown):
            raise OodmlError(
                "a forecast requires small targets of at least two groups of test classes; the "
                "study's test classes are too few, or have too few images",
                location="test classes",
            )
        self.names, self.group_of = np.unique(groups[self.shown].argmax(1), return_inverse=True)
        self.full = fit(np.arange(len(items)))
        self.without = [fit(np.flatnonzero(~groups[:, group])) for group in self.names]
        rows = zip(self.shown.tolist(), self.group_of.tolist(), strict=True)
        self.left_out = np.stack([self.without[group](items[row]) for row, group in rows])
        missed = np.abs(scale(self.left_out) - scale(truth[self.shown])[:, None])
        own = np.ones(len(self.shown)) if weights is None else weights[self.shown]
        sums = np.stack([np.bincount(self.group_of, column * own) for column in missed.T])
        self.errors = sums / np.bincount(self.group_of, own)
        """[k g] the mean error of each candidate on each group that was left out."""
        self.truth = truth[self.shown]

    def predict(self, item: Any) -> Prediction:
        """Predict with all candidates, weighted by their errors on left-out groups.

        For a left-out target, the weights come from the errors on the other groups.
        """
        total = self.errors.sum(axis=1, keepdims=True)
        others = by_precision(total - self.errors)[:, self.group_of]
        left_out = (self.left_out * others.T).sum(axis=1)
        return Prediction(float(self.full(item) @ by_precision(total)[:, 0]), left_out)


class Forecaster:
    """Forecasts targets of a study; `sized` if their numbers of classes are given."""

    def __init__(self, small: SmallTargets, sized: bool = False) -> None:
        self.small, self.sized = small, sized
        self.means = np.stack([values.mean(axis=0) for values in small.signals])
        self.level_model = fit_level(small.signals, small.correct)
        items = list(zip(small.signals, small.hints(), strict=True))
        self.level = CrossFit(
            items,
            lambda rows: _fit_levels(small, rows, sized),
            to_logit(small.level),
            small.groups,
            from_logit,
        )
        self.tested = np.flatnonzero(small.values.notna().all(axis=1))
        known = np.stack(
            [np.log(small.sizes["images"]), small.sizes["shift"], to_logit(small.level)], 1
        )
        gains = small.values.sub(small.level, axis=0)
        queries = small.queries[self.tested].astype(np.float64)
        self.gains = {
            str(method): CrossFit(
                list(known[self.tested, None]),
                partial(_fit_gains, known[self.tested], values.to_numpy()[self.tested], queries),
                values.to_numpy()[self.tested],
                small.groups[self.tested],
                weights=queries,
            )
            for method, values in gains.items()
        }
        per_class, singletons = small.hints()[:, 1], small.sizes["singletons"].to_numpy()
        self.sizes = {
            "images per class": self._cross_fit(per_class),
            "singletons": self._cross_fit(to_logit(singletons)),
        }

    def _cross_fit(self, y: Float[np.ndarray, " t"]) -> CrossFit:
        """A line over the means of signals."""
        items = list(self.means[:, None])
        return CrossFit(items, partial(_fit_line, self.means, y), y, self.small.groups)

    def forecast(self, target: TargetSignals) -> TargetForecast:
        """Forecast every method on a target."""
        classes = 1.0 if target.classes is None else target.classes
        level = self.level.predict((target.values, hint(target.images, classes)))
        outside, widening = self._range(target)
        known = np.array([[np.log(target.images), target.shift, level.value]])
        rows = []
        for method, model in self.gains.items():
            gain = model.predict(known)
            row = self._value(method, level, gain, target, widening)
            rows.append({"method": method} | row)
        methods = pd.DataFrame(rows).sort_values(["expected", "method"], ascending=[False, True])
        return TargetForecast(
            methods.reset_index(drop=True),
            self._sizes(target),
            self.level_model.correct(target.values),
            outside,
            widening,
            len(self.level.names),
        )

    def _weights(
        self, model: CrossFit, rows: Int[np.ndarray, " c"], target: TargetSignals
    ) -> Float[np.ndarray, " c"]:
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
            own, per_class = hint(target.images, target.classes)[1], self.small.hints()[:, 1]
        images = np.log(self.small.sizes["images"].to_numpy()[rows] / target.images)
        distance = np.hypot(images, per_class[rows] - own)
        near = np.exp(-((distance / NEAR) ** 2) / 2) + 1e-6
        return np.asarray(near / np.bincount(model.group_of, near)[model.group_of])

    def _value(
        self,
        method: str,
        level: Prediction,
        gain: Prediction,
        target: TargetSignals,
        widening: float,
    ) -> dict[str, float]:
        """The expected value of a method and its gain, with their intervals.

        The errors of level and gain are independent, so the squares of their half widths add up.
        """
        center = _total(level.value, gain.value)
        slope = 1 / float(_logit_noise(center, 1.0))
        row = {"expected": float(from_logit(center))}
        for share in LEVELS:
            half = self._gain_half(method, gain, target, share)
            total = widening * float(np.hypot(self._level_half(level, target, share), half / slope))
            row[f"low_{100 * share:.0f}"] = float(from_logit(center - total))
            row[f"high_{100 * share:.0f}"] = float(from_logit(center + total))
        half = widening * self._gain_half(method, gain, target, LEVELS[0])
        bounds = {"gain_low_80": gain.value - half, "gain_high_80": gain.value + half}
        return row | {"gain": gain.value} | bounds

    def _level_half(self, level: Prediction, target: TargetSignals, share: float) -> float:
        """The half width of the interval of the level, in logits."""
        model = self.level
        weights = self._weights(model, model.shown, target)
        noise = _logit_noise(level.left_out, self.small.queries[model.shown])
        own = float(_logit_noise(level.value, len(target.values)))
        errors = np.abs(model.truth - level.left_out)
        return half_width(errors, weights, share, len(model.names), noise, own)

    def _gain_half(
        self, method: str, gain: Prediction, target: TargetSignals, share: float
    ) -> float:
        """The half width of the interval of a gain."""
        model = self.gains[method]
        rows = self.tested[model.shown]
        weights = self._weights(model, rows, target)
        spread = self.small.spread[method].to_numpy()[rows]
        noise = spread / self.small.queries[rows]
        own = float(np.average(spread, weights=weights)) / len(target.values)
        errors = np.abs(model.truth - gain.left_out)
        return half_width(errors, weights, share, len(model.names), noise, own)

    def _sizes(self, target: TargetSignals) -> pd.DataFrame:
        """The estimated sizes of the target, with 80% intervals."""
        rows = {}
        for name, model in self.sizes.items():
            estimate = model.predict(target.values.mean(axis=0, keepdims=True))
            weights = self._weights(model, model.shown, target)
            missed = np.abs(model.truth - estimate.left_out)
            half = half_width(missed, weights, LEVELS[0], len(model.names))
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


def by_precision(errors: Any) -> Any:
    """Weights [k …] of candidates in inverse proportion to their squared errors [k …]."""
    weights = 1 / np.maximum(errors, 1e-12) ** 2
    return weights / weights.sum(axis=0)


def _total(level: Any, gain: Any) -> Any:
    """The logit of a level plus a gain in Recall@1."""
    return to_logit(np.clip(from_logit(level) + gain, 0.0, 1.0))


def _logit_noise(value: Any, queries: Any) -> Any:
    """The variance of the logit of a share among some queries."""
    share = np.clip(from_logit(value), 0.02, 0.98)
    return 1 / (queries * share * (1 - share))


def _fit_levels(small: SmallTargets, rows: Int[np.ndarray, " _"], sized: bool) -> Predict:
    """The candidates for the level; with sizes, models that use them are added, and the mean."""
    plain = fit_level(*_level_data(small, rows, False))
    if not sized:
        return lambda item: plain.predict(item[0])
    informed: LevelModel = fit_level(*_level_data(small, rows, True))

    def predict(item: Any) -> Float[np.ndarray, " k"]:
        one, two = plain.predict(item[0]), informed.predict(add_hint(*item))
        return np.array([*one, *two, (one[-1] + two[-1]) / 2])

    return predict


def _level_data(small: SmallTargets, rows: Int[np.ndarray, " _"], sized: bool) -> Any:
    signals = [small.signals[row] for row in rows]
    if sized:
        hints = small.hints()[rows]
        signals = [add_hint(values, one) for values, one in zip(signals, hints, strict=True)]
    return signals, [small.correct[row] for row in rows]


def add_hint(
    values: Float[np.ndarray, "q s"], sizes: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "q t"]:
    """The signals of a target with its sizes as further columns."""
    return np.column_stack([values, np.tile(sizes, (len(values), 1))])


def _fit_line(
    x: Float[np.ndarray, "t s"], y: Float[np.ndarray, " t"], rows: Int[np.ndarray, " _"]
) -> Predict:
    line = fit_ridge(x[rows], y[rows], np.ones(len(rows)))
    return lambda item: line(item)


def _fit_gains(
    x: Float[np.ndarray, "t s"],
    y: Float[np.ndarray, " t"],
    queries: Float[np.ndarray, " t"],
    rows: Int[np.ndarray, " _"],
) -> Predict:
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
    weights: Float[np.ndarray, " n"],
    level: float,
    groups: int,
    noise: Float[np.ndarray, " n"] | float = 0.0,
    own_noise: float = 0.0,
) -> float:
    """The half width that covers a share `level` of left-out targets, for a new target.

    Split conformal prediction with standardized errors (Lei et al., JASA 2018): an error consists
    of that of the model, whose variance is the same for all targets, and of sampling noise, which
    is larger for targets with few queries. Groups, not targets, are exchangeable, so every group
    should have the same weight. With fewer than `MIN_GROUPS`, the largest error is covered.

    Args:
        errors: [n] the absolute errors on targets of left-out groups.
        noise: [n] the variance of the sampling noise of each error.
        own_noise: that of the new target.
    """
    squares = errors**2
    mean = float(np.average(squares, weights=weights))
    model = max(float(np.average(squares - noise, weights=weights)), mean / 4)
    scaled = errors / np.sqrt(np.maximum(model + noise, 1e-12))
    share = level if groups >= MIN_GROUPS else 1.0
    return weighted_quantile(scaled, weights, share) * float(np.sqrt(model + own_noise))
