"""Retrieval by the protocols of benchmarks: cameras, junk, distractors, and graded relevance."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from oodml.arrays import Names
from oodml.errors import OodmlError, error_at
from oodml.evaluate.evaluation import (
    Evaluation,
    apply_lists,
    evaluate_vectors,
    evaluation_notes,
    summarize,
)
from oodml.evaluate.inputs import as_vectors, check_seed, encode_labels
from oodml.evaluate.judged_metrics import JUDGED
from oodml.evaluate.judgments import (
    Judge,
    Pairs,
    Rules,
    judge_by_class,
    judge_by_pairs,
    judged_ranks,
    judged_scores,
)
from oodml.evaluate.named_protocols import NamedProtocol, find_protocol
from oodml.evaluate.retrieval import (
    RETRIEVAL,
    average_metrics,
    check_cutoffs,
    metrics_per_class,
    score_blocks,
)
from oodml.evaluate.self_matches import self_matches
from oodml.evaluate.trec import Qrels, Ranking, check_ids, run_blocks, write_qrels, write_run
from oodml.results.metrics import cutoffs
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class _Problem:
    """Queries and gallery, the judgments of their pairs, and notes about them."""

    everything: VectorSet
    queries: VectorSet
    gallery: VectorSet
    judge: Judge
    notes: list[str]
    is_plain: bool


def evaluate_judged(
    queries: VectorSet,
    gallery: VectorSet | None = None,
    *,
    protocol: str | None = None,
    exclude: tuple[str, ...] = (),
    shared_label: bool = False,
    qrels: Qrels | None = None,
    ks: Sequence[int] = (1, 5, 10, 20),
    distance: str = "cosine",
    average: str = "micro",
    seed: int = 0,
    run_file: Path | None = None,
    qrels_file: Path | None = None,
) -> Evaluation:
    """Compute retrieval metrics by the rules of a benchmark.

    Args:
        gallery: the vectors to search; if None, the file's own lists decide or, without lists,
            each query searches the others.
        protocol: a name in `PROTOCOLS`; only the metrics that its paper prints are returned,
            with their cut-offs instead of `ks`.
        exclude, shared_label: as in `Rules`, in addition to those of the protocol.
        qrels: judgments of pairs of ids, which replace those by class.
        run_file, qrels_file: files to write in TREC format.

    Raises:
        OodmlError: if a column or id is missing, or no query has a match.
    """
    check_seed(seed)
    named = None if protocol is None else find_protocol(protocol)
    rules = _rules(named, exclude, shared_label)
    steps = check_cutoffs(cutoffs(named.metrics) if named else ks)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        problem = _problem(queries, gallery, rules, qrels, distance, named)
    problem.notes.extend(evaluation_notes({}, [str(warning.message) for warning in raised]))
    asked = as_vectors(problem.queries.vectors, distance)
    others = as_vectors(problem.gallery.vectors, distance, "gallery").to(asked)
    names = tuple(problem.queries.ids.tolist()), tuple(problem.gallery.ids.tolist())
    if run_file is not None:
        scores = judged_scores(asked, others, problem.judge, distance)
        write_run(run_file, names, ((rows, score) for rows, score, _, _ in scores))
    if qrels_file is not None:
        write_qrels(qrels_file, names, problem.judge)
    width = queries.vectors.shape[1]
    options: dict[str, Any] = {"distance": distance, "average": average, "seed": seed}
    if named and problem.is_plain and set(named.metrics) <= set(RETRIEVAL.functions(steps)):
        result = evaluate_vectors(queries, gallery, ks=steps, retrieval_only=True, **options)
    else:
        generator = torch.Generator(asked.device).manual_seed(seed)
        blocks = judged_ranks(asked, others, problem.judge, distance=distance, generator=generator)
        functions = _functions(steps) | {"gallery_size": lambda positives: positives.sizes}
        values = score_blocks(blocks, functions, len(asked))
        by = "label" if rules.shared_label else "class"
        result = summarize(values, problem.queries.classes, steps, average, width, by)
    sizes = result.sizes | {"vectors": len(problem.everything)}
    return _select(replace(result, sizes=sizes, notes=tuple(problem.notes)), named)


def _rules(named: NamedProtocol | None, exclude: tuple[str, ...], shared_label: bool) -> Rules:
    rules = Rules() if named is None else named.rules
    columns = tuple(dict.fromkeys(rules.exclude + exclude))
    return replace(rules, exclude=columns, shared_label=rules.shared_label or shared_label)


def uses_columns(*sets: VectorSet | None) -> bool:
    """Whether vectors have columns that change what is ranked or what is a match."""
    return any(
        {"junk", "relevance"} & set(vectors.attributes) for vectors in sets if vectors is not None
    )


def evaluate_run(
    run: Ranking, qrels: Qrels, *, ks: Sequence[int] = (1, 5, 10, 20), average: str = "micro"
) -> Evaluation:
    """Compute retrieval metrics of a ranking from another program, as trec_eval does.

    Images of equal score are ranked by name in descending order. Junk is removed from the
    ranking. Matches that were not retrieved count as ranked last.

    Args:
        run: the retrieved images of each query with their scores.
        qrels: the judgments, of the same queries.
    """
    names, blocks = run_blocks(run, qrels)
    values = score_blocks(blocks, _functions(check_cutoffs(ks)), len(names))
    metrics = average_metrics(values, names, average)
    table = metrics_per_class(values, names)[1]
    per_query = pd.DataFrame({"query": np.unique(names)}).assign(**table)
    answer = f"mAP is {metrics['map']:.4f} for {metrics['queries']:.0f} queries."
    sizes = {"queries": len(names), "retrieved": len(run.scores), "judged": len(qrels.grades)}
    return Evaluation(metrics, {}, per_query, answer, (), sizes)


def _functions(steps: tuple[int, ...]) -> dict[str, Any]:
    return RETRIEVAL.functions(steps, published=False) | JUDGED.functions(steps)


def _problem(
    queries: VectorSet,
    gallery: VectorSet | None,
    rules: Rules,
    qrels: Qrels | None,
    distance: str,
    protocol: NamedProtocol | None,
) -> _Problem:
    _require_lists(queries, gallery, protocol)
    everything, queries, searched, notes = apply_lists(queries, gallery)
    others = queries if searched is None else searched
    if queries.vectors.shape[1] != others.vectors.shape[1]:
        width = queries.vectors.shape[1]
        problem = f"gallery vectors have {others.vectors.shape[1]} dimensions, the queries {width}"
        raise OodmlError(problem, "gallery", others.vectors.shape[1], (str(width),))
    own = _own_images(queries, searched, everything, distance)
    if qrels is None:
        judge = judge_by_class(queries, others, rules, own)
    else:
        shape = len(queries), len(others)
        pairs, grades = _judged_pairs(queries.ids, others.ids, qrels)
        judge = judge_by_pairs(pairs, grades, shape, own)
    source = [] if protocol is None else [protocol.source]
    is_plain = rules == Rules() and qrels is None and not uses_columns(queries, others)
    return _Problem(everything, queries, others, judge, [*source, *notes], is_plain)


def _require_lists(
    queries: VectorSet, gallery: VectorSet | None, protocol: NamedProtocol | None
) -> None:
    if protocol and protocol.needs_lists and gallery is None and queries.partition is None:
        problem = (
            "this protocol has separate queries and gallery: pass --gallery, or add the columns "
            "is_query and is_gallery"
        )
        raise error_at("protocol", problem, allowed=("is_query", "is_gallery"))


def _own_images(
    queries: VectorSet, gallery: VectorSet | None, everything: VectorSet, distance: str
) -> Pairs:
    """The pairs of a query and a gallery row that are the same image."""
    if gallery is None:
        every = np.arange(len(queries))
        return every, every
    if everything is queries and not (queries.has_ids and gallery.has_ids):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    asked, others = (as_vectors(one.vectors, distance) for one in (queries, gallery))
    groups = encode_labels(queries.classes, gallery.classes)[1]
    return self_matches(asked, others.to(asked), groups[0], groups[1], queries.ids, gallery.ids)


def _judged_pairs(
    ids: Names, gallery_ids: Names, qrels: Qrels
) -> tuple[Pairs, NDArray[np.float32]]:
    """The positions of judged pairs whose query and image are both given."""
    positions = []
    for kind, names, wanted in (
        ("queries", ids, qrels.queries),
        ("images", gallery_ids, qrels.images),
    ):
        check_ids(names, kind)
        order = np.argsort(names)
        at = np.minimum(np.searchsorted(names[order], wanted), len(names) - 1)
        positions.append(np.where(names[order[at]] == wanted, order[at], -1))
    present = (positions[0] >= 0) & (positions[1] >= 0)
    if not present.any():
        problem = "no judged pair has the ids of a query and a gallery image"
        raise error_at("qrels", problem, str(qrels.queries[0]))
    return (positions[0][present], positions[1][present]), qrels.grades[present]


def _select(result: Evaluation, protocol: NamedProtocol | None) -> Evaluation:
    """Only the metrics of a protocol, in its order."""
    if protocol is None:
        return result
    names = (*protocol.metrics, "queries", "singletons")
    metrics = {name: result.metrics[name] for name in names}
    chance = {name: result.chance[name] for name in names if name in result.chance}
    columns = [name for name in result.per_class if name not in result.metrics or name in names]
    return replace(result, metrics=metrics, chance=chance, per_class=result.per_class[columns])
