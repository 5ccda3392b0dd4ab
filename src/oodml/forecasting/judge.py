"""Judging the neighbors of a few queries: the page, and Recall@1 from its answers."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int

from oodml.analysis.forecast import TargetForecast
from oodml.analysis.formatting import format_percent
from oodml.analysis.judged_recall import JudgedValue, combine, judged_recall, sample_queries
from oodml.analysis.table import zero_shot_runs
from oodml.embedding import embed
from oodml.errors import OodmlError, error_at
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
COLUMNS = ("query", "neighbor", "answer")
Answers = Mapping[tuple[str, str], str]


class JudgedMethod(NamedTuple):
    """Recall@1 of a method from judged queries, and combined with its forecast."""

    method: str
    judged: JudgedValue
    combined: JudgedValue


def write_judge_page(opened: OpenForecast, count: int, page: Path, seed: int = 0) -> None:
    """Write a page with `count` queries and their neighbors, and beside it what is judged (.json).

    Raises:
        OodmlError: if the target is a file of features.
    """
    if opened.images is None:
        raise OodmlError("--judge shows images: pass images as --new", location="--new")
    ids = opened.target.test.ids
    generator = np.random.default_rng(seed)
    sample = sample_queries(opened.forecast.correct, count, generator)
    neighbors = _method_neighbors(opened)
    queries: list[dict[str, Any]] = [
        {
            "query": str(ids[row]),
            "probability": float(sample.probability[row]),
            "neighbors": {name: str(ids[rows[row]]) for name, rows in neighbors.items()},
        }
        for row in generator.permutation(sample.queries).tolist()
    ]
    plan = {"target": opened.name, "queries": queries}
    plan["id"] = content_hash(json.dumps(plan))[:16]
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page.with_suffix(".json"), json.dumps(plan, indent=1))
    named = [(one["query"], dict.fromkeys(one["neighbors"].values())) for one in queries]
    pairs = [(query, name) for query, names in named for name in names]  # one answer for methods
    shown = [name for query, names in named for name in (query, *names)]
    pictures = thumbnails(opened.images, shown, PIXELS, BYTES)
    data = json.dumps({"id": plan["id"], "pairs": pairs, "pictures": pictures})
    template = files("oodml.forecasting").joinpath("judge.html").read_text("utf-8")
    write_text(page, template.replace("__DATA__", data.replace("<", "\\u003c")))


def _method_neighbors(opened: OpenForecast) -> dict[str, Int[np.ndarray, " n"]]:
    """The row of each image's nearest neighbor, by the first run of each method."""
    frozen, neighbors = baselines_of(opened.folder.table), {}
    for row in zero_shot_runs(opened.folder.table).drop_duplicates("method").to_dict("records"):
        vectors = opened.target.test.vectors
        if row["method"] not in frozen:
            vectors = _embed_target(opened, str(row["run"]))
        neighbors[str(row["method"])] = nearest_neighbor(unit_vectors(vectors))
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


def read_answers(file: Path) -> dict[tuple[str, str], str]:
    """The answers in a file that a page saved: one per pair."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise error_at(file, f"cannot read it: {error}") from error
    if missing := set(COLUMNS) - set(table):
        raise error_at(file, f"the column {min(missing)} is missing", allowed=COLUMNS)
    bad = table["answer"][~table["answer"].isin(ANSWERS)]
    if len(bad):
        problem = f"row {bad.index[0] + 2}: unknown answer {bad.iloc[0]!r}"
        raise error_at(file, problem, bad.iloc[0], ANSWERS)
    keys = zip(table["query"], table["neighbor"], strict=True)
    return dict(zip(keys, table["answer"], strict=True))


def judged_methods(
    opened: OpenForecast, plan: Mapping[str, Any], answers: Answers
) -> list[JudgedMethod]:
    """Recall@1 of each method from answers; queries without all their answers are left out."""
    row_of = {name: row for row, name in enumerate(opened.target.test.ids.tolist())}
    done, given = [], []
    for one in plan["queries"]:
        own = {name: answers.get((one["query"], name)) for name in one["neighbors"].values()}
        if "none" in own.values() or None not in own.values():
            done.append(one)
            given.append(own)
    if not done:
        raise OodmlError("no query has all of its answers", location="--judgments")
    rows = np.array([row_of[one["query"]] for one in done])
    probability = np.ones(len(row_of))
    share = len(done) / len(plan["queries"])
    probability[rows] = [one["probability"] * share for one in done]
    forecasts = forecast_values(opened.forecast)
    results = []
    for method in done[0]["neighbors"]:
        values = [
            np.nan if "none" in own.values() else float(own[one["neighbors"][method]] == "same")
            for one, own in zip(done, given, strict=True)
        ]
        judged = judged_recall(opened.forecast.correct, rows, np.array(values), probability)
        combined = combine(judged, forecasts[method]) if method in forecasts else judged
        results.append(JudgedMethod(method, judged, combined))
    return sorted(results, key=lambda one: -one.combined.expected)


def forecast_values(forecast: TargetForecast) -> dict[str, JudgedValue]:
    """The expected value of each method, with its 80% interval."""
    return {
        str(row["method"]): JudgedValue(row["expected"], row["low_80"], row["high_80"])
        for row in forecast.methods.to_dict("records")
    }


def describe_judged(opened: OpenForecast, judged: Sequence[Path], page: Path) -> str:
    """Recall@1 of each method from judged queries, and how far people agree.

    The answer of the first file counts where several have one.
    """
    file = page.with_suffix(".json")
    try:
        plan = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise error_at(file, "missing or damaged; it belongs to the page of --judge") from error
    every = [read_answers(one) for one in judged]
    merged = {key: value for answers in reversed(every) for key, value in answers.items()}
    lines = ["From judged queries (90% intervals that do not depend on the forecast):"]
    for one in judged_methods(opened, plan, merged):
        value, low, high = (100 * number for number in one.combined)
        lines.append(f"{one.method}: {value:.1f}% Recall@1 ({low:.1f} to {high:.1f}%)")
    return "\n".join([*lines, *([_agreement(*every[:2])] if len(every) > 1 else [])])


def _agreement(one: Answers, other: Answers) -> str:
    common = sorted(set(one) & set(other))
    first, second = (np.array([answers[key] for key in common]) for answers in (one, other))
    same = float((first == second).mean())
    chance = sum(float((first == name).mean() * (second == name).mean()) for name in ANSWERS)
    kappa = (same - chance) / (1 - chance) if chance < 1 else 1.0
    share = f"{format_percent(same, 0)} of {len(common)} pairs"
    return f"Two people agree on {share} (Cohen's kappa {kappa:.2f})."
