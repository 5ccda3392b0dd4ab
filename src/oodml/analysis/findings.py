"""The conclusions of Milbich et al. (2021) as questions, answered for a results table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from oodml.analysis.few_shot import few_shot_gains, gain_slopes
from oodml.analysis.formatting import count_noun, format_number, format_percent, format_points
from oodml.analysis.intervals import student_interval
from oodml.analysis.ranking import compare_methods, drop, misranking
from oodml.analysis.structure import structure_correlations
from oodml.analysis.table import shifts, trained, zero_shot
from oodml.evaluate.registry import find_metric

Verdict = Literal["yes", "no", "undecided"]


@dataclass(frozen=True)
class Finding:
    """A question, its answer for these results, and the numbers behind the answer."""

    question: str
    answer: Verdict
    figures: str


def findings(
    table: pd.DataFrame,
    metric: str = "recall@1",
    backbones: Mapping[str, str] | None = None,
    correlations: pd.DataFrame | None = None,
) -> list[Finding]:
    """Answer the seven conclusions of the paper for the trained methods of a results table.

    Args:
        correlations: `structure_correlations` of the trained methods, if already computed.
    """
    runs = trained(table)
    if runs.empty:
        return []
    if correlations is None:
        correlations = structure_correlations(runs, metric)
    return [
        falls_with_shift(runs, metric),
        spread_grows(runs, metric),
        standard_misranks(runs, metric),
        adaptation_helps(runs, metric),
        Finding(
            "Is the progression nearly independent of the feature network?",
            "undecided",
            "The study measures shift with one network. The command oodml splits backbones "
            "compares several.",
        ),
        structure_does_not_predict(runs, correlations),
        pretraining_raises_level(runs, metric, backbones or {}),
    ]


def falls_with_shift(table: pd.DataFrame, metric: str) -> Finding:
    """Whether every method is worse on the hardest split than on the easiest, over seeds."""
    question = "Does quality fall as shift grows?"
    wide, order = zero_shot(table, metric), shifts(table)
    order = order[order.index.isin(wide.columns)]
    if len(order) < 2:
        return Finding(question, "undecided", "There is only one split.")
    first, last = str(order.index[0]), str(order.index[-1])
    drops = {name: drop(rows, first, last) for name, rows in wide.groupby(level="method")}
    falling = [name for name, loss in drops.items() if loss.low > 0]
    rising = [name for name, loss in drops.items() if loss.high < 0]
    answer: Verdict = "undecided"
    if len(falling) == len(drops):
        answer = "yes"
    elif rising:
        answer = "no"
    losses = [loss.mean for loss in drops.values()]
    figures = (
        f"From the easiest to the hardest split, methods lose {format_points(min(losses))} to "
        f"{format_points(max(losses))} points"
    )
    if all(np.isnan(loss.low) for loss in drops.values()):
        return Finding(question, answer, f"{figures}. One seed gives no confidence interval.")
    return Finding(
        question,
        answer,
        f"{figures}; the 95% interval over seeds is above zero for {len(falling)} of {len(drops)}.",
    )


def spread_grows(table: pd.DataFrame, metric: str) -> Finding:
    """Whether the best and the worst method differ more on harder splits, over seeds."""
    question = "Do methods differ more as shift grows?"
    wide, order = zero_shot(table, metric), shifts(table)
    if wide.index.get_level_values("method").nunique() < 2 or wide.shape[1] < 2:
        return Finding(question, "undecided", "This needs two methods and two splits.")
    grouped = wide.groupby(level="method").mean()
    spread = grouped.max() - grouped.min()
    by_seed = wide.groupby(level="seed")
    seeds = (by_seed.max() - by_seed.min()).dropna()
    figures = (
        f"The best and the worst method are {format_points(spread.iloc[0])} points apart on the "
        f"easiest split and {format_points(spread.iloc[-1])} on the hardest."
    )
    if len(seeds) < 2 or order[wide.columns].nunique() < 2:
        return Finding(question, "undecided", f"{figures} One seed gives no confidence interval.")
    slope = student_interval([np.polyfit(order[wide.columns], row, 1)[0] for row in seeds.values])
    return Finding(question, _sign(slope.low, slope.high), figures)


def standard_misranks(table: pd.DataFrame, metric: str) -> Finding:
    """Whether the standard split and AGS order some pair of methods differently, both certainly."""
    question = "Would the standard split alone have misranked the methods?"
    comparison = misranking(table, metric)
    if comparison is None:
        return Finding(
            question, "undecided",
            "This needs the standard split, a second split, and two methods on each.",
        )  # fmt: skip
    figures = f"Kendall's τ between the two rankings is {format_number(comparison.agreement, 2)}."
    if comparison.inverted:
        better, other = comparison.inverted[0]
        return Finding(
            question, "yes",
            f"{figures} The standard split ranks {other} above {better}; AGS ranks it below.",
        )  # fmt: skip
    if comparison.tied_inverted:
        n = len(comparison.tied_inverted)
        verb = "changes" if n == 1 else "change"
        return Finding(
            question, "undecided",
            f"{figures} {count_noun(n, 'pair')} {verb} order, but not beyond the noise of seeds.",
        )  # fmt: skip
    return Finding(question, "no", figures)


def adaptation_helps(table: pd.DataFrame, metric: str) -> Finding:
    """Whether few-shot adaptation helps everywhere, and more at larger shift."""
    question = "Does few-shot adaptation always help, and more at larger shift?"
    gains = few_shot_gains(table, metric)
    if gains.empty:
        return Finding(question, "undecided", "No run was adapted to test classes.")
    helps = bool((gains["gain_low"] > 0).all())
    hurts = bool((gains["gain_high"] < 0).any())
    slopes = gain_slopes(table, metric)
    grows, shrinks = (slopes["slope_low"] > 0).sum(), (slopes["slope_high"] < 0).sum()
    answer: Verdict = "undecided"
    if helps and len(slopes) and grows == len(slopes):
        answer = "yes"
    elif hurts or shrinks:
        answer = "no"
    return Finding(
        question,
        answer,
        f"The gain is {format_points(gains['gain'].min())} to {format_points(gains['gain'].max())} "
        f"points, and its 95% interval is above zero in {int((gains['gain_low'] > 0).sum())} of "
        f"{len(gains)} cases. It grows with shift for {int(grows)} of {len(slopes)} combinations "
        f"of method and shots, and shrinks for {int(shrinks)}.",
    )


def structure_does_not_predict(
    table: pd.DataFrame, correlations: pd.DataFrame, strong: float = 0.5
) -> Finding:
    """Whether no structure measure has a strong rank correlation with the metric within splits."""
    question = "Do structure measures fail to predict generalization?"
    correlations = correlations.dropna(subset=["within"])
    if correlations.empty or table["method"].nunique() < 2:
        return Finding(question, "undecided", "No structure measure varies between runs.")
    best = correlations.iloc[int(correlations["within"].abs().to_numpy().argmax())]
    bounds = correlations[["within_low", "within_high"]]
    above = (bounds["within_low"] > strong) | (bounds["within_high"] < -strong)
    weak = bool((bounds.abs().max(axis=1, skipna=False) < strong).all())
    answer: Verdict = "no" if above.any() else "yes" if weak else "undecided"
    figures = (
        f"The strongest rank correlation within splits is {format_number(best['within'], 2, True)},"
        f" of {find_metric(best['measure']).label}"
    )
    if np.isnan(best["within_low"]):
        return Finding(question, answer, f"{figures}. One seed gives no confidence interval.")
    low, high = (format_number(best[name], 2, True) for name in ("within_low", "within_high"))
    return Finding(question, answer, f"{figures} (95% interval {low} to {high}).")


def pretraining_raises_level(
    table: pd.DataFrame, metric: str, backbones: Mapping[str, str]
) -> Finding:
    """Level and slope by backbone; a question for studies of several backbones."""
    question = "Does better pretraining raise the level but not change the slope?"
    names = {backbones[name] for name in table["method"].unique() if name in backbones}
    if len(names) < 2:
        return Finding(question, "undecided", "This study has only one network.")
    lines = compare_methods(table, metric)
    means = lines.groupby(lines["method"].map(backbones))[["level", "slope"]].mean()
    figures = "; ".join(
        f"{name}: level {format_percent(row['level'])}, "
        f"slope {format_points(row['slope'], True)} points"
        for name, row in means.iterrows()
    )
    return Finding(
        question, "undecided", f"{figures}. The results do not show which is better pretrained."
    )


def _sign(low: float, high: float) -> Verdict:
    return "yes" if low > 0 else "no" if high < 0 else "undecided"
