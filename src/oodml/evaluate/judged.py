"""Retrieval by the protocols of benchmarks: cameras, junk, distractors, and graded relevance."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from oodml.arrays import Names
from oodml.errors import error_at, unknown
from oodml.evaluate import relevance, retrieval
from oodml.evaluate.evaluation import (
    Evaluation,
    apply_lists,
    evaluate_vectors,
    evaluation_notes,
    summarize,
)
from oodml.evaluate.inputs import as_vectors, check_seed, encode_labels
from oodml.evaluate.protocol import check_widths, self_matches
from oodml.evaluate.relevance import PROTOCOLS, Rules
from oodml.evaluate.trec import Qrels, Ranking, check_ids, run_blocks, write_qrels, write_run
from oodml.results.metrics import cutoffs
from oodml.vectors import VectorSet


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
        gallery: the vectors to search; if None, the file's own lists, or all others.
        protocol: a name in `PROTOCOLS`; only the metrics that its paper prints are returned,
            with their cut-offs instead of `ks`.
        exclude, shared_label: as in `Rules`, in addition to those of the protocol.
        qrels: judgments of pairs of ids, which replace those by class.
        run_file, qrels_file: files to write in TREC format.
    """
    check_seed(seed)
    rules = _rules(protocol, exclude, shared_label)
    steps = retrieval.check_cutoffs(cutoffs(rules.metrics) if rules.metrics else ks)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        n_vectors, asked, others, judge, notes = _judge(queries, gallery, rules, qrels, distance)
    notes += evaluation_notes({}, [str(warning.message) for warning in raised])
    vectors = as_vectors(asked.vectors, distance)
    searched = as_vectors(others.vectors, distance, "gallery").to(vectors)
    names = tuple(asked.ids.tolist()), tuple(others.ids.tolist())
    if run_file is not None:
        scores = relevance.judged_scores(vectors, searched, judge, distance)
        write_run(run_file, names, ((rows, score) for rows, score, _, _ in scores))
    if qrels_file is not None:
        write_qrels(qrels_file, names, judge)
    if qrels is None and _needs_only_labels(rules, steps, asked, others):
        options: dict[str, Any] = {"distance": distance, "average": average, "seed": seed}
        result = evaluate_vectors(queries, gallery, ks=steps, retrieval_only=True, **options)
    else:
        generator = torch.Generator(vectors.device).manual_seed(seed)
        tracks = None
        if rules.by_track and "track" in others.attributes:
            named, alone = others.attributes["track"], np.char.add("\0", others.ids)
            tracks = np.unique(np.where(named == "", alone, named), return_inverse=True)[1]
        blocks = relevance.judged_ranks(
            vectors, searched, judge, distance=distance, generator=generator, tracks=tracks
        )
        functions = _functions(steps) | {"gallery_size": lambda positives: positives.sizes}
        values = retrieval.score_blocks(blocks, functions, len(vectors))
        by = "label" if rules.shared_label else "class"
        result = summarize(values, asked.classes, steps, average, vectors.shape[1], by)
    sizes = result.sizes | {"vectors": n_vectors}
    return _select(replace(result, sizes=sizes, notes=tuple(notes)), rules.metrics)


def _rules(protocol: str | None, exclude: tuple[str, ...], shared_label: bool) -> Rules:
    if protocol is not None and protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS, "protocol")
    rules = Rules(needs_lists=False) if protocol is None else PROTOCOLS[protocol]
    columns = tuple(dict.fromkeys(rules.exclude + exclude))
    return replace(rules, exclude=columns, shared_label=rules.shared_label or shared_label)


def _needs_only_labels(rules: Rules, steps: tuple[int, ...], *sets: VectorSet) -> bool:
    """Whether a protocol prints metrics that follow from equal labels alone."""
    changes = rules.exclude, rules.junk_classes, rules.distractor_classes, rules.shared_label
    if not rules.metrics or any(changes) or uses_columns(*sets):
        return False
    return set(retrieval.RETRIEVAL.functions(steps)).issuperset(rules.metrics)


def uses_columns(*sets: VectorSet | None) -> bool:
    """Whether vectors have columns that change what is ranked or what is a match."""
    given = (vectors for vectors in sets if vectors is not None)
    return any({"junk", "relevance"} & set(vectors.attributes) for vectors in given)


