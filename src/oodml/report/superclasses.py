"""Recall@1 of the superclasses in each run of a study."""

import pandas as pd

from oodml.analysis.table import zero_shot_runs
from oodml.errors import OodmlError
from oodml.evaluate.superclasses import superclass_recall
from oodml.report.folder import StudyFolder

RECALL_COLUMNS = ("run", "method", "split", "seed", "superclass", "value")


def superclass_recalls(folder: StudyFolder) -> pd.DataFrame:
    """Recall@1 of each superclass in each run: its queries among all test images.

    Runs write it to `superclasses.parquet`; for runs of earlier versions, which did not, it is
    computed from their vectors.

    Returns:
        One row per run and superclass; empty if the data have no superclasses.
    """
    parts = []
    for row in zero_shot_runs(folder.table).to_dict("records"):
        recalls = _run_recalls(folder, str(row["run"]))
        if len(recalls):
            parts.append(recalls.assign(**{str(key): value for key, value in row.items()}))
    if not parts:
        return pd.DataFrame(columns=[*RECALL_COLUMNS])
    order = ["method", "split", "seed", "superclass"]
    return pd.concat(parts)[[*RECALL_COLUMNS]].sort_values(order).reset_index(drop=True)


def _run_recalls(folder: StudyFolder, run: str) -> pd.DataFrame:
    path = folder.path / "runs" / run / "superclasses.parquet"
    if path.exists():
        return pd.read_parquet(path)
    if folder.features is None or folder.features.superclasses is None:
        return pd.DataFrame()
    vectors = folder.vectors(run)
    try:
        return pd.DataFrame() if vectors is None else superclass_recall(vectors)
    except OodmlError:  # a zero vector has no direction, or no image has a positive
        return pd.DataFrame()
