"""The conclusions of Milbich et al. (2021) as questions, answered for a results table."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from oodml.analysis.diagnostics import structure_correlations, structure_points
from oodml.analysis.formatting import format_number, format_percent, format_points
from oodml.analysis.gains import few_shot_gains, gain_slopes
from oodml.analysis.intervals import student_interval
from oodml.analysis.ranking import Misranking, compare_methods, drop, misranking
from oodml.analysis.table import shifts, trained, zero_shot
from oodml.evaluate.registry import find_metric
from oodml.progress import count_noun

Verdict = Literal["yes", "no", "undecided"]
Answer = tuple[Verdict, str]
"""The verdict, and the figures behind it."""


class Finding(NamedTuple):
    """A question, its answer for these results, and the numbers behind the answer."""

    question: str
    answer: Verdict
    figures: str


def findings(
    table: pd.DataFrame,
    metric: str = "recall@1",
    backbones: Mapping[str, str] | None = None,
    correlations: pd.DataFrame | None = None,
    scores: pd.DataFrame | None = None,
) -> list[Finding]:
    """Answer the seven conclusions of the paper for the trained methods of a results table.

    `correlations` (`structure_correlations` of the trained methods) and `scores`
    (`compare_methods`) are computed if not given.
    """
    runs = trained(table)
    if runs.empty:
        return []
    if correlations is None:
        correlations = structure_correlations(structure_points(runs, metric))
    wide = zero_shot(runs, metric)
    shift = shifts(runs)[wide.columns]
    scores = compare_methods(runs, metric) if scores is None else scores[scores["trains"]]
    comparison = misranking(runs, metric, scores)
    command = "The command oodml splits backbones compares several."
    network: Answer = "undecided", f"The study measures shift with one network. {command}"
    answers: dict[str, Answer] = {
        "Does quality fall as shift grows?": _falls_with_shift(wide),
        "Do methods differ more as shift grows?": _spread_grows(wide, shift),
        "Would the standard split alone have misranked the methods?": _misranks(comparison),
        "Does few-shot adaptation always help, and more at larger shift?": _adapts(runs, metric),
        "Is the progression nearly independent of the feature network?": network,
        "Do structure measures fail to predict generalization?": _structure(runs, correlations),
        "Does better pretraining raise the level but not change the slope?": _pretraining(
            scores, backbones or {}
        ),
    }
    return [Finding(question, *answer) for question, answer in answers.items()]


def _falls_with_shift(wide: pd.DataFrame) -> Answer:
    """Whether every method is worse on the hardest split than on the easiest, over seeds."""
    if wide.shape[1] < 2:
        return "undecided", "There is only one split."
    first, last = str(wide.columns[0]), str(wide.columns[-1])
    drops = [drop(rows, first, last) for _, rows in wide.groupby(level="method")]
    falling, losses = sum(loss.low > 0 for loss in drops), [loss.mean for loss in drops]
    rising = any(loss.high < 0 for loss in drops)
    answer: Verdict = "yes" if falling == len(drops) else "no" if rising else "undecided"
    least, most = format_points(min(losses)), format_points(max(losses))
    figures = f"From the easiest to the hardest split, methods lose {least} to {most} points"
    if all(np.isnan(loss.low) for loss in drops):
        return answer, f"{figures}. One seed gives no confidence interval."
    share = f"{falling} of {len(drops)}"
    return answer, f"{figures}; the 95% interval over seeds is above zero for {share}."


def _spread_grows(wide: pd.DataFrame, shift: "pd.Series[float]") -> Answer:
    """Whether the best and the worst method differ more on harder splits, over seeds."""
    if wide.index.get_level_values("method").nunique() < 2 or wide.shape[1] < 2:
        return "undecided", "This needs two methods and two splits."
    means, by_seed = wide.groupby(level="method").mean(), wide.groupby(level="seed")
    spread = means.max() - means.min()
    seeds = (by_seed.max() - by_seed.min()).dropna()
    near, far = format_points(spread.iloc[0]), format_points(spread.iloc[-1])
    figures = f"The best and the worst method are {near} points apart on the easiest split"
    figures += f" and {far} on the hardest."
    if len(seeds) < 2 or shift.nunique() < 2:
        return "undecided", f"{figures} One seed gives no confidence interval."
    slope = student_interval([np.polyfit(shift, row, 1)[0] for row in seeds.values])
    return "yes" if slope.low > 0 else "no" if slope.high < 0 else "undecided", figures


def _misranks(comparison: Misranking | None) -> Answer:
    """Whether the standard split and AGS order some pair of methods differently, both certainly."""
    if comparison is None:
        needed = "This needs the standard split, another split, and two methods on each."
        return "undecided", needed
    figures = f"Kendall's τ between the two rankings is {format_number(comparison.agreement, 2)}."
    if comparison.inverted:
        better, other = comparison.inverted[0]
        ranked = f"The standard split ranks {other} above {better}; AGS ranks it below."
        return "yes", f"{figures} {ranked}"
    n = len(comparison.tied_inverted)
    if not n:
        return "no", figures
    changed = f"{count_noun(n, 'pair')} {'changes' if n == 1 else 'change'} order"
    return "undecided", f"{figures} {changed}, but not beyond the noise of seeds."


def _adapts(table: pd.DataFrame, metric: str) -> Answer:
    """Whether few-shot adaptation helps everywhere, and more at larger shift."""
    gains = few_shot_gains(table, metric)
    if gains.empty:
        return "undecided", "No run was adapted to test classes."
    helps, hurts = gains["gain_low"] > 0, gains["gain_high"] < 0
    slopes = gain_slopes(table, metric)
    grows, shrinks = (slopes["slope_low"] > 0).sum(), (slopes["slope_high"] < 0).sum()
    answer: Verdict = "no" if hurts.any() or shrinks else "undecided"
    if helps.all() and len(slopes) and grows == len(slopes):
        answer = "yes"
    return answer, (
        f"The gain is {format_points(gains['gain'].min())} to {format_points(gains['gain'].max())} "
        f"points, and its 95% interval is above zero in {int(helps.sum())} of {len(gains)} cases. "
        f"It grows with shift for {int(grows)} of {len(slopes)} combinations of method and shots, "
        f"and shrinks for {int(shrinks)}."
    )


def _structure(table: pd.DataFrame, correlations: pd.DataFrame, strong: float = 0.5) -> Answer:
    """Whether no structure measure has a strong rank correlation with the metric within splits."""
    correlations = correlations.dropna(subset=["within"])
    if correlations.empty or table["method"].nunique() < 2:
        return "undecided", "No structure measure varies between runs."
    best = correlations.iloc[int(correlations["within"].abs().to_numpy().argmax())]
    bounds = correlations[["within_low", "within_high"]]
    above = (bounds["within_low"] > strong) | (bounds["within_high"] < -strong)
    weak = bool((bounds.abs().max(axis=1, skipna=False) < strong).all())
    answer: Verdict = "no" if above.any() else "yes" if weak else "undecided"
    names, label = ("within", "within_low", "within_high"), find_metric(best["measure"]).label
    within, low, high = (format_number(best[name], 2, True) for name in names)
    figures = f"The strongest rank correlation within splits is {within}, of {label}"
    if np.isnan(best["within_low"]):
        return answer, f"{figures}. One seed gives no confidence interval."
    return answer, f"{figures} (95% interval {low} to {high})."


def _pretraining(scores: pd.DataFrame, backbones: Mapping[str, str]) -> Answer:
    """Level and slope by backbone; a question for studies of several backbones."""
    means = scores.groupby(scores["method"].map(backbones))[["level", "slope"]].mean()
    if len(means) < 2:
        return "undecided", "This study has only one network."
    figures = "; ".join(
        f"{name}: level {format_percent(level)}, slope {format_points(slope, True)} points"
        for name, level, slope in means.itertuples()
    )
    return "undecided", f"{figures}. The results do not show which is better pretrained."
