"""Recall@1 by superclass."""

import pandas as pd

from oodml.evaluate.retrieval import retrieval_metrics
from oodml.vectors import VectorSet


def superclass_recall(vectors: VectorSet) -> pd.DataFrame:
    """Recall@1 (cosine) of the queries of each superclass, among all images of the set.

    Images that are alone in their class are no queries.

    Returns:
        One row per superclass: `superclass` and `value`; empty without superclasses.
    """
    if vectors.superclasses is None:
        return pd.DataFrame({"superclass": [], "value": []}).astype({"superclass": "str"})
    hits = retrieval_metrics(vectors.vectors, vectors.labels, ks=(1,), per_query=True)["recall@1"]
    names = pd.Series(vectors.superclasses, name="superclass").astype("str")
    return pd.Series(hits, name="value").groupby(names).mean().dropna().reset_index()
