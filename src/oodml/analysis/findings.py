"""The findings of the study, asked of the results at hand: yes, no, or undecided."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from oodml.analysis.few_shot import few_shot_gains, gain_slopes
from oodml.analysis.intervals import student_interval
from oodml.analysis.ranking import compare_methods, drop, misranking
from oodml.analysis.structure import structure_correlations
from oodml.analysis.table import shifts, trained, zero_shot

Answer = Literal["yes", "no", "undecided"]


@dataclass(frozen=True)
class Finding:
    """A question, its answer for these results, and the figures that it rests on."""

    question: str
    answer: Answer
    figures: str


def findings(
    table: pd.DataFrame, metric: str = "recall@1", backbones: Mapping[str, str] | None = None
) -> list[Finding]:
    """The seven findings of Milbich et al. (2021) as questions; backbones: of each method."""
    runs = trained(table)
    return [
        falls_with_shift(runs, metric),
        spread_grows(runs, metric),
        standard_misranks(runs, metric),
        adaptation_helps(runs, metric),
        Finding(
            "Does the progression hardly depend on the feature network?",
            "undecided",
            "The study measures shift with one network; a second is needed to compare.",
        ),
        structure_does_not_predict(runs, metric),
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
    surely = [name for name, found in drops.items() if found.low > 0]
    rising = [name for name, found in drops.items() if found.high < 0]
    answer: Answer = "undecided"
    if len(surely) == len(drops):
        answer = "yes"
    elif rising:
        answer = "no"
    losses = [found.mean for found in drops.values()]
    return Finding(
        question,
        answer,
        f"From the easiest to the hardest split the methods lose {_points(min(losses))} to "
        f"{_points(max(losses))} points; the 95% interval over seeds lies above zero for "
        f"{len(surely)} of {len(drops)}.",
    )


def spread_grows(table: pd.DataFrame, metric: str) -> Finding:
    """Whether best and worst method lie further apart on harder splits, seed by seed."""
    question = "Do methods differ more as shift grows?"
    wide, order = zero_shot(table, metric), shifts(table)
    if wide.index.get_level_values("method").nunique() < 2 or wide.shape[1] < 2:
        return Finding(question, "undecided", "Two methods and two splits are needed.")
    grouped = wide.groupby(level="method").mean()
    spread = grouped.max() - grouped.min()
    by_seed = wide.groupby(level="seed")
    seeds = (by_seed.max() - by_seed.min()).dropna()
    figures = (
        f"Best and worst lie {_points(spread.iloc[0])} points apart on the easiest split, "
        f"{_points(spread.iloc[-1])} on the hardest."
    )
    if len(seeds) < 2 or order[wide.columns].nunique() < 2:
        return Finding(question, "undecided", f"{figures} One seed cannot tell this from chance.")
    slope = student_interval([np.polyfit(order[wide.columns], row, 1)[0] for row in seeds.values])
    return Finding(question, _sign(slope.low, slope.high), figures)


def standard_misranks(table: pd.DataFrame, metric: str) -> Finding:
    """Whether the standard split orders some methods otherwise than AGS, both surely."""
    question = "Would the standard split alone have misranked the methods?"
    found = misranking(table, metric)
    if found is None:
        return Finding(question, "undecided", "There is no standard split, or only one method.")
    figures = f"Kendall's τ between the two rankings is {found.agreement:.2f}."
    if found.inverted:
        better, other = found.inverted[0]
        return Finding(
            question, "yes", f"{figures} It puts {other} before {better}; over all splits not so."
        )
    if found.tied_inverted:
        n = len(found.tied_inverted)
        pairs = "pair changes" if n == 1 else "pairs change"
        return Finding(question, "undecided", f"{figures} {n} {pairs} order within the noise.")
    return Finding(question, "no", figures)


def adaptation_helps(table: pd.DataFrame, metric: str) -> Finding:
    """Whether few-shot adaptation helps everywhere, and more at larger shift."""
    question = "Does few-shot adaptation always help, and more at larger shift?"
    gains = few_shot_gains(table, metric)
    if gains.empty:
        return Finding(question, "undecided", "No run adapted to test classes.")
    helps = bool((gains["gain_low"] > 0).all())
    hurts = bool((gains["gain_high"] < 0).any())
    slopes = gain_slopes(table, metric)
    grows, shrinks = (slopes["slope_low"] > 0).sum(), (slopes["slope_high"] < 0).sum()
    answer: Answer = "undecided"
    if helps and len(slopes) and grows == len(slopes):
        answer = "yes"
    elif hurts or shrinks:
        answer = "no"
    return Finding(
        question,
        answer,
        f"It gains {_points(gains['gain'].min())} to {_points(gains['gain'].max())} points, surely "
        f"above zero in {int((gains['gain_low'] > 0).sum())} of {len(gains)} cases; the gain grows "
        f"with shift for {int(grows)} of {len(slopes)} methods and shots, and shrinks for "
        f"{int(shrinks)}.",
    )


def structure_does_not_predict(table: pd.DataFrame, metric: str, strong: float = 0.5) -> Finding:
    """Whether no structure measure has a strong rank correlation within splits."""
    question = "Do structure measures fail to predict generalization?"
    found = structure_correlations(table, metric).dropna(subset=["within"])
    if found.empty or table["method"].nunique() < 2:
        return Finding(question, "undecided", "No structure measure varies over the runs.")
    best = found.iloc[int(found["within"].abs().to_numpy().argmax())]
    surely = found[(found["within_low"] > strong) | (found["within_high"] < -strong)]
    weak = bool((found[["within_low", "within_high"]].abs().max(axis=1) < strong).all())
    answer: Answer = "no" if len(surely) else "yes" if weak else "undecided"
    return Finding(
        question,
        answer,
        f"The strongest rank correlation within splits is {_signed(best['within'])}, of "
        f"{best['measure']} (95% interval {_signed(best['within_low'])} to "
        f"{_signed(best['within_high'])}).",
    )


def pretraining_raises_level(
    table: pd.DataFrame, metric: str, backbones: Mapping[str, str]
) -> Finding:
    """What level and slope the methods of each network have; a question of two networks."""
    question = "Does better pre-training raise the level, not the slope?"
    names = {backbones[name] for name in table["method"].unique() if name in backbones}
    if len(names) < 2:
        return Finding(question, "undecided", "The study trains one network only.")
    lines = compare_methods(table, metric)
    means = lines.groupby(lines["method"].map(backbones))[["level", "slope"]].mean()
    told = "; ".join(
        f"{name}: level {row['level']:.3f}, slope {row['slope']:+.3f}"
        for name, row in means.iterrows()
    )
    return Finding(question, "undecided", f"{told}. Which is better pre-trained, you must say.")


def _sign(low: float, high: float) -> Answer:
    return "yes" if low > 0 else "no" if high < 0 else "undecided"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _points(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "−")
