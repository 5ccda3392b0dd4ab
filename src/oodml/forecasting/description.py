"""A forecast in sentences and a table, the answer first."""

from collections.abc import Iterator

import pandas as pd

from oodml.analysis.forecast import MIN_GROUPS, TargetForecast
from oodml.analysis.formatting import count_noun, format_list, format_number, format_points
from oodml.forecasting.target import OpenForecast
from oodml.results.schema import baselines_of

MAX_SIGNALS = 3
SINGLETONS = 0.02
"""A share of images without a partner from which it is mentioned."""


def describe_forecast(opened: OpenForecast) -> str:
    """The forecast as text: which method, how sure, the table, and what limits the forecast."""
    methods = opened.forecast.methods
    best = methods.iloc[0]
    value, low, high = (100 * best[name] for name in ("expected", "low_80", "high_80"))
    lines = [
        _choose_method(methods, sorted(baselines_of(opened.folder.table))),
        f"Expect {value:.0f}% Recall@1 from it on {opened.name} "
        f"({len(opened.target.test)} images); the 80% interval is {low:.0f} to {high:.0f}%.",
        "",
        *_table(methods),
        "",
        *_reasons(opened.forecast, bool(opened.target.augmented)),
    ]
    smoke = ["Smoke test: these numbers are not results."] if opened.folder.plan.smoke else []
    return "\n".join(smoke + lines)


def _choose_method(methods: pd.DataFrame, frozen: list[str]) -> str:
    """Which method to use, and whether training helps for sure."""
    best, own = methods.iloc[0], methods[methods["method"].isin(frozen)]
    if str(best["method"]) in frozen:
        return f"Use {best['method']}: no trained method is expected to score higher here."
    if own.empty:
        return f"{best['method']} is expected to score highest."
    base = own.iloc[0]
    names = ("gain", "gain_low_80", "gain_high_80")
    gain, low, high = (format_points(best[name] - base["gain"], sign=True) for name in names)
    helps = best["gain_low_80"] - base["gain"] > 0
    sure = "training helps" if helps else "whether training helps is not certain"
    return (
        f"{best['method']} is expected to score highest, {gain} points of Recall@1 over "
        f"{base['method']} (80% interval {low} to {high}): {sure}."
    )


def _table(methods: pd.DataFrame) -> Iterator[str]:
    width = max(12, *map(len, methods["method"]))
    yield f"{'method':{width}}  Recall@1   80% interval     95% interval      gain   80% interval"
    for row in methods.to_dict("records"):
        yield (
            f"{row['method']:{width}}  {row['expected']:8.3f}   "
            f"{row['low_80']:.3f} to {row['high_80']:.3f}   "
            f"{row['low_95']:.3f} to {row['high_95']:.3f}   "
            f"{row['gain']:+.3f}   {row['gain_low_80']:+.3f} to {row['gain_high_80']:+.3f}"
        )


def _reasons(forecast: TargetForecast, augmented: bool) -> Iterator[str]:
    """Why the interval is as wide as it is, and what would narrow it."""
    groups = count_noun(forecast.groups, "group")
    yield (
        f"Intervals are the errors on {groups} of classes, each left out of the model of it."
        if forecast.calibrated
        else f"The intervals are not calibrated, for which {MIN_GROUPS} groups are required: with "
        f"{groups} of classes, they are as wide as the largest error on one that was left out."
    )
    if forecast.outside:
        names, more = forecast.outside[:MAX_SIGNALS], len(forecast.outside) - MAX_SIGNALS
        rest = f" and {count_noun(more, 'further signal')}" if more > 0 else ""
        yield (
            f"The target is outside the range of the study in {format_list(names)}{rest}; "
            f"intervals are {format_number(forecast.widening, 2)} times as wide because of it."
        )
    if not augmented:
        yield "Without images of the target, the forecast uses no augmented views; they improve it."
    (classes, low, high), (per_class, *_), (share, *_) = forecast.sizes.loc[
        ["classes", "images per class", "singletons"], ["expected", "low", "high"]
    ].to_numpy()
    yield (
        f"The target seems to have {classes:.0f} classes (80% interval {low:.0f} to {high:.0f}) of "
        f"{per_class:.1f} images."
    )
    if share >= SINGLETONS:
        alone = f"About {100 * share:.0f}% of its images have no partner of their class"
        yield f"{alone}; Recall@1 leaves them out."
    narrow = "judge 50 queries (--judge judge.html), or give --classes if you know it."
    yield f"To narrow the interval, {narrow}"
