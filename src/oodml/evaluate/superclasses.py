"""Recall@1 by superclass."""

import pandas as pd

from oodml.evaluate.query_lists import query_lists, retrieval_arguments
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.vectors import VectorSet


def superclass_recall(vectors: VectorSet, distance: str = "cosine") -> pd.DataFrame:
    """Recall@1 of the queries of each superclass.

    Queries and gallery are the vectors' own lists; without lists, every image is a query among all
    others. Queries without a positive are left out.

    Returns:
        One row per superclass: `superclass` and `value`; empty without superclasses.
    """
    if vectors.superclasses is None:
        return pd.DataFrame({"superclass": [], "value": []}).astype({"superclass": "str"})
    lists = query_lists(vectors)
    arguments = retrieval_arguments(vectors.vectors, vectors.labels, lists)
    hits = retrieval_metrics(**arguments, ks=(1,), distance=distance, per_query=True)["recall@1"]
    rows = slice(None) if lists is None else lists.queries
    names = pd.Series(vectors.superclasses[rows], name="superclass").astype("str")
    return pd.Series(hits, name="value").groupby(names).mean().dropna().reset_index()
