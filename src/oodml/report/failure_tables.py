"""Where the methods of a study fail: tables of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from oodml.analysis import failures
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

    See `oodml.analysis.failures`. The tables are empty if no run has recorded its confusions.
    `order` are the methods, the best first.
    """
    counted = study_confusions(folder)
    if counted.empty:
        names = ("by_kind", "by_class", "confused_pairs", "exceptions", "explained")
        return {name: pd.DataFrame() for name in names}
    recalls, traits = failures.class_recalls(counted), class_traits(folder)
    return {
        "by_kind": failures.kind_recalls(recalls),
        "by_class": recalls,
        "confused_pairs": failures.confused_pairs(counted),
        "exceptions": failures.exceptions(recalls, [*order]),
        "explained": traits if traits.empty else failures.explain_recall(recalls, traits),
    }


def study_confusions(folder: StudyFolder) -> pd.DataFrame:
    """The confusions of every run; those not recorded are computed from the vectors."""
    parts = []
    for row in zero_shot_runs(folder.table).to_dict("records"):
        path = folder.path / "runs" / str(row.pop("run")) / "confusions.parquet"
        try:
            if path.exists():
                counted = pq.ParquetFile(path).read().to_pandas()
            elif (vectors := folder.vectors(path.parent.name)) is not None:
                counted = confusions(vectors)
            else:
                continue
        except OodmlError:  # a zero vector has no direction
            continue
        if len(counted):
            parts.append(counted.assign(**{str(name): value for name, value in row.items()}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def class_traits(folder: StudyFolder) -> pd.DataFrame:
    """What may explain the recall of the test classes of each split, from the means of frozen
    features of length 1: the logarithm of the number of images (`images_per_class`), the distance
    to the `nearest_class` among test classes, and the `similarity_to_training` classes."""
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
        named = dict(zip(failures.TRAITS, columns, strict=True))
        parts.append(pd.DataFrame({"split": str(split.step), "class": split.test, **named}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def page_failures(folder: StudyFolder, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What the page shows of the leading method: kinds, classes, exceptions, pairs, and images."""
    recalls, pairs = tables["by_class"], tables["confused_pairs"]
    if recalls.empty:
        return dict.fromkeys(("kinds", "classes", "exceptions", "explained", "pairs"), ())
    present = set(recalls["method"])
    leader = next(name for name in tables["ags"]["method"] if name in present)  # of first metric
    easiest, hardest = tables["progression"]["split"].iloc[[0, -1]]
    kinds = tables["by_kind"]
    kinds = kinds[(kinds["method"] == leader) & kinds["split"].isin((easiest, hardest))]
    own, pairs = (
        rows[(rows["method"] == leader) & (rows["split"] == hardest)] for rows in (recalls, pairs)
    )
    pairs = pairs.head(SHOWN)
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
