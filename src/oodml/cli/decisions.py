"""`oodml threshold`, `compress`, and `index`; and what `oodml evaluate` prints about decisions."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import oodml
from oodml.cli import shared
from oodml.cli.shared import Count, Counts, File, Words, many, option, whole
from oodml.cli.shared import vector_source as vectors_in

_SCORE = "Score of known classes: nearest, margin, density, or energy."
FAR = "False-accept rate, the share of unknown queries to accept."
_FIT = "Vectors of other classes to fit codes on."
_RESCORE = "Binary codes: search so many times k, and sort these by int8 vectors; 0 for none."
Score = Annotated[str, option(_SCORE, panel="Open set")]
codes = partial(many, panel="Codes")


@shared.with_groups
def threshold(
    vectors: shared.Vectors,
    reader: shared.VectorReader,
    out: Annotated[Path, option("File to write: JSON.")],
    far: Annotated[float, option(FAR)] = 0.01,
    gallery: Annotated[File, vectors_in("Gallery to search: vectors.", unset="the others")] = None,
    mode: Annotated[str, option("identification; or pairs, to accept pairs.")] = "identification",
    score: Score = "nearest",
    conformal: Annotated[
        bool, option("Use the conformal threshold; needs 1/far − 1 classes.", "--conformal")
    ] = False,
    distance: shared.Distance = "cosine",
    seed: shared.Seed = 0,
    figure: shared.Figure = None,
    as_json: shared.Json = False,
) -> None:
    """Choose the threshold that accepts a given share of queries of unknown classes.

    Use vectors of classes that the model was not trained on. With --gallery, queries of classes
    outside it are unknown; without it, each image searches the others without its own class.
    --conformal guarantees the rate for a new class, and needs 1/far − 1 classes.

    Example: `oodml threshold valid.npz --far 0.05 --out threshold.json`
    """
    from dataclasses import asdict, replace

    from oodml.decisions.threshold import choose_threshold, score_queries
    from oodml.errors import error_at

    shared.check_outputs((out, figure), vectors, gallery)
    queries, searched = reader.read(vectors, gallery)
    options: dict[str, Any] = {"mode": mode, "score": score, "distance": distance, "seed": seed}
    options["gallery"] = searched
    chosen = choose_threshold(queries, far, **options)
    if conformal:
        if chosen.conformal is None:
            least = f"{1 / (chosen.classes + 1):.3g} in mode {mode}"
            problem = f"{chosen.classes} classes guarantee no rate below {least}; given {far:g}"
            raise error_at("--conformal", problem, far)
        chosen = replace(chosen, threshold=chosen.conformal)
    chosen.save(out)
    if figure is not None:
        from oodml.report.decision_figures import threshold_figure

        threshold_figure(score_queries(queries, **options)[0], chosen.threshold, figure)
    guarantee = "No threshold guarantees this rate for a new class with so few classes."
    if chosen.conformal is not None:
        guarantee = (
            f"From {chosen.conformal:.4f}, an image of a new class is accepted with a probability "
            f"of at most {far:g} if the new class is exchangeable with these."
        )
    sentences = [
        f"{out}: accept from {chosen.threshold:.4f} (95% interval over classes {chosen.low:.4f} … "
        f"{chosen.high:.4f}).",
        f"Of {chosen.images} unknown queries of {chosen.classes} classes, {far:.2%} are accepted; "
        f"of the known, {chosen.tar:.1%} ({chosen.tar_low:.1%} … {chosen.tar_high:.1%}).",
        guarantee,
    ]
    command = ("evaluate", vectors, "--open-set", "--threshold", out)
    shared.show(sentences, next=command, json=asdict(chosen))


def show_open_set(
    queries: "oodml.VectorSet", gallery: "oodml.VectorSet | None", given: Any
) -> None:
    """Print the open-set metrics of queries; without a gallery, half of the classes form it."""
    from oodml.decisions.open_set import gallery_scores, open_set_metrics, withheld_scores
    from oodml.decisions.threshold import Threshold, score_pairs
    from oodml.evaluate.structure import structure_metrics

    chosen = None if given.threshold is None else Threshold.load(given.threshold)
    score, distance = (given if chosen is None else chosen).score, given.distance
    distance = distance if chosen is None else chosen.distance
    if chosen is not None and chosen.mode == "pairs":
        scored, _ = score_pairs(queries, distance, given.seed)
    elif gallery is None:
        scored = withheld_scores(queries, score, distance, given.seed)
    else:
        scored = gallery_scores(queries, gallery, score, distance)
    limit = None if chosen is None else chosen.threshold
    values = open_set_metrics(scored, given.far or (0.01, 0.1), limit)
    values["opis"] = structure_metrics(queries.vectors, queries.labels)["opis"]
    if given.figure is not None:
        from oodml.report.decision_figures import threshold_figure

        threshold_figure(scored, limit, given.figure)
    known, unknown = int(scored.known.sum()), int((~scored.known).sum())
    source = given.vectors
    shared.show(
        f"A known query scores higher than an unknown one in {values['auroc']:.1%} of pairs.",
        shared.Table(
            f"{known} known and {unknown} unknown queries",
            ("metric", "value"),
            [(name, f"{value:.4f}") for name, value in values.items()],
        ),
        next=() if chosen else ("threshold", source, "--score", score, "--out", "threshold.json"),
        json={"known": known, "unknown": unknown, "metrics": values},
    )


def show_sizes(
    queries: "oodml.VectorSet",
    gallery: "oodml.VectorSet | None",
    distractors: "oodml.VectorSet",
    given: Any,
) -> None:
    """Print Recall@k against the size of the gallery."""
    from oodml.decisions.gallery_size import count_distractors, extrapolate

    growth = count_distractors(queries, distractors, gallery, given.distance, given.seed)
    most = growth.base + growth.pool
    chosen = given.sizes or [growth.base, most, 10 * most, 100 * most]
    tables = {k: extrapolate(growth, chosen, k, given.seed) for k in given.k or (1,)}
    if given.figure is not None:
        from oodml.report.decision_figures import growth_figure

        growth_figure(tables, given.figure)
    rows = [{"k": k, **row} for k, table in tables.items() for row in table.to_dict("records")]
    lines = [
        (f"{row['size']:,}", f"{row['k']}", f"{row['recall']:.4f}",
         f"{row['low']:.4f} … {row['high']:.4f}",
         "extrapolated, 80%" if row["extrapolated"] else "exact, 95%")
        for row in rows
    ]  # fmt: skip
    largest = next(iter(tables.values())).to_dict("records")[-1]
    shared.show(
        f"Recall@{rows[0]['k']} is {largest['recall']:.4f} in a gallery of {largest['size']:,} "
        f"images, and {rows[0]['recall']:.4f} in one of {rows[0]['size']:,}.",
        shared.Table(
            f"{len(growth.closer)} queries; up to {most} gallery images are exact",
            ("gallery size", "k", "recall@k", "interval", ""),
            lines,
        ),
        next=("compress", given.vectors),
        json=rows,
    )


@shared.with_groups
def compress(
    vectors: shared.Vectors,
    reader: shared.VectorReader,
    fit: Annotated[File, vectors_in(_FIT, unset="half of the classes")] = None,
    dims: Annotated[Counts, codes("Numbers of dimensions.", whole, unset="all")] = None,
    reduce: Annotated[str, option("truncate (Matryoshka) or pca.", panel="Codes")] = "truncate",
    precision: Annotated[Words, codes("float16, int8, or binary.", unset="these three")] = None,
    pq: Annotated[Counts, codes("Bytes per vector of product quantization.", whole)] = None,
    opq: Annotated[Counts, codes("Bytes per vector of PQ after a rotation.", whole)] = None,
    rescore: Annotated[int, option(_RESCORE, panel="Codes", min=0)] = 4,
    k: Annotated[Counts, many("Cut-offs k of the metrics.", int, unset="1,8")] = None,
    distance: shared.Distance = "cosine",
    seed: shared.Seed = 0,
    figure: shared.Figure = None,
    as_json: shared.Json = False,
) -> None:
    """Find out what smaller vectors cost: fewer dimensions, lower precision, or quantization.

    Example: `oodml compress vectors.npz --fit train.npz --dims 256,128 --pq 32`
    """
    from oodml.analysis.formatting import format_points
    from oodml.decisions.compression import PRECISIONS
    from oodml.decisions.compression import compress as compress_vectors

    shared.check_outputs((figure,), vectors, fit)
    rows, others = reader.read(vectors, fit)
    options: dict[str, Any] = {"precision": precision or PRECISIONS, "reduce": reduce}
    options |= {"dims": dims or (), "pq": pq or (), "opq": opq or (), "rescore": rescore}
    options |= {"ks": tuple(k or (1, 8)), "distance": distance, "seed": seed}
    table = compress_vectors(rows, others, **options)
    if figure is not None:
        from oodml.report.decision_figures import compression_figure

        compression_figure(table, figure)
    metrics = [name.removesuffix("_loss") for name in map(str, table) if name.endswith("_loss")]
    records, main = table.to_dict("records"), metrics[0]
    lines = [
        (row["code"], f"{row['bytes']:.0f}", *(f"{row[name]:.4f}" for name in metrics),
         "{} ({}…{})".format(*(format_points(row[f"{main}_{part}"])
                                 for part in ("loss", "low", "high"))))
        for row in records
    ]  # fmt: skip
    good = [row for row in records if not row[f"{main}_high"] >= 0.01]
    small = min(good, key=lambda row: float(row["bytes"]))
    shared.show(
        f"{small['code']} is the smallest that loses less than a point of {main} for sure: "
        f"{small['bytes']:.0f} bytes per vector instead of {records[0]['bytes']:.0f}.",
        shared.Table("", ("stored as", "bytes", *metrics, f"points lost of {main} (95%)"), lines),
        next=("index", vectors, "--out", "vectors.faiss"),
        json=records,
    )


@shared.with_groups
def index(
    vectors: shared.Vectors,
    reader: shared.VectorReader,
    out: Annotated[Path, option("File to write; the ids are in NAME.ids.csv.")],
    type: Annotated[str, option("Type of index: flat (exact), ivf, or hnsw.")] = "flat",
    distance: shared.Distance = "cosine",
    effort: Annotated[
        Count, option("Lists (ivf) or candidates (hnsw) to search.", unset="16 or 64")
    ] = None,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
) -> None:
    """Write a faiss index for production, and measure its recall against exact search.

    Example: `oodml index gallery.npz --type hnsw --out gallery.faiss`
    """
    from dataclasses import asdict

    from oodml.evaluate.index import write_index

    ids = out.with_suffix(".ids.csv")
    shared.check_outputs((out, ids), vectors)
    (rows,) = reader.read(vectors)
    report = write_index(rows, out, kind=type, distance=distance, effort=effort, seed=seed)
    sentences = [
        f"{out}: {report.kind} index of {report.vectors} vectors of {report.dimensions} "
        f"dimensions; ids in {ids.name}",
        f"It returns {report.neighbor_recall:.2%} of the {report.k} exact nearest neighbors; "
        f"Recall@1 {report.recall:.4f}, exact {report.exact_recall:.4f} ({report.queries} queries)",
    ]
    command = ("evaluate", vectors, "--index", out)
    shared.show(sentences, next=command, json=asdict(report))
