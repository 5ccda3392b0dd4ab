"""A forecast in sentences and a table, the answer first."""

from collections.abc import Iterator

import pandas as pd

from oodml.analysis.forecast import MIN_GROUPS, TargetForecast
from oodml.analysis.formatting import format_number, format_percent, format_points
from oodml.evaluate.signals import signal_names
from oodml.forecasting.target import N_VIEWS, OpenForecast
from oodml.progress import count_noun
from oodml.results.schema import baselines_of

LEVEL = ("expected", "low_80", "high_80", "low_95", "high_95")
GAIN = ("gain", "gain_low_80", "gain_high_80")
SINGLETONS = 0.02
"""A share of images without a partner from which it is mentioned."""


def describe_forecast(opened: OpenForecast, sized: bool = False) -> str:
    """The forecast as text: which method, how sure, the table, and what limits the forecast.

    `sized` is whether the number of classes was given.
    """
    forecast, methods = opened.forecast, opened.forecast.methods
    sure = "80% interval" if forecast.calibrated else "largest error"
    lines = [
        *describe_choice(opened),
        "",
        *_table(methods, sure),
        "",
        *_reasons(forecast, bool(opened.target.augmented), sized),
    ]
    smoke = ["Smoke test: these numbers are not results."] if opened.folder.plan.smoke else []
    return "\n".join(smoke + lines)


def describe_choice(opened: OpenForecast) -> list[str]:
    """Which method to use, and what to expect from it, in sentences."""
    methods = opened.forecast.methods
    sure = "80% interval" if opened.forecast.calibrated else "largest error"
    value, low, high = (100 * methods.iloc[0][name] for name in LEVEL[:3])
    own = "These are the study's own images: the forecast means nothing for new ones."
    return [
        *[own] * opened.is_own,
        _choose_method(methods, sorted(baselines_of(opened.folder.table)), sure),
        f"Expect {value:.0f}% Recall@1 from it on {opened.name} "
        f"({len(opened.target.test)} images), {low:.0f} to {high:.0f}% ({sure}).",
    ]


def _choose_method(methods: pd.DataFrame, frozen: list[str], interval: str) -> str:
    """Which method to use, and whether training helps for sure."""
    best, own = methods.iloc[0], methods[methods["method"].isin(frozen)]
    if str(best["method"]) in frozen:
        return f"Use {best['method']}: no trained method is expected to score higher here."
    if own.empty:
        return f"{best['method']} is expected to score highest."
    base = own.iloc[0]
    gain, low, high = (format_points(best[name] - base["gain"], sign=True) for name in GAIN)
    helps = best["gain_low_80"] - base["gain"] > 0
    sure = "training helps" if helps else "whether training helps is not certain"
    lead = f"{gain} points of Recall@1 over {base['method']} ({interval} {low} to {high})"
    return f"{best['method']} is expected to score highest, {lead}: {sure}."


def _table(methods: pd.DataFrame, interval: str) -> Iterator[str]:
    """Levels in percent and gains in points, with the 95% interval if it is calibrated."""
    width, wide = max(12, *map(len, methods["method"])), interval == "80% interval"
    more = f"{'95% interval':15}" if wide else ""
    yield f"{'method':{width}}  Recall@1   {interval:15}{more}   gain   {interval}"
    for row in methods.to_dict("records"):
        level, *bounds = (format_percent(row[name]) for name in LEVEL)
        gain, low, high = (format_points(row[name], sign=True) for name in GAIN)
        first, second = (f"{a.removesuffix('%')} to {b}" for a, b in (bounds[:2], bounds[2:]))
        more = f"{second:15}" if wide else ""
        yield f"{row['method']:{width}}  {level:>8}   {first:15}{more}{gain:>7}   {low} to {high}"


def _reasons(forecast: TargetForecast, augmented: bool, sized: bool) -> Iterator[str]:
    """Why the interval is as wide as it is, and what would narrow it."""
    if forecast.calibrated:
        groups = f"{forecast.groups} groups of classes, each left out of the model that forecast it"
        yield f"Intervals are the errors on {groups}."
    else:
        yield (
            f"The largest error is that on {count_noun(forecast.groups, 'group')} of classes "
            f"(superclasses, else clusters), each left out once. Intervals need {MIN_GROUPS} "
            "groups: add superclasses (SUPERCLASS/CLASS/NAME) or classes."
        )
    if forecast.outside:
        count = f"{len(forecast.outside)} of {len(signal_names(N_VIEWS * augmented))} signals"
        about = "which describe its size and how similar its images are to each other"
        factor = f"{format_number(forecast.widening, 2)} times as wide because of it"
        outside = f"The target is outside the range of the study in {count}, {about}"
        yield f"{outside}; intervals are {factor}."
    if not augmented:
        yield "Without images of the target, the forecast uses no augmented views; they improve it."
    (classes, low, high), (per_class, *_), (share, *_) = forecast.sizes.loc[
        ["classes", "images per class", "singletons"], ["expected", "low", "high"]
    ].to_numpy()
    if not sized:
        size = f"{classes:.0f} classes (80% interval {low:.0f} to {high:.0f})"
        seems = f"The target seems to have {size} of {per_class:.1f} images"
        yield f"{seems}; --classes narrows the interval if you know it."
    if share >= SINGLETONS:
        alone = f"About {100 * share:.0f}% of its images have no partner of their class"
        yield f"{alone}; Recall@1 leaves them out."
