"""The numbers behind every figure: functions of the results table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from oodml.analysis.ags import aggregated_generalization_score
from oodml.analysis.intervals import student_interval
from oodml.analysis.table import metrics, shifts, zero_shot
from oodml.evaluate.chance import chance_metrics
from oodml.evaluate.clustering import cluster_agreement
from oodml.images.image_set import ImageSet
from oodml.report.folder import StudyFolder
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
    """The chance level of each metric of quality on each split of the table, easiest first.

    Of retrieval: a random order of the images; of clustering: random clusters, as many as classes
    (drawn once). None for a split whose test classes and their sizes are not known; empty if no
    split's are.
    """
    known = {str(split.step): split for split in progression or ()}
    ks = [int(name.rpartition("@")[2]) for name in metrics(table) if _is_recall(name)]
    levels = []
    for name in shifts(table).index:
        counts = [sizes.get(c, 0) for c in known[name].test] if name in known else []
        levels.append(_chance_levels(counts, ks) if max(counts, default=0) > 1 else {})
    known_metrics = dict.fromkeys(metric for level in levels for metric in level)
    return {metric: [level.get(metric) for level in levels] for metric in known_metrics}


def chance_levels(folder: StudyFolder) -> dict[str, list[float | None]]:
    """`chance` of a study, where its images or features and its progression are known."""
    counts = image_counts(folder.images or folder.features)
    return chance(folder.table, folder.progression, counts)


def chance_ags(
    table: pd.DataFrame, levels: Mapping[str, Sequence[float | None]]
) -> dict[str, float]:
    """The AGS of the chance levels of `chance`, where every split has one."""
    shift = shifts(table)
    if shift.nunique() < 2:
        return {}
    return {
        metric: aggregated_generalization_score(shift, found)
        for metric, found in levels.items()
        if None not in found
    }


def _is_recall(metric: str) -> bool:
    return metric.startswith("recall@") and metric.rpartition("@")[2].isdigit()


def _chance_levels(counts: list[int], ks: Sequence[int]) -> Mapping[str, float]:
    positives = np.repeat(np.array(counts, np.float64) - 1, counts)
    classes = np.repeat(np.arange(len(counts)), counts)
    clusters = np.random.default_rng(0).integers(len(counts), size=len(classes))
    return {
        **chance_metrics(positives, len(positives) - 1, ks=sorted({1, *ks})),
        **cluster_agreement(clusters, classes),
        "ami": 0.0,  # by its definition
    }


def image_counts(known: ImageSet | VectorSet | None) -> dict[str, int]:
    """Images of each class; empty where nothing is known."""
    if known is None:
        return {}
    names, counts = np.unique(known.classes, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
