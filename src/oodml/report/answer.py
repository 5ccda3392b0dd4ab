"""The headline of a report: which method generalizes best, by how much, and how certain that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from oodml.analysis import formatting
from oodml.analysis.formatting import format_list, is_percent
from oodml.analysis.gains import describe_near_and_far
from oodml.analysis.intervals import SEPARATED
from oodml.evaluate.registry import find_metric
from oodml.progress import count_noun
from oodml.report.tables import select

EQUAL_SEEDS = "All seeds gave the same difference, which gives no confidence interval."


class Fact(NamedTuple):
    """A number and its description."""

    number: str
    of: str


@dataclass(frozen=True)
class Answer:
    """The answer by one metric; `probability`: that the named method is better than the next."""

    headline: str
    details: tuple[str, ...] = ()
    probability: float | None = None
    facts: tuple[Fact, ...] = ()


class _Ranking:
    """The methods of `order`, the best first, by a metric and the column `score`."""

    def __init__(self, order: pd.DataFrame, pairs: pd.DataFrame, metric: str, score: str) -> None:
        self.rows: list[dict[str, Any]] = order.to_dict("records")  # type: ignore[assignment]
        self.metric, self.score, self.label = metric, score, find_metric(metric).label
        self.best = self.rows[0]
        self.best_trained = next(row for row in self.rows if row["trains"])
        ahead = pairs[pairs["method"] == self.best["method"]].set_index("other")["probability"]
        self.probabilities: dict[str, float] = ahead.to_dict()
        near = [row for row in self.rows[1:] if not self.probability(row) >= SEPARATED]
        self.tied = [self.best, *near]
        """The methods that the best one is not separated from, the best one first."""

    def probability(self, row: Mapping[str, Any]) -> float:
        """That the best method is better than another one."""
        return self.probabilities.get(row["method"], float("nan"))

    def lead(self, row: Mapping[str, Any]) -> str:
        """How far the best method is ahead of another one, in points."""
        ahead = self.best[self.score] - row[self.score]
        difference = formatting.format_difference(ahead, self.metric)
        unit = "points of " if is_percent(self.metric) else "in "
        return f"{difference} {unit}{self.label}"

    def level(self, value: float) -> str:
        """A value of the metric as text."""
        return formatting.format_level(value, self.metric)


def answer(tables: Mapping[str, pd.DataFrame], data: str, metric: str) -> Answer:
    """State which method generalizes best, baselines included: one is named as the best only if the
    95% interval of its lead over every other method excludes zero."""
    order = select(tables, "ags", metric)
    if not order["trains"].any():
        names = format_list(order["method"].tolist())
        return Answer(f"On {data}, only {names} has been run, which is not trained.")
    single = tables["progression"]["shift"].nunique() < 2
    score = "hardest" if single else "ags"
    order = order.dropna(subset=[score]).sort_values(score, ascending=False, kind="stable")
    if not order["trains"].any():
        return Answer("No trained method has results on every split yet.")
    ranking = _Ranking(order, select(tables, "pairs", metric), metric, score)
    headline, details, probability = _headline(ranking)
    if single:
        details.append("With one split, the study does not show how quality changes with shift.")
    gains = select(tables, "near_and_far", metric).set_index("method", drop=False)
    ranked = [name for name in order["method"] if name in gains.index]
    details += filter(None, [describe_near_and_far(gains.loc[ranked], metric)])
    chance = tables["chance_ags"].set_index("metric")["chance"].get(metric)
    facts = _facts(ranking, chance)
    return Answer(f"On {data}, {headline}.", tuple(details), probability, facts)


def _headline(ranking: _Ranking) -> tuple[str, list[str], float | None]:
    """The headline, what qualifies it, and the probability that it states."""
    best, rows = ranking.best, ranking.rows
    if len(rows) == 1:
        what = "an AGS" if ranking.score == "ags" else "a value"
        value = ranking.level(best[ranking.score])
        text = f"{best['method']} has {what} of {value} in {ranking.label}"
        return text, ["There is no other method to compare it with."], None
    second = rows[1]
    has_interval = any(value == value for value in ranking.probabilities.values())
    certain = has_interval and len(ranking.tied) == 1
    probability = float(ranking.probability(second)) if certain else None
    details = [] if has_interval else [_why_no_interval(rows)]
    certainty = _certainty(probability)
    if not best["trains"]:
        text = _behind_baseline(ranking, probability, has_interval)
    elif not has_interval:
        lead = f"{ranking.lead(second)} above {second['method']}"
        text = f"{best['method']} scores {lead}, {certainty}"
    elif probability is None:
        text = _undecided(ranking)
    else:
        claim = "generalizes best as shift grows" if ranking.score == "ags" else "scores highest"
        lead = f"{ranking.lead(second)} ahead of {second['method']}"
        text = f"{best['method']} {claim}: {lead}, {certainty}"
    return text, details, probability


def _why_no_interval(rows: Sequence[Mapping[str, Any]]) -> str:
    single = [row["method"] for row in rows if row["trains"] and row["seeds"] == 1]
    if not single:
        return EQUAL_SEEDS
    reason = f"{'has' if len(single) == 1 else 'have'} one seed, which gives no confidence interval"
    return f"{format_list(single)} {reason}; run at least three seeds."


def _certainty(probability: float | None) -> str:
    if probability is None or probability != probability:
        return "which may be chance"
    return f"with {formatting.format_probability(probability)} probability"


def _behind_baseline(ranking: _Ranking, probability: float | None, has_interval: bool) -> str:
    row, claim = ranking.best_trained, "no trained method matches"
    certainty = _certainty(probability)
    if probability is None and has_interval:
        claim, certainty = "training does not clearly improve on", "which may be chance"
    elif probability is None:
        claim = "no trained method scores above"
    behind = f"{row['method']} is {ranking.lead(row)} behind, {certainty}"
    return f"{claim} {ranking.best['method']}, which is not trained: {behind}"


def _undecided(ranking: _Ranking) -> str:
    best, tied = ranking.best["method"], ranking.tied
    if baseline := next((row for row in tied if not row["trains"]), None):
        return (
            f"no method is clearly better than {baseline['method']}, which is not trained: {best} "
            f"is {ranking.lead(baseline)} ahead, which {count_noun(tied[0]['seeds'], 'seed')} do "
            "not confirm"
        )
    names, spread = format_list([row["method"] for row in tied]), ranking.lead(tied[-1])
    behind = next((row for row in ranking.rows if row not in tied), None)
    if behind is None:
        return f"no method is clearly better than another: {names} are within {spread}"
    certainty = _certainty(ranking.probability(behind))
    next_one = f"{behind['method']} is {ranking.lead(behind)} behind {best}, {certainty}"
    return f"{names} lead, within {spread} and in no certain order. {next_one}"


def _facts(ranking: _Ranking, chance: float | None) -> tuple[Fact, ...]:
    row, level = ranking.best_trained, ranking.level
    others = [other for other in ranking.rows if other is not row]
    others = [other for other in others if other is others[0] or not other["trains"]]
    text = f"{ranking.label} of {row['method']}"

    def beside(score: str, *more: str) -> str:
        names = [*(f"{other['method']} {level(other[score])}" for other in others), *more]
        return f": {', '.join(names)}" if names else ""

    end = Fact(level(row["hardest"]), f"{text} on the hardest split{beside('hardest')}")
    if ranking.score != "ags":
        return (end,)
    lowest = level(row["worst"])
    beyond = f"; the lowest is {lowest}, on split {row['worst_split']}"
    below = "" if lowest == end.number else beyond
    course = f"{text} from the easiest split (smallest shift) to the hardest (largest){below}"
    chances = () if chance is None else (f"chance {level(chance)}",)
    average = f"{text}, averaged over all shifts (AGS){beside('ags', *chances)}"
    fall = Fact(f"{level(row['easiest'])} → {end.number}", course)
    return fall, end, Fact(level(row["ags"]), average)
