"""The figures of the paper, as read off them."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from oodml.errors import unknown


@cache
def published_results() -> dict[str, Any]:
    """What the paper's figures show, with the accuracy of reading in `source`.

    fid: data set -> [splits]; recall_at_1: data set -> method -> [splits];
    ags_recall_at_1: data set -> method -> score; few_shot_recall_at_1: data set -> method ->
    shots -> "zero_shot" and "few_shot" -> [splits].
    """
    text = files("oodml.analysis").joinpath("published_results.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def published_curve(data: str, method: str) -> tuple[list[float], list[float]]:
    """Shift and Recall@1 of a method on one of the paper's data sets."""
    results = published_results()
    if data not in results["fid"]:
        raise unknown("data set", data, results["fid"], "published results")
    curves = results["recall_at_1"][data]
    if method not in curves:
        raise unknown("method", method, curves, f"published results of {data}")
    return results["fid"][data], curves[method]
