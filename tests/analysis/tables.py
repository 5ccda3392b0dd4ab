"""Results tables made by hand."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from oodml.results.schema import COLUMNS, check_results

Row = tuple[str, str, float, int, float]


def results(
    rows: Iterable[tuple[str, str, float, int, float]], metric: str = "recall@1"
) -> pd.DataFrame:
    """A zero-shot table of rows (method, split, shift, seed, value)."""
    stage = ("zero_shot", None, None)
    full = [
        (*(f"{method}-{split}-{seed}", "made", split, shift, method, seed), *stage, metric, value)
        for method, split, shift, seed, value in rows
    ]
    return check_results(typed(pd.DataFrame(full, columns=list(COLUMNS))))


def few_shot_results(
    rows: Iterable[tuple[str, str, float, int, int, int, float, float]],
) -> pd.DataFrame:
    """A table of rows (method, split, shift, seed, shots, episode, before, after)."""
    full = []
    for method, split, shift, seed, shots, episode, before, after in rows:
        start = (f"{method}-{split}-{seed}", "made", split, shift, method, seed)
        for stage, value in (("before", before), ("after", after)):
            full.append((*start, stage, shots, episode, "recall@1", value))
    return check_results(typed(pd.DataFrame(full, columns=list(COLUMNS))))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """The columns in the types that a study writes."""
    return table.astype({"shots": "Int64", "episode": "Int64", "value": "float64"})


def falling(
    slopes: dict[str, float], seeds: int = 3, noise: float = 0.005, splits: int = 4
) -> pd.DataFrame:
    """Methods that all start at 0.8 and lose their own slope up to the hardest split."""
    generator = np.random.default_rng(5)
    names = ["0", "6", "10", "30", "R22"][:splits]
    return results(
        (method, name, 10.0 + 20 * place, seed, 0.8 - slope * place / (splits - 1) + error)
        for method, slope in slopes.items()
        for place, name in enumerate(names)
        for seed in range(seeds)
        for error in [float(generator.normal(0, noise))]
    )
