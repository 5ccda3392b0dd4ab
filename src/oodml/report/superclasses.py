"""Recall@1 of every run on each superclass, kept so that it is computed once."""

import pandas as pd

from oodml.analysis.superclasses import superclass_recall
from oodml.files import write_text
from oodml.report.folder import StudyFolder

COLUMNS = ("run", "method", "split", "seed", "superclass", "value")
DIGITS = 6  # what is written is what is used, so that a page is the same when made again
_TYPES = {"run": str, "method": str, "split": str, "superclass": str}


def superclass_recalls(folder: StudyFolder) -> pd.DataFrame:
    """One row a (run, superclass): Recall@1 of its queries among all test images as `value`.

    Of runs that kept their vectors; empty where the data have no superclasses. Results lie in
    report/recall_by_superclass.csv; only vectors newer than that file are looked at again.
    """
    path = folder.path / "report" / "recall_by_superclass.csv"
    known = pd.DataFrame(columns=[*COLUMNS])
    if folder.features is None or folder.features.superclasses is None:
        return known
    written = path.stat().st_mtime if path.exists() else 0.0
    if written:
        known = pd.read_csv(path, dtype=_TYPES)
        known["value"] = known["value"].round(DIGITS)
    runs = folder.table[folder.table["stage"] == "zero_shot"].drop_duplicates("run")
    old = set(known["run"])
    rows = []
    for row in runs[["run", "method", "split", "seed"]].itertuples(index=False):
        kept = folder.path / "runs" / str(row.run) / "vectors.npz"
        if not kept.exists() or (row.run in old and kept.stat().st_mtime <= written):
            continue
        found = folder.vectors(str(row.run))
        shares = {} if found is None else superclass_recall(found)
        rows += [(*row, name, round(share, DIGITS)) for name, share in shares.items()]
    if not rows:
        return known[known["run"].isin(set(runs["run"]))].reset_index(drop=True)
    new = pd.DataFrame(rows, columns=[*COLUMNS])
    kept_rows = known[known["run"].isin(set(runs["run"]) - set(new["run"]))]
    both = pd.concat([kept_rows, new]) if len(kept_rows) else new
    both = both.sort_values(["method", "split", "seed", "superclass"]).reset_index(drop=True)
    write_text(path, both.to_csv(index=False))
    return both
