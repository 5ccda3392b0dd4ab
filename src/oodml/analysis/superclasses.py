"""Shift of superclasses, and forecasts of superclasses that are left out."""

import numpy as np
import pandas as pd

from oodml.analysis.leave_out import leave_out
from oodml.analysis.target_shift import UNLABELED, target_shift
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet

MIN_CLASSES, MIN_IMAGES = 2, 40
"""Smaller superclasses are skipped: their numbers depend on the few images, not the superclass."""


def superclass_measures(progression: Progression, features: VectorSet) -> pd.DataFrame:
    """Measure the shift of each superclass's test images to the training classes of its split.

    Args:
        features: the study's features on its principal axes.

    Returns:
        One row per (split, superclass) with the columns of `target_shift`; empty if the features
        have no superclasses. Superclasses with few test classes or images are skipped.
    """
    rows = {}
    for split in progression:
        test = features.subset(split.test)
        if test.superclasses is None:
            break
        for name in np.unique(test.superclasses).tolist():
            members = test.select(test.superclasses == name)
            if len(members.class_names) >= MIN_CLASSES and len(members) >= MIN_IMAGES:
                rows[str(split.step), str(name)] = target_shift(split, features, members.vectors)
    frame = pd.DataFrame([*rows.values()], columns=[*UNLABELED])
    frame.index = pd.MultiIndex.from_tuples([*rows], names=["split", "superclass"])
    return frame


def leave_superclasses_out(recalls: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """`leave_out` for superclasses: one row per fit, measure, method, split, and superclass.

    A point is a method's mean over seeds on one superclass of one split. All points of a
    superclass are left out together, on every split, so the lines have seen nothing of it. The
    models may have: on other splits, they trained on other classes of the superclass.

    Args:
        recalls: one row per method, split, seed, and superclass: Recall@1 of the superclass's
            queries among all test images of the split, as `value`.
    """
    key = ["split", "superclass"]
    wide = recalls.groupby(["method", *key])["value"].mean().unstack(key)
    points = [point for point in wide.columns if point in measures.index]
    forecasts = leave_out(wide[points], measures.loc[points], [str(point[1]) for point in points])
    forecasts["split"] = [str(point[0]) for point in forecasts["point"]]
    forecasts["superclass"] = [str(point[1]) for point in forecasts["point"]]
    return forecasts.drop(columns="point")
