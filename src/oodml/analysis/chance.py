"""What a model that knows nothing scores."""

import re
from collections.abc import Iterable

import numpy as np

from oodml.errors import OodmlError


def chance_recall(class_sizes: Iterable[int], k: int = 1) -> float:
    """Expected Recall@k of a random order of each query's gallery, itself left out.

    class_sizes: images a class; singletons are no queries, but lie in the gallery. The chance
    that none of k images drawn from the N-1 others is one of the n-1 of the query's class.
    """
    sizes = np.array(list(class_sizes), dtype=np.int64)
    total, queries = int(sizes.sum()), sizes[sizes > 1]
    if not len(queries):
        raise OodmlError("chance level: no class has two images, so there is no query")
    drawn = np.arange(min(k, total - 1))
    wrong_left = np.maximum((total - queries)[:, None] - drawn, 0)
    missed = np.prod(wrong_left / (total - 1 - drawn), axis=1)
    return float(np.average(1 - missed, weights=queries))


def chance_level(metric: str, class_sizes: Iterable[int]) -> float | None:
    """The chance level of a metric by its name; None where it has no closed form here."""
    name = "recall@1" if metric == "precision@1" else metric
    match = re.fullmatch(r"recall@(\d+)", name)
    return chance_recall(class_sizes, int(match[1])) if match else None
