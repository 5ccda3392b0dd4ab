"""Recall@1 by superclass."""

import numpy as np
import pandas as pd
from jaxtyping import Bool

from oodml.evaluate.retrieval import retrieval_metrics
from oodml.vectors import VectorSet


def superclass_recall(
    vectors: VectorSet, queries: Bool[np.ndarray, " n"] | None = None
) -> pd.DataFrame:
    """Recall@1 (cosine) of the queries of each superclass.

    Args:
        queries: [n] which images are queries; the others are the gallery. By default every image
            is a query among all others. Queries without a positive are left out.

    Returns:
        One row per superclass: `superclass` and `value`; empty without superclasses.
    """
    if vectors.superclasses is None:
        return pd.DataFrame({"superclass": [], "value": []}).astype({"superclass": "str"})
    rows = slice(None) if queries is None else queries
    lists = (
        {}
        if queries is None
        else {"gallery": vectors.vectors[~queries], "gallery_labels": vectors.labels[~queries]}
    )
    hits = retrieval_metrics(
        vectors.vectors[rows], vectors.labels[rows], ks=(1,), per_query=True, **lists
    )["recall@1"]
    names = pd.Series(vectors.superclasses[rows], name="superclass").astype("str")
    return pd.Series(hits, name="value").groupby(names).mean().dropna().reset_index()
