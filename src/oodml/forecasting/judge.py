"""Judging the neighbors of a few queries: the page, and Recall@1 from its answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int

from oodml.analysis.forecast import TargetForecast
from oodml.analysis.formatting import format_percent
from oodml.analysis.judgments import (
    JudgedValue,
    agreement,
    combine,
    judged_recall,
    sample_queries,
)
from oodml.analysis.table import zero_shot_runs
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.evaluate.neighbors import nearest_neighbor, unit_vectors
from oodml.files import content_hash, write_text
from oodml.forecasting.target import OpenForecast
from oodml.model import Embedder, HeadSettings, load_model
from oodml.report.examples import thumbnails
from oodml.results.schema import baselines_of
from oodml.study.run_inputs import CachedFeatures

PIXELS, BYTES = 192, 20_000_000
ANSWERS = ("same", "different", "none")
"""Of a pair: of the same class, of different classes, or no other image of the query's class."""
Neighbors = dict[str, Int[np.ndarray, " n"]]


@dataclass(frozen=True)
class JudgedMethod:
    """Recall@1 of a method from judged queries, and combined with its forecast."""

    method: str
    judged: JudgedValue
    combined: JudgedValue


def write_judge_page(opened: OpenForecast, count: int, out: Path, seed: int = 0) -> Path:
    """Write a page with `count` queries and their neighbors, and `plan.json` with what is judged.

    Raises:
        OodmlError: if the target is a file of features.
    """
    if opened.images is None:
        raise OodmlError("--judge shows images: pass images as --new", location="--new")
    ids = opened.target.test.ids
    generator = np.random.default_rng(seed)
    sample = sample_queries(opened.forecast.correct, count, generator)
    neighbors = method_neighbors(opened)
    queries = [
        {
            "query": str(ids[row]),
            "probability": float(sample.probability[row]),
            "neighbors": {name: str(ids[rows[row]]) for name, rows in neighbors.items()},
        }
        for row in generator.permutation(sample.queries).tolist()
    ]
    plan = {"target": opened.name, "queries": queries}
    plan["id"] = content_hash(json.dumps(plan))[:16]
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "plan.json", json.dumps(plan, indent=1))
    shown = [name for one in queries for name in (one["query"], *one["neighbors"].values())]  # type: ignore[attr-defined]
    pictures = thumbnails(opened.images, shown, PIXELS, BYTES)
    data = json.dumps({"id": plan["id"], "pairs": _pairs(queries), "pictures": pictures})
    template = files("oodml.forecasting").joinpath("judge.html").read_text("utf-8")
    page = out / "judge.html"
    write_text(page, template.replace("__DATA__", data.replace("<", "\\u003c")))
    return page


