"""The decisions of a run: chosen on validation classes, applied to the test classes."""

from oodml.decisions.open_set import (
    FAR,
    left_out_scores,
    open_set_metrics,
    threshold_at,
    withheld_scores,
)
from oodml.vectors import VectorSet


def decision_metrics(
    test: VectorSet, validation: VectorSet | None, seed: int = 0
) -> dict[str, float]:
    """The open-set metrics of a run.

    Half of the test classes are withheld from the gallery. The threshold accepts 5% of the
    validation images if their own class is left out. Scores depend on the size of the gallery, so
    the gallery has at most as many classes as the validation images search.

    Args:
        test: vectors of the test classes.
        validation: vectors of classes that the model was not trained on; None for no threshold.
        seed: of the withheld classes.
    """
    if len(test.class_names) < 2:
        return {}
    half, threshold = len(test.class_names) // 2, None
    if validation is not None and len(validation.class_names) > 1:
        others = left_out_scores(validation)
        threshold = threshold_at(others.scores[~others.known], FAR)
        half = min(half, len(validation.class_names) - 1)
    return open_set_metrics(withheld_scores(test, seed=seed, n_known=half), (FAR,), threshold)