def evaluate_run(
    run: Ranking, qrels: Qrels, *, ks: Sequence[int] = (1, 5, 10, 20), average: str = "micro"
) -> Evaluation:
    """Compute retrieval metrics of a ranking from another program, as trec_eval does.

    Images of equal score are ranked by name in descending order. Junk is removed from the
    ranking. Matches that were not retrieved count as ranked last.
    """
    names, blocks = run_blocks(run, qrels)
    values = retrieval.score_blocks(blocks, _functions(retrieval.check_cutoffs(ks)), len(names))
    metrics = retrieval.average_metrics(values, names, average)
    table = retrieval.metrics_per_class(values, names)[1]
    per_query = pd.DataFrame({"query": np.unique(names)}).assign(**table)
    answer = f"mAP is {metrics['map']:.4f} for {metrics['queries']:.0f} queries."
    sizes = {"queries": len(names), "retrieved": len(run.scores), "judged": len(qrels.grades)}
    return Evaluation(metrics, {}, per_query, answer, (), sizes)


def _functions(steps: tuple[int, ...]) -> dict[str, Any]:
    return retrieval.RETRIEVAL.functions(steps, published=False) | retrieval.JUDGED.functions(steps)


def _judge(
    queries: VectorSet, gallery: VectorSet | None, rules: Rules, qrels: Qrels | None, distance: str
) -> tuple[int, VectorSet, VectorSet, relevance.Judge, list[str]]:
    """The number of vectors, queries, gallery, the judgments of their pairs, and notes."""
    if rules.needs_lists and gallery is None and queries.partition is None:
        problem = "this protocol has separate queries and gallery: pass --gallery, or add the "
        columns = "is_query", "is_gallery"
        raise error_at("protocol", f"{problem}columns {' and '.join(columns)}", allowed=columns)
    everything, queries, searched, notes = apply_lists(queries, gallery)
    others = queries if searched is None else searched
    check_widths(queries.vectors, others.vectors)
    if searched is None:
        own = np.arange(len(queries)), np.arange(len(queries))
    elif everything is queries and not (queries.has_ids and searched.has_ids):
        own = np.zeros(0, np.int64), np.zeros(0, np.int64)
    else:
        asked, images = (as_vectors(one.vectors, distance) for one in (queries, searched))
        groups, labels = encode_labels(queries.classes, searched.classes)[1]
        sides = (asked, groups), (images.to(asked), labels)
        own = self_matches(*sides, queries.ids, searched.ids)
    if qrels is None:
        judge = relevance.judge_by_class(queries, others, rules, own)
    else:
        pairs, grades = _judged_pairs(queries.ids, others.ids, qrels)
        judge = relevance.judge_by_pairs(pairs, grades, (len(queries), len(others)), own)
    return len(everything), queries, others, judge, [*filter(None, [rules.source]), *notes]


def _judged_pairs(
    ids: Names, gallery_ids: Names, qrels: Qrels
) -> tuple[relevance.Pairs, NDArray[np.float32]]:
    """The positions of judged pairs whose query and image are both given."""
    check_ids(ids, "queries")
    check_ids(gallery_ids, "images")
    queries = pd.Index(ids).get_indexer(pd.Index(qrels.queries))
    images = pd.Index(gallery_ids).get_indexer(pd.Index(qrels.images))
    present = (queries >= 0) & (images >= 0)
    if not present.any():
        problem = "no judged pair has the ids of a query and a gallery image"
        raise error_at("qrels", problem, str(qrels.queries[0]))
    return (queries[present], images[present]), qrels.grades[present]


def _select(result: Evaluation, wanted: tuple[str, ...]) -> Evaluation:
    """Only the metrics of a protocol, in its order."""
    if not wanted:
        return result
    names = (*wanted, "queries", "singletons")
    metrics = {name: result.metrics[name] for name in names}
    chance = {name: result.chance[name] for name in names if name in result.chance}
    columns = [name for name in result.per_class if name not in result.metrics or name in names]
    return replace(result, metrics=metrics, chance=chance, per_class=result.per_class[columns])
