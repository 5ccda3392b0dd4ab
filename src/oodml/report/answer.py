"""The headline of a report: which method generalizes best, by how much, and how certain that is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from oodml.analysis.formatting import (
    format_difference,
    format_level,
    format_list,
    format_percent,
    format_probability,
    is_percent,
)
from oodml.analysis.gains import describe_near_and_far
from oodml.analysis.intervals import SEPARATED
from oodml.evaluate.registry import find_metric
from oodml.report.tables import select

NO_INTERVAL = "One seed gives no confidence interval; run at least three seeds to get one."
EQUAL_SEEDS = "All seeds gave the same difference, which gives no confidence interval."


class Fact(NamedTuple):
    """A number and its description."""

    number: str
    of: str


@dataclass(frozen=True)
class Answer:
    """The answer of a study by one metric.

    Attributes:
        probability: that the named method is better than the next one, if one is named.
        facts: the score, the loss, and the value on the hardest split of the best trained method.
    """

    headline: str
    details: tuple[str, ...] = ()
    probability: float | None = None
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class _Ranking:
    data: str
    metric: str
    score: str
    order: pd.DataFrame
    probabilities: Mapping[str, float]

    @property
    def best(self) -> "pd.Series[Any]":
        return self.order.iloc[0]

    @property
    def tied(self) -> list[str]:
        """The methods that the best one is not separated from, the best one first."""
        names = self.order["method"].iloc[1:]
        return [str(self.best["method"])] + [
            str(name) for name in names if not self.probabilities.get(name, 0.0) >= SEPARATED
        ]

    def row(self, method: str) -> "pd.Series[Any]":
        return self.order[self.order["method"] == method].iloc[0]

    def lead(self, method: str) -> str:
        """How far the best method is ahead of another one, in points."""
        difference = float(self.best[self.score] - self.row(method)[self.score])
        unit = "points of " if is_percent(self.metric) else "in "
        return f"{format_difference(difference, self.metric)} {unit}{self.label}"

    @property
    def best_trained(self) -> str:
        return str(self.order.loc[self.order["trains"].astype(bool), "method"].iloc[0])

    @property
    def label(self) -> str:
        return find_metric(self.metric).label

    def level(self, value: float) -> str:
        return format_level(value, self.metric)


def answer(tables: Mapping[str, pd.DataFrame], data: str, metric: str) -> Answer:
    """State which method generalizes best; baselines compete like every other method.

    A method is named as the best one only if the 95% interval of its lead over every other method
    excludes zero.
    """
    order = select(tables, "ags", metric)
    if not order["trains"].any():
        names = format_list(order["method"].tolist())
        return Answer(f"On {data}, only {names} has been run, which is not trained.")
    single = tables["progression"]["shift"].nunique() < 2
    score = "hardest" if single else "ags"
    order = order.dropna(subset=[score]).sort_values(score, ascending=False, kind="stable")
    if order.empty:
        return Answer("No method has results on every split yet.")
    pairs = select(tables, "pairs", metric)
    ahead = pairs[pairs["method"] == order.iloc[0]["method"]].set_index("other")["probability"]
    ranking = _Ranking(data, metric, score, order, ahead.to_dict())
    result = _headline(ranking)
    if single:
        detail = "With one split, the study does not show how quality changes with shift."
        result = replace(result, details=(*result.details, detail))
    gains = select(tables, "near_and_far", metric).set_index("method", drop=False)
    ranked = [name for name in order["method"] if name in gains.index]
    compared = describe_near_and_far(gains.loc[ranked], metric)
    if compared:
        result = replace(result, details=(*result.details, compared))
    chance = tables["chance_ags"].set_index("metric")["chance"].get(metric)
    return replace(result, facts=_facts(ranking, chance))


def _headline(ranking: _Ranking) -> Answer:
    best = ranking.best
    if len(ranking.order) == 1:
        value = ranking.level(float(best[ranking.score]))
        what = "an AGS" if ranking.score == "ags" else "a value"
        return Answer(
            f"On {ranking.data}, {best['method']} has {what} of {value} in {ranking.label}.",
            ("There is no other method to compare it with.",),
        )
    second = str(ranking.order["method"].iloc[1])
    has_interval = any(value == value for value in ranking.probabilities.values())
    certain = has_interval and len(ranking.tied) == 1
    probability = float(ranking.probabilities[second]) if certain else None
    several = int(ranking.order["seeds"].max()) > 1
    details = () if has_interval else (EQUAL_SEEDS if several else NO_INTERVAL,)
    if not best["trains"]:
        text = _behind_baseline(ranking, probability, has_interval)
    elif not has_interval:
        lead = ranking.lead(second)
        text = f"{best['method']} scores {lead} above {second}, without a confidence interval"
    elif probability is None:
        text = _undecided(ranking)
    else:
        claim = "generalizes best as shift grows" if ranking.score == "ags" else "scores highest"
        text = (
            f"{best['method']} {claim}: {ranking.lead(second)} ahead of {second}, with "
            f"{format_probability(probability)} probability"
        )
    return Answer(f"On {ranking.data}, {text}.", details, probability)


def _behind_baseline(ranking: _Ranking, probability: float | None, has_interval: bool) -> str:
    method, claim = ranking.best_trained, "no trained method matches"
    if probability is not None:
        certainty = f"with {format_probability(probability)} probability"
    elif has_interval:
        claim, certainty = "training does not clearly improve on", "with no certain order"
    else:
        claim, certainty = "no trained method scores above", "without a confidence interval"
    return (
        f"{claim} {ranking.best['method']}, which is not trained: {method} is "
        f"{ranking.lead(method)} behind, {certainty}"
    )


def _undecided(ranking: _Ranking) -> str:
    best, tied = ranking.best["method"], ranking.tied
    baselines = [name for name in tied if not ranking.row(name)["trains"]]
    if baselines:
        probability = ranking.probabilities.get(baselines[0], float("nan"))
        certainty = (
            f"with {format_probability(probability)} probability"
            if probability == probability
            else "without a confidence interval"
        )
        return (
            f"no method is clearly better than {baselines[0]}, which is not trained: {best} is "
            f"{ranking.lead(baselines[0])} ahead, {certainty}"
        )
    spread = ranking.lead(tied[-1])
    behind = [name for name in ranking.order["method"] if name not in tied]
    if not behind:
        return f"no method is clearly better than another: {format_list(tied)} are within {spread}"
    certainty = format_probability(ranking.probabilities[behind[0]])
    return (
        f"{format_list(tied)} lead, within {spread} and in no certain order. {behind[0]} is "
        f"{ranking.lead(behind[0])} behind {best}, with {certainty} probability"
    )


def _facts(ranking: _Ranking, chance: float | None) -> tuple[Fact, ...]:
    if not ranking.order["trains"].any():
        return ()
    row = ranking.row(ranking.best_trained)
    name, order = row["method"], ranking.order
    others = order[order["method"] != name]
    beside = [
        f"{other['method']} {ranking.level(other['ags'])}"
        for position, other in enumerate(others.to_dict("records"))
        if position == 0 or not other["trains"]
    ]
    beside += [] if chance is None else [f"chance {ranking.level(chance)}"]
    on_hardest = others.sort_values("hardest", ascending=False)
    compared = (
        f"; {on_hardest.iloc[0]['method']} has {ranking.level(on_hardest.iloc[0]['hardest'])}"
        if len(others)
        else ""
    )
    hardest = Fact(
        ranking.level(row["hardest"]), f"{ranking.label} of {name} on the hardest split{compared}"
    )
    if ranking.score != "ags":
        return (hardest,)
    start = "standard" if row["standard"] == row["standard"] else "easiest"
    verb = "lost" if row["loss"] >= 0 else "gained"
    unit = " points" if is_percent(ranking.metric) else ""
    change = f"{format_difference(abs(row['loss']), ranking.metric)}{unit}"
    relative = format_percent(abs(row["relative_loss"]), 0)
    return (
        Fact(
            ranking.level(row["ags"]),
            f"{ranking.label} of {name}, averaged over all shifts (AGS)"
            + (f": {', '.join(beside)}" if beside else ""),
        ),
        Fact(f"{change} ({relative})", f"{verb} from the {start} split to the hardest"),
        hardest,
    )
