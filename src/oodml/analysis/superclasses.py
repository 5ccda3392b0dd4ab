"""How methods do on each superclass, and forecasts of superclasses that were left out."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from oodml.analysis.leave_out import leave_out
from oodml.analysis.target_shift import UNLABELLED, target_shift
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet

LEAST_CLASSES, LEAST_IMAGES = 2, 40
"""A superclass with fewer on a split's test side tells more of those few than of itself."""
BLOCK = 2048


def superclass_recall(vectors: VectorSet, most: int = 1000, seed: int = 0) -> dict[str, float]:
    """Recall@1 (cosine) of the queries of each superclass, among all images of the set.

    most: queries of a superclass; of more, as many are drawn, the same for every run of a split.
    Images that are alone in their class are no queries. Images equally near stand in random
    order. Empty where the vectors have no superclasses.
    """
    if vectors.superclasses is None:
        return {}
    generator = np.random.default_rng(seed)
    names, groups = np.unique(vectors.superclasses, return_inverse=True)
    asked = np.bincount(vectors.labels)[vectors.labels] > 1
    queries = []
    for group in range(len(names)):
        rows = np.flatnonzero(asked & (groups == group))
        queries.append(generator.choice(rows, most, replace=False) if len(rows) > most else rows)
    chosen = np.concatenate(queries)
    hits = _hits(vectors, chosen, generator)
    found = pd.Series(hits).groupby(names[groups[chosen]].astype(str)).mean()
    return {str(name): float(share) for name, share in found.items()}


def _hits(
    vectors: VectorSet, queries: Int[np.ndarray, " q"], generator: np.random.Generator
) -> Bool[np.ndarray, " q"]:
    order = generator.permutation(len(vectors))
    place = np.argsort(order)
    norms = np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    normal = vectors.vectors / np.maximum(norms, 1e-12)
    gallery, labels = normal[order].T, vectors.labels[order]
    hits: list[NDArray[np.bool_]] = []
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        similarity = normal[rows] @ gallery
        similarity[np.arange(len(rows)), place[rows]] = -np.inf
        hits.append(labels[similarity.argmax(axis=1)] == vectors.labels[rows])
    return np.concatenate(hits) if hits else np.zeros(0, dtype=bool)


def superclass_measures(progression: Progression, features: VectorSet) -> pd.DataFrame:
    """One row a (split, superclass): `target_shift` of its test images to the train classes.

    features: on the principal axes. Superclasses with fewer test classes than two or images than
    forty are left out; empty where the features have no superclasses.
    """
    rows = {}
    for split in progression:
        test = features.subset(split.test)
        if test.superclasses is None:
            break
        for name in np.unique(test.superclasses).tolist():
            found = test.select(test.superclasses == name)
            if len(found.class_names) >= LEAST_CLASSES and len(found) >= LEAST_IMAGES:
                rows[str(split.step), str(name)] = target_shift(split, features, found.vectors)
    frame = pd.DataFrame([*rows.values()], columns=[*UNLABELLED])
    frame.index = pd.MultiIndex.from_tuples([*rows], names=["split", "superclass"])
    return frame


def leave_superclasses_out(recalls: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """`leave_out` of every superclass: one row a (fit, measure, method, split, superclass).

    recalls: one row a (method, split, seed, superclass) with its Recall@1 as `value`: queries of
    the superclass's test classes alone, among all test images of the split. measures: of the
    superclass's test images to the split's train classes, by (split, superclass). A point is a
    method's mean over seeds on a superclass of a split, in the lines as in the forecast. All
    points of a superclass, on every split, are left out together: what is asked is how a kind
    of thing will do of which the lines have seen nothing. (The models have, on splits that
    train on other classes of it; its shift to them tells.)
    """
    key = ["split", "superclass"]
    wide = recalls.groupby(["method", *key])["value"].mean().unstack(key)
    points = [point for point in wide.columns if point in measures.index]
    found = leave_out(wide[points], measures.loc[points], [str(point[1]) for point in points])
    found["split"] = [str(point[0]) for point in found["point"]]
    found["superclass"] = [str(point[1]) for point in found["point"]]
    return found.drop(columns="point")
