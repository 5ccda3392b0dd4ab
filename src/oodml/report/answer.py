"""The answer in a sentence: which method holds up best, by how much, how sure."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from oodml.analysis.ranking import beat_probability, compare_methods
from oodml.analysis.table import BASELINE, shifts, trained


@dataclass(frozen=True)
class Answer:
    """headline: the sentence. details: what it rests on. sure: the probability, or None."""

    headline: str
    details: tuple[str, ...]
    sure: float | None


def answer(table: pd.DataFrame, data: str, metric: str = "recall@1") -> Answer:
    """Say which method has the highest AGS, its lead over the next, and the probability of it.

    Where the frozen baseline scores higher than every trained method, that is the answer.
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
    if BASELINE not in every.index or every[BASELINE] != every[BASELINE]:
        return found
    return _beside_baseline(found, order.iloc[0], float(every[BASELINE]), data, name)


def _beside_baseline(
    found: Answer, best: "pd.Series[Any]", frozen: float, data: str, name: str
) -> Answer:
    gain = float(best["ags"]) - frozen
    if gain > 0:
        told = f"Over the frozen features it gains {_points(gain)} points."
        return replace(found, details=(*found.details, told))
    headline = (
        f"On {data}, no method holds up as well as the frozen features, which were not trained: "
        f"{best['method']}, the best, is {_points(-gain)} points of {name} behind them."
    )
    return Answer(headline, found.details, None)


def _ranked(runs: pd.DataFrame, order: pd.DataFrame, data: str, metric: str) -> Answer:
    best, name = order.iloc[0], label(metric)
    start = "standard" if best["standard"] == best["standard"] else "easiest"
    details = [
        f"From the {start} split to the hardest {best['method']} loses {_points(best['loss'])} "
        f"points of {name}, {100 * best['relative_loss']:.0f}% of what it had."
    ]
    if len(order) == 1:
        return Answer(
            f"On {data}, {best['method']} scores an AGS of {best['ags']:.3f} in {name}.",
            (*details, "It is the only method, so there is nothing to compare it with."),
            None,
        )
    second = order.iloc[1]
    lead = best["ags"] - second["ags"]
    sure = float(beat_probability(runs, metric).loc[best["method"], second["method"]])
    strongest = order.sort_values("hardest", ascending=False).iloc[0]
    on_hardest = (
        "It also leads on the hardest split"
        if strongest["method"] == best["method"]
        else f"On the hardest split {strongest['method']} leads"
    )
    details.append(f"{on_hardest}, with {strongest['hardest']:.3f}.")
    headline = (
        f"On {data}, {best['method']} {_verb(sure)} as shift grows: {_points(lead)} points "
        f"of {name} ahead of {second['method']}"
    )
    if sure != sure:
        details.append("With fewer than two common seeds nobody can say how sure that is.")
        return Answer(f"{headline}.", tuple(details), None)
    return Answer(f"{headline}, with {_percent(sure)} probability.", tuple(details), sure)


def _verb(sure: float) -> str:
    if sure != sure:
        return "leads"
    if sure < 0.8:
        return "leads, within the noise,"
    return "holds up best" if sure >= 0.95 else "probably holds up best"


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
