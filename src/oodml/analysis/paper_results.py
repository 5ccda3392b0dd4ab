"""The results of the original paper, as read from its figures."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

METRIC = "recall@1"
NETWORK = "resnet50"
"""The architecture of the paper's models, and of the features that its shift is measured on."""
SHIFT_TOLERANCE = 0.15
"""The largest relative difference between the shifts of a comparable study and the paper's."""


@cache
def published_results() -> dict[str, Any]:
    """The contents of the paper's figures: lists by split, such as `fid` by dataset and
    `recall_at_1` by dataset and method; `source` states the reading accuracy."""
    text = files("oodml.analysis").joinpath("published_results.json").read_text("utf-8")
    results: dict[str, Any] = json.loads(text)
    return results


def comparable_curves(
    data: str, shifts: Sequence[float], shift_backbone: str, models: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """The published curves that a study can be compared with, one row per method and split.

    FIDs depend on data, network, and splits. A study is comparable if it has the paper's data
    set, as many splits with nearly the same `shifts`, and the paper's network, for shift and for
    the fine-tuned models.
    """
    published = published_results()["fid"].get(data, [])
    comparable = (
        len(shifts) == len(published) > 0
        and _is_same_network(shift_backbone)
        and np.allclose(np.sort(shifts), published, rtol=SHIFT_TOLERANCE)
    )
    rows: list[tuple[str, str, float, float]] = []
    for method, model in models.items() if comparable else ():
        same = model.get("mode") == "finetune" and _is_same_network(str(model.get("backbone", "")))
        curve = published_results()["recall_at_1"][data].get(method) if same else None
        if curve is not None:
            rows += [(METRIC, method, *point) for point in zip(published, curve, strict=True)]
    return pd.DataFrame(rows, columns=["metric", "method", "shift", "value"])


def _is_same_network(backbone: str) -> bool:
    return backbone.partition(".")[0] == NETWORK