def _pairs(queries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The distinct pairs of a query and a neighbor; one answer serves all methods."""
    return [
        (one["query"], neighbor)
        for one in queries
        for neighbor in dict.fromkeys(one["neighbors"].values())
    ]


def method_neighbors(opened: OpenForecast) -> Neighbors:
    """The row of each image's nearest neighbor, by the first run of each method."""
    frozen = baselines_of(opened.folder.table)
    neighbors = {}
    for row in zero_shot_runs(opened.folder.table).drop_duplicates("method").to_dict("records"):
        vectors = (
            opened.target.test.vectors
            if row["method"] in frozen
            else _embed_target(opened, str(row["run"]))
        )
        every = np.arange(len(vectors))
        neighbors[str(row["method"])] = nearest_neighbor(unit_vectors(vectors), every)
    return neighbors


def _embed_target(opened: OpenForecast, run: str) -> Any:
    """The embeddings of the target by a run; features of a frozen backbone are cached."""
    model: Embedder = load_model(opened.folder.path / "runs" / run)
    images, settings = opened.images, model.settings
    assert images is not None
    if isinstance(settings, HeadSettings):
        inputs = CachedFeatures(settings, images, torch.device("cpu"))
        return inputs.embed_images(model, images).vectors
    return embed(images, model).vectors


def read_answers(files: Sequence[Path]) -> list[dict[tuple[str, str], str]]:
    """The answers of each file that a page saved: one per pair.

    Raises:
        OodmlError: if a file lacks a column or has an unknown answer.
    """
    every = []
    for file in files:
        try:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise OodmlError(f"{file}: cannot read it: {error}", location=str(file)) from error
        missing = {"query", "neighbor", "answer"} - set(table)
        if missing:
            raise OodmlError(
                f"{file}: the column {min(missing)} is missing",
                location=str(file),
                allowed=("query", "neighbor", "answer"),
            )
        bad = table[~table["answer"].isin(ANSWERS)]
        if len(bad):
            raise OodmlError(
                f"{file}: row {bad.index[0] + 2}: unknown answer {bad['answer'].iloc[0]!r}",
                location=str(file),
                given=bad["answer"].iloc[0],
                allowed=ANSWERS,
            )
        keys = zip(table["query"], table["neighbor"], strict=True)
        every.append(dict(zip(keys, table["answer"], strict=True)))
    return every


def judged_methods(
    opened: OpenForecast, plan: Mapping[str, Any], answers: Mapping[tuple[str, str], str]
) -> list[JudgedMethod]:
    """Recall@1 of each method from answers; queries without all their answers are left out."""
    row_of = {name: row for row, name in enumerate(opened.target.test.ids.tolist())}
    done = [one for one in plan["queries"] if _is_answered(one, answers)]
    if not done:
        raise OodmlError("no query has all of its answers", location="--judged")
    rows = np.array([row_of[one["query"]] for one in done])
    probability = np.ones(len(row_of))
    share = len(done) / len(plan["queries"])
    probability[rows] = [one["probability"] * share for one in done]
    forecasts = forecast_values(opened.forecast)
    results = []
    for method in done[0]["neighbors"]:
        values = np.array([_value(one, method, answers) for one in done])
        judged = judged_recall(opened.forecast.correct, rows, values, probability)
        combined = combine(judged, forecasts[method]) if method in forecasts else judged
        results.append(JudgedMethod(method, judged, combined))
    return sorted(results, key=lambda one: -one.combined.expected)


def forecast_values(forecast: TargetForecast) -> dict[str, JudgedValue]:
    """The expected value of each method, with its 80% interval."""
    return {
        str(row["method"]): JudgedValue(row["expected"], row["low_80"], row["high_80"])
        for row in forecast.methods.to_dict("records")
    }


def _is_answered(one: Mapping[str, Any], answers: Mapping[tuple[str, str], str]) -> bool:
    given = [answers.get((one["query"], name)) for name in one["neighbors"].values()]
    return "none" in given or None not in given


def _value(one: Mapping[str, Any], method: str, answers: Mapping[tuple[str, str], str]) -> float:
    """1 if the method's neighbor is of the query's class, 0 if not, NaN without a partner."""
    given = {answers.get((one["query"], name)) for name in one["neighbors"].values()}
    if "none" in given:
        return float("nan")
    return float(answers[one["query"], one["neighbors"][method]] == "same")


def describe_judged(opened: OpenForecast, judged: Sequence[Path], folder: Path) -> str:
    """Recall@1 of each method from judged queries, and how far people agree.

    The answer of the first file counts where several have one.
    """
    try:
        plan = json.loads((folder / "plan.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OodmlError(
            f"{folder / 'plan.json'}: missing or damaged; pass the folder of the page as --out",
            location=str(folder / "plan.json"),
        ) from error
    every = read_answers(judged)
    merged = {key: value for answers in reversed(every) for key, value in answers.items()}
    lines = ["From judged queries (90% intervals that do not depend on the forecast):"]
    for one in judged_methods(opened, plan, merged):
        value, low, high = (100 * number for number in one.combined)
        lines.append(f"{one.method}: {value:.1f}% Recall@1 ({low:.1f} to {high:.1f}%)")
    if len(every) > 1:
        common = sorted(set(every[0]) & set(every[1]))
        first, second = (np.array([ANSWERS.index(one[key]) for key in common]) for one in every[:2])
        same, kappa = agreement(first, second)
        lines.append(
            f"Two people agree on {format_percent(same, 0)} of {len(common)} pairs (Cohen's kappa "
            f"{kappa:.2f})."
        )
    return "\n".join(lines)
