"""The numbers behind every figure: functions of the results table."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from oodml.analysis.intervals import student_interval
from oodml.analysis.table import shifts, zero_shot
from oodml.evaluate.chance import chance_metrics
from oodml.images import ImageSet
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet


def curves(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row a (method, split): shift, mean, and the 95% interval over seeds (`n` of them)."""
    wide, shift = zero_shot(table, metric), shifts(table)
    rows = []
    for method, values in wide.groupby(level="method", sort=True):
        for split in wide.columns:
            seeds = values[split].dropna()
            if len(seeds):
                rows.append((method, split, shift[split], *student_interval(seeds)))
    return pd.DataFrame(rows, columns=["method", "split", "shift", "mean", "low", "high", "n"])


def split_sizes(
    table: pd.DataFrame, progression: Progression | None, sizes: Mapping[str, int]
) -> pd.DataFrame:
    """One row a split, easiest first: shift, classes on either side, images to test on.

    sizes: images of each class. Counts are missing (NA) where they or the progression are.
    """
    known = {str(split.step): split for split in progression or ()}
    rows = []
    for name, shift in shifts(table).items():
        split = known.get(str(name))
        train, test = (len(split.train), len(split.test)) if split else (None, None)
        images = sum(sizes.get(c, 0) for c in split.test) if split and sizes else None
        rows.append((name, float(shift), train, test, images))
    frame = pd.DataFrame(rows, columns=["split", "shift", "train", "test", "images"])
    return frame.astype({"train": "Int64", "test": "Int64", "images": "Int64"})


def chance(
    table: pd.DataFrame, progression: Progression | None, sizes: Mapping[str, int]
) -> dict[str, list[float | None]]:
    """The chance level of each retrieval metric on each split of the table, easiest first.

    None for a split whose test classes and their sizes are not known; empty if no split's are.
    """
    known = {str(split.step): split for split in progression or ()}
    levels = []
    for name in shifts(table).index:
        counts = [sizes.get(c, 0) for c in known[name].test] if name in known else []
        levels.append(_chance_levels(counts) if max(counts, default=0) > 1 else {})
    metrics = dict.fromkeys(metric for level in levels for metric in level)
    return {metric: [level.get(metric) for level in levels] for metric in metrics}


def _chance_levels(counts: list[int]) -> Mapping[str, float]:
    positives = np.repeat(np.array(counts, np.float64) - 1, counts)
    return chance_metrics(positives, len(positives) - 1)


def image_counts(known: ImageSet | VectorSet | None) -> dict[str, int]:
    """Images of each class; empty where nothing is known."""
    if known is None:
        return {}
    names, counts = np.unique(known.classes, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
