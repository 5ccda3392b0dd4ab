"""Where the methods of a study fail: tables of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from oodml.analysis.failures import (
    TRAITS,
    class_recalls,
    confused_pairs,
    exceptions,
    explain_recall,
    kind_recalls,
)
from oodml.analysis.table import zero_shot_runs
from oodml.errors import OodmlError
from oodml.evaluate.confusions import confusions
from oodml.report.examples import thumbnails
from oodml.report.folder import StudyFolder

SHOWN = 12
"""Rows of each list on the page."""
PIXELS, MAX_BYTES = 96, 200_000


def failure_tables(folder: StudyFolder, order: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Recall by kind and class, confused pairs, exceptions, and what explains recall.

    Args:
        folder: the study.
        order: its methods, the best first.

    Returns:
        The tables `by_kind`, `by_class`, `confused_pairs`, `exceptions`, and `explained`; see
        `oodml.analysis.failures`. They are empty if no run has recorded its confusions.
    """
    names = ("by_kind", "by_class", "confused_pairs", "exceptions", "explained")
    counted = study_confusions(folder)
    if counted.empty:
        return {name: pd.DataFrame() for name in names}
    recalls = class_recalls(counted)
    traits = class_traits(folder)
    explained = pd.DataFrame() if traits.empty else explain_recall(recalls, traits)
    tables = (
        kind_recalls(recalls),
        recalls,
        confused_pairs(counted),
        exceptions(recalls, [*order]),
        explained,
    )
    return dict(zip(names, tables, strict=True))


def study_confusions(folder: StudyFolder) -> pd.DataFrame:
    """The confusions of every run.

    Runs write them to `confusions.parquet`; for runs of earlier versions, which did not, they are
    computed from their vectors.
    """
    parts = []
    for row in zero_shot_runs(folder.table).to_dict("records"):
        counted = _run_confusions(folder, str(row["run"]))
        if len(counted):
            parts.append(
                counted.assign(**{name: row[name] for name in ("method", "split", "seed")})
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _run_confusions(folder: StudyFolder, run: str) -> pd.DataFrame:
    path = folder.path / "runs" / run / "confusions.parquet"
    if path.exists():
        return pd.read_parquet(path)
    vectors = folder.vectors(run)
    try:
        return pd.DataFrame() if vectors is None else confusions(vectors)
    except OodmlError:  # a zero vector has no direction
        return pd.DataFrame()


def class_traits(folder: StudyFolder) -> pd.DataFrame:
    """What may explain the recall of the test classes of each split.

    Returns:
        One row per split and test class: the logarithm of the number of images
        (`images_per_class`), the distance to the nearest other test class (`nearest_class`), and
        the similarity to the nearest training class (`similarity_to_training`), between the means
        of frozen features of length 1; empty without features or splits.
    """
    if folder.features is None or folder.progression is None:
        return pd.DataFrame()
    features = folder.features
    means = features.class_means()
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    counts = np.bincount(features.labels)
    rows = {name: row for row, name in enumerate(features.class_names)}
    parts = []
    for split in folder.progression:
        test, train = ([rows[name] for name in side] for side in (split.test, split.train))
        if len(test) < 2 or not train:
            continue
        among = means[test] @ means[test].T
        np.fill_diagonal(among, -np.inf)
        columns = np.log(counts[test]), 1 - among.max(1), (means[test] @ means[train].T).max(1)
        named = dict(zip(TRAITS, columns, strict=True))
        parts.append(pd.DataFrame({"split": str(split.step), "class": split.test, **named}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def page_failures(folder: StudyFolder, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What the page shows of the leading method: kinds, classes, exceptions, pairs, and images."""
    recalls, pairs = tables["by_class"], tables["confused_pairs"]
    if recalls.empty:
        return dict.fromkeys(("kinds", "classes", "exceptions", "explained", "pairs"), ())
    leader, splits = leading_method(tables, recalls), tables["progression"]["split"].tolist()
    easiest, hardest = splits[0], splits[-1]
    own = recalls[(recalls["method"] == leader) & (recalls["split"] == hardest)]
    kinds = tables["by_kind"]
    kinds = kinds[(kinds["method"] == leader) & kinds["split"].isin((easiest, hardest))]
    pairs = pairs[(pairs["method"] == leader) & (pairs["split"] == hardest)].head(SHOWN)
    better = tables["exceptions"]
    better = better[better["separated"]] if len(better) else better
    shown = pairs[["query", "neighbor"]].to_numpy().ravel().tolist()
    frames = {
        "kinds": kinds.sort_values(["superclass", "split"]),
        "classes": own.sort_values("recall", kind="stable").head(SHOWN),
        "exceptions": better.head(SHOWN),
        "explained": tables["explained"],
        "pairs": pairs,
    }
    return {
        "leader": leader,
        "n_exceptions": len(better),
        "images": thumbnails(folder.images, shown, PIXELS, MAX_BYTES),
        **{name: frame.to_dict("records") for name, frame in frames.items()},
    }


def leading_method(tables: Mapping[str, pd.DataFrame], recalls: pd.DataFrame) -> str:
    """The best method by the first ranked metric that has recorded its confusions."""
    present = set(recalls["method"])
    return next(str(name) for name in tables["ags"]["method"] if name in present)
