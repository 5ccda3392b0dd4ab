"""The decisions of a run: chosen on validation classes, applied to the test classes."""

import torch

from oodml.decisions import compression, open_set
from oodml.evaluate.query_lists import searched_rows
from oodml.vectors import VectorSet

RESCORE = 4  # how many times as many neighbors are searched with binary codes before rescoring


def decision_metrics(
    test: VectorSet,
    validation: VectorSet | None,
    unseen: bool,
    seed: int = 0,
    distance: str = "cosine",
) -> dict[str, float]:
    """The open-set metrics of a run, and Recall@1 with compressed vectors.

    Half of the test classes are withheld from the gallery. The threshold accepts 5% of the
    validation images if their own class is left out. Scores depend on the size of the gallery, so
    it has at most as many classes as the validation images search.

    Everything is chosen on the validation classes, a threshold only if the model was not trained on
    them (`unseen`). Nothing is measured for the distance "poincare".
    """
    if len(test.class_names) < 2 or distance == "poincare":
        return {}
    half, threshold = len(test.class_names) // 2, None
    if validation is not None and unseen and len(validation.class_names) > 1:
        others = open_set.left_out_scores(validation, distance=distance)
        threshold = open_set.threshold_at(others.scores[~others.known], open_set.FAR)
        half = min(half, len(validation.class_names) - 1)
    scores = open_set.withheld_scores(test, distance=distance, seed=seed, n_known=half)
    metrics = open_set.open_set_metrics(scores, (open_set.FAR,), threshold)
    if validation is not None:
        rows, fit = (compression.flat_rows(part, distance).float() for part in (test, validation))
        options = (1,), distance, seed, searched_rows(test)
        for name, code in study_codes(rows.shape[1], len(fit)).items():
            values = compression.code_metrics(code, rows, fit, test.labels, *options)
            metrics[f"recall@1_{name}"] = float(torch.from_numpy(values["recall@1"]).nanmean())
    return metrics


def study_codes(width: int, n_fit: int) -> dict[str, compression.Code]:
    """The codes that studies evaluate, by their name in metrics."""
    codes = {
        "pca": compression.reduced_code(max(1, width // 2), "pca", width, 4),
        "int8": compression.precision_code("int8", width),
        "binary": compression.precision_code("binary", width),
        "rescored": compression.rescored_code(RESCORE, width),
    }
    if width % 8 == 0 and n_fit >= compression.MIN_FIT:
        codes["pq"] = compression.quantized_code(width // 8, False, width)
    return codes
