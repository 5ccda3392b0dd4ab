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
from oodml.analysis.intervals import SEPARATED
from oodml.analysis.near_far import describe_near_and_far
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
    compared = describe_near_and_far(select(tables, "near_and_far", metric), metric)
    if compared:
        result = replace(result, details=(*result.details, compared))
    chance = tables["chance_ags"].set_index("metric")["chance"].get(metric)
    return replace(result, facts=_facts(ranking, chance))


def _headline(ranking: _Ranking) -> Answer:
    best, label, data = ranking.best, ranking.label, ranking.data
    if len(ranking.order) == 1:
        value = ranking.level(float(best[ranking.score]))
        what = "an AGS" if ranking.score == "ags" else "a value"
        return Answer(
            f"On {data}, {best['method']} has {what} of {value} in {label}.",
            ("There is no other method to compare it with.",),
        )
    known = [value for value in ranking.probabilities.values() if value == value]
    if not known:
        return _without_interval(ranking)
    if len(ranking.tied) > 1:
        return _undecided(ranking)
    second = str(ranking.order.iloc[1]["method"])
    probability = float(ranking.probabilities[second])
    if not best["trains"]:
        return Answer(
            f"On {data}, no trained method matches {best['method']}, which is not trained: "
            f"{_best_trained(ranking)} is {ranking.lead(_best_trained(ranking))} "
            f"behind, with {format_probability(probability)} probability.",
            probability=probability,
        )
    claim = "generalizes best as shift grows" if ranking.score == "ags" else "scores highest"
    return Answer(
        f"On {data}, {best['method']} {claim}: {ranking.lead(second)} ahead of "
        f"{second}, with {format_probability(probability)} probability.",
        probability=probability,
    )


def _without_interval(ranking: _Ranking) -> Answer:
    best, second = ranking.best, ranking.order.iloc[1]
    several = int(ranking.order["seeds"].max()) > 1
    detail = EQUAL_SEEDS if several else NO_INTERVAL
    if not best["trains"]:
        method = _best_trained(ranking)
        headline = (
            f"On {ranking.data}, no trained method scores above {best['method']}, which is not "
            f"trained: {method} is {ranking.lead(method)} behind, "
            "without a confidence interval."
        )
    else:
        headline = (
            f"On {ranking.data}, {best['method']} scores {ranking.lead(str(second['method']))} "
            f"above {second['method']}, without a confidence interval."
        )
    return Answer(headline, (detail,))


def _undecided(ranking: _Ranking) -> Answer:
    best, data, tied = ranking.best, ranking.data, ranking.tied
    baselines = [name for name in tied if not ranking.row(name)["trains"]]
    if not best["trains"]:
        method = _best_trained(ranking)
        return Answer(
            f"On {data}, training does not clearly improve on {best['method']}, which is not "
            f"trained: {method} is {ranking.lead(method)} behind, with no "
            "certain order."
        )
    if baselines:
        probability = ranking.probabilities.get(baselines[0], float("nan"))
        certainty = (
            f"with {format_probability(probability)} probability"
            if probability == probability
            else "without a confidence interval"
        )
        return Answer(
            f"On {data}, no method is clearly better than {baselines[0]}, which is not trained: "
            f"{best['method']} is {ranking.lead(baselines[0])} ahead, "
            f"{certainty}."
        )
    spread = ranking.lead(tied[-1])
    behind = [name for name in ranking.order["method"] if name not in tied]
    if not behind:
        return Answer(
            f"On {data}, no method is clearly better than another: {format_list(tied)} are within "
            f"{spread}."
        )
    certainty = format_probability(ranking.probabilities[behind[0]])
    return Answer(
        f"On {data}, {format_list(tied)} lead, within {spread} and in no certain "
        f"order. {behind[0]} is {ranking.lead(behind[0])} behind {best['method']}, with "
        f"{certainty} probability."
    )


def _best_trained(ranking: _Ranking) -> str:
    return str(ranking.order.loc[ranking.order["trains"].astype(bool), "method"].iloc[0])


def _facts(ranking: _Ranking, chance: float | None) -> tuple[Fact, ...]:
    if not ranking.order["trains"].any():
        return ()
    row = ranking.row(_best_trained(ranking))
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
