from itertools import combinations

import numpy as np
import pytest

from oodml.errors import OodmlError
from oodml.evaluate.retrieval import chance_metrics


@pytest.mark.parametrize(("positives", "size"), [(1, 1), (1, 6), (3, 7), (4, 8), (5, 5)])
def test_chance_is_the_mean_over_all_rankings(positives: int, size: int) -> None:
    """Every set of ranks is equally likely for the positives."""
    scores: dict[str, list[float]] = {}
    for ranks in combinations(range(1, size + 1), positives):
        within_r = [rank for rank in ranks if rank <= positives]
        precisions = [i / rank for i, rank in enumerate(ranks, 1)]
        values = {
            "recall@1": ranks[0] <= 1,
            "recall@3": ranks[0] <= 3,
            "precision@1": ranks[0] <= 1,
            "precision@3": sum(rank <= 3 for rank in ranks) / 3,
            "r_precision": len(within_r) / positives,
            "map@r": sum(precisions[: len(within_r)]) / positives,
            "map": sum(precisions) / positives,
            "map@1000": sum(precisions) / positives,
            "mrr": 1 / ranks[0],
        }
        for name, value in values.items():
            scores.setdefault(name, []).append(value)
    levels = chance_metrics(np.array([positives, np.nan, 0.0]), size, ks=(1, 3))
    assert levels.keys() == scores.keys()
    for name, samples in scores.items():
        assert levels[name] == pytest.approx(np.mean(samples)), name


def test_chance_needs_a_query_with_a_positive() -> None:
    with pytest.raises(OodmlError):
        chance_metrics(np.array([np.nan]), 3)
