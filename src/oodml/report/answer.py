"""The answer in a sentence: which method holds up best, by how much, how sure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from oodml.analysis.ranking import beat_probability, compare_methods
from oodml.analysis.table import BASELINE, shifts, trained

SURE, UNSURE = 0.95, 0.8
"""From the first on a lead is called one; below the second, methods are said to lead together."""


class Fact(NamedTuple):
    """A number that is seen before anything is read, and what it is of."""

    number: str
    of: str


@dataclass(frozen=True)
class Answer:
    """headline: the sentence. details: what it rests on. sure: the probability, or None.

    facts: what the best method scores and keeps, beside baseline and chance.
    """

    headline: str
    details: tuple[str, ...]
    sure: float | None
    facts: tuple[Fact, ...] = ()


def answer(
    table: pd.DataFrame, data: str, metric: str = "recall@1", chance: float | None = None
) -> Answer:
    """Say which method has the highest AGS, its lead over the next, and the probability of it.

    Where the frozen baseline scores higher than every trained method, that is the answer.
    chance: the AGS of a random order.
    """
    runs = trained(table)
    if runs.empty:
        return Answer("Only the frozen baseline has been run.", (), None)
    order = compare_methods(runs, metric)
    name = label(metric)
    if shifts(runs).nunique() < 2:
        best = order.sort_values("easiest", ascending=False).iloc[0]
        return Answer(
            f"On {data}, {best['method']} has the highest {name} on the one split there is.",
            ("One split shows no curve: nothing can be said yet about growing shift.",),
            None,
        )
    order = order.dropna(subset=["ags"])
    if order.empty:
        return Answer("No method has been run on every split yet.", (), None)
    found = _ranked(runs, order, data, metric)
    every = compare_methods(table, metric).set_index("method")["ags"]
    frozen = float(every.get(BASELINE, np.nan))
    found = replace(found, facts=_facts(order, frozen, chance, name))
    return found if frozen != frozen else _beside_baseline(found, order.iloc[0], frozen, data, name)


def _facts(order: pd.DataFrame, frozen: float, chance: float | None, name: str) -> tuple[Fact, ...]:
    """What the best scores and keeps, beside what there is to compare it with."""
    best = order.iloc[0]
    beside = [f"next best {order.iloc[1]['ags']:.3f}"] if len(order) > 1 else []
    beside += [f"frozen features {frozen:.3f}"] if frozen == frozen else []
    beside += [f"chance {chance:.3f}"] if chance is not None else []
    average = f"{name} of {best['method']}, averaged over all shifts (AGS)"
    start = "standard" if best["standard"] == best["standard"] else "easiest"
    loss = f"{best['loss']:+.3f}".translate(str.maketrans("+-", "−+"))
    strongest = order.sort_values("hardest", ascending=False).iloc[0]
    leads = "where it leads, too" if strongest["method"] == best["method"] else (
        f"where {strongest['method']} leads with {strongest['hardest']:.3f}"
    )  # fmt: skip
    return (
        Fact(f"{best['ags']:.3f}", ": ".join([average, *([", ".join(beside)] if beside else [])])),
        Fact(
            loss,
            f"from the {start} split to the hardest, {100 * best['relative_loss']:.0f}% of what "
            "it had",
        ),
        Fact(f"{best['hardest']:.3f}", f"on the hardest split, {leads}"),
    )


def _beside_baseline(
    found: Answer, best: "pd.Series[Any]", frozen: float, data: str, name: str
) -> Answer:
    gain = float(best["ags"]) - frozen
    if gain > 0:
        return found
    headline = (
        f"On {data}, no method holds up as well as the frozen features, which were not trained: "
        f"{best['method']}, the best, is {_points(-gain)} points of {name} behind them."
    )
    return replace(found, headline=headline, sure=None)


def _ranked(runs: pd.DataFrame, order: pd.DataFrame, data: str, metric: str) -> Answer:
    best, name = order.iloc[0], label(metric)
    if len(order) == 1:
        return Answer(
            f"On {data}, {best['method']} scores an AGS of {best['ags']:.3f} in {name}.",
            ("It is the only method, so there is nothing to compare it with.",),
            None,
        )
    second = order.iloc[1]
    lead = best["ags"] - second["ags"]
    sure = float(beat_probability(runs, metric).loc[best["method"], second["method"]])
    if sure < UNSURE:
        return _level(runs, order, data, metric)
    headline = (
        f"On {data}, {best['method']} {_verb(sure)} as shift grows: {_points(lead)} points "
        f"of {name} ahead of {second['method']}"
    )
    if sure != sure:
        unsure = "With fewer than two common seeds nobody can say how sure that is."
        return Answer(f"{headline}.", (unsure,), None)
    return Answer(f"{headline}, with {_percent(sure)} probability.", (), sure)


def _level(runs: pd.DataFrame, order: pd.DataFrame, data: str, metric: str) -> Answer:
    """Several methods lead together; by how much the next is behind them."""
    best, name = order.iloc[0], label(metric)
    chances = beat_probability(runs, metric).loc[best["method"]]
    behind = [bool(chances[method] >= SURE) for method in order["method"]]
    count = behind.index(True) if True in behind else len(order)
    together = [str(method) for method in order["method"][:count]]
    spread = _points(best["ags"] - order.iloc[count - 1]["ags"])
    if count == len(order):
        told = f"On {data}, no method surely holds up better than another: {_listed(together)} lie"
        return Answer(f"{told} within {spread} points of {name}.", (), None)
    after = order.iloc[count]
    headline = (
        f"On {data}, {_listed(together)} hold up best as shift grows, within {spread} points of "
        f"{name} of each other; {after['method']}, the next, is "
        f"{_points(best['ags'] - after['ags'])} behind, with {_percent(chances[after['method']])} "
        "probability."
    )
    return Answer(headline, (), None)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _verb(sure: float) -> str:
    if sure != sure:
        return "leads"
    return "holds up best" if sure >= SURE else "probably holds up best"


def label(metric: str) -> str:
    """A metric's name as it is written in prose."""
    known = {"recall@": "Recall@", "map": "mAP", "nmi": "NMI", "f1": "F1", "mrr": "MRR"}
    for start, written in known.items():
        if metric.startswith(start):
            return (written + metric.removeprefix(start)).replace("@r", "@R")
    return metric.replace("_", " ").capitalize().replace("fid", "FID")


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _percent(probability: float) -> str:
    if probability > 0.999:
        return "over 99.9%"
    return f"{100 * probability:.1f}%" if probability > 0.99 else f"{100 * probability:.0f}%"
