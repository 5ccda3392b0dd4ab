"""`oodml threshold`, `compress`, `index`, and `forecast`; and decisions in `oodml evaluate`."""

from functools import partial
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer

import oodml
from oodml.cli import shared
from oodml.cli.shared import Count, Counts, File, Number, Words, many, option, whole
from oodml.cli.shared import vector_source as vectors_in

_SCORE = "Score of known classes: nearest, margin, density, or energy."
FAR = "False-accept rate, the share of unknown queries to accept."
_FIT = "Vectors of other classes to fit codes on."
_NEW = "New images: a folder, or a file of their vectors."
_EACH = "Mean number of images per class, instead of --classes."
_JUDGE = "Page (.html) for judging neighbors; written unless --judgments is given."
_JUDGMENTS = "Answers that the page of --judge saved; repeatable."
_RESCORE = "Binary codes: retrieve this many times k, and sort them by int8 vectors; 0 does not."
_QUERIES = ("known queries", "unknown queries")
_PAIRS = ("pairs of one class", "pairs of two classes")
Score = Annotated[str, option(_SCORE, panel="Open set")]
codes = partial(many, panel="Codes")


def threshold(
    vectors: shared.Vectors,
    reader: shared.VectorReader,
    out: Annotated[Path, option("File to write: JSON.")],
    far: Annotated[float, option(FAR)] = 0.01,
    gallery: shared.Gallery = None,
    mode: Annotated[str, option("identification; or pairs, to accept pairs.")] = "identification",
    score: Score = "nearest",
    conformal: Annotated[bool, option("Use the conformal threshold.")] = False,
    figure: shared.Figure = None,
) -> None:
    """Choose the threshold that accepts a given share of queries of unknown classes.

    Use vectors of classes that the model was not trained on. With --gallery, queries of classes
    outside it are unknown; without it, each image is scored among the others twice: as known, and
    as unknown, without its own class.
    --conformal guarantees the rate for a new class, and needs 1/far − 1 classes.

    Example: `oodml threshold valid.npz --far 0.05 --out threshold.json`
    """
    from dataclasses import asdict

    from oodml.decisions.threshold import choose_threshold, score_queries

    shared.check_outputs((out, figure), vectors, gallery)
    queries, searched = reader.read(vectors, gallery)
    options: dict[str, Any] = {"mode": mode, "score": score, "gallery": searched}
    options |= {"distance": reader.distance, "seed": reader.seed}
    chosen = choose_threshold(queries, far, conformal=conformal, **options)
    chosen.save(out)
    if figure is not None:
        from oodml.report.decision_figures import threshold_figure

        threshold_figure(score_queries(queries, **options)[0], chosen.threshold, figure)
    reason = f"this takes {ceil(1 / far - 1 - 1e-9)} classes, and there are {chosen.classes}"
    reason = f"mode {mode} has no guarantee" if mode == "pairs" else reason
    guarantee = f"No threshold guarantees the rate {far:g} for a new class: {reason}."
    if chosen.conformal is not None:
        guarantee = (
            f"From {chosen.conformal:.4f}, an image of a new class is accepted with a probability "
            f"of at most {far:g} if the new class is exchangeable with these."
        )
    known, unknown = _PAIRS if mode == "pairs" else _QUERIES
    sentences = [
        f"{out}: accept from {chosen.threshold:.4f} (95% interval over classes {chosen.low:.4f} … "
        f"{chosen.high:.4f}).",
        f"Of {chosen.unknown} {unknown} ({chosen.classes} classes), {chosen.false_accepts:.2%} are "
        f"accepted; of {known}, {chosen.tar:.1%} ({chosen.tar_low:.1%} … {chosen.tar_high:.1%}).",
        guarantee,
        f"Evaluate it on other vectors: its rates on those of {vectors} are optimistic.",
    ]
    same = ("--gallery", gallery) if gallery else ()
    command = ("evaluate", "OTHER", *same, "--open-set", "--threshold", out)
    shared.show(sentences, next=command, json=asdict(chosen))


def show_open_set(
    queries: "oodml.VectorSet", gallery: "oodml.VectorSet | None", given: Any
) -> None:
    """Print the open-set metrics of queries; without a gallery, half of the classes form it."""
    from oodml.decisions.open_set import open_set_metrics, withheld_scores
    from oodml.decisions.threshold import MODES, Threshold, require_unknown, score_queries
    from oodml.evaluate.structure import structure_metrics

    chosen = None if given.threshold is None else Threshold.load(given.threshold)
    used = given if chosen is None else chosen
    score, distance, mode = used.score, used.distance, getattr(used, "mode", MODES[0])
    if mode == "pairs" or gallery is not None:
        options: Any = {"mode": mode, "score": score, "distance": distance, "seed": given.seed}
        scored, _ = score_queries(queries, gallery=gallery, **options)
    else:
        scored = withheld_scores(queries, score, distance, given.seed)
    require_unknown(scored, given.gallery or "the gallery")
    limit = None if chosen is None else chosen.threshold
    values = open_set_metrics(scored, given.far or (0.01, 0.1), limit)
    values["opis"] = structure_metrics(queries.vectors, queries.labels)["opis"]
    if given.figure is not None:
        from oodml.report.decision_figures import threshold_figure

        threshold_figure(scored, limit, given.figure)
    known, unknown = int(scored.known.sum()), int((~scored.known).sum())
    same = ("--gallery", given.gallery) if given.gallery else ()
    command = ("threshold", given.vectors, *same, "--score", score, "--out", "threshold.json")
    higher, lower = _PAIRS if mode == "pairs" else _QUERIES
    shared.show(
        f"{higher.capitalize()} score higher than {lower} in {values['auroc']:.1%} of comparisons.",
        shared.Table.of(
            [{"name": name, "value": value} for name, value in values.items()],
            {"metric": "{name}", "value": "{value:.4f}"},
            f"{known} {higher} and {unknown} {lower}",
        ),
        next=("compare", given.vectors, "OTHER") if chosen else command,
        json={"mode": mode, "known": known, "unknown": unknown, "metrics": values},
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
    sizes = given.sizes or [growth.base, most, 10 * most, 100 * most]
    chosen = [size for size in sizes if size >= growth.base] or sizes  # small ones are refused
    if small := ",".join(str(size) for size in sizes if size not in chosen):
        note = f"left out; without distractors, the gallery has {growth.base} images."
        typer.secho(f"--sizes {small}: {note}", fg="yellow", err=True)
    tables = {k: extrapolate(growth, chosen, k, given.seed) for k in given.k or (1,)}
    if given.figure is not None:
        from oodml.report.decision_figures import growth_figure

        growth_figure(tables, given.figure)
    kinds = {False: "exact, 95%", True: "extrapolated, 80%"}
    rows = [
        {"k": k, **row, "kind": kinds[row["extrapolated"]]}
        for k, table in tables.items()
        for row in table.to_dict("records")
    ]
    columns = {"gallery size": "{size:,}", "k": "{k}", "recall@k": "{recall:.4f}"}
    columns |= {"interval": "{low:.4f} … {high:.4f}", "": "{kind}"}
    first, largest = rows[0], rows[len(chosen) - 1]
    shared.show(
        f"Recall@{first['k']} is {largest['recall']:.4f} in a gallery of {largest['size']:,} "
        f"images, and {first['recall']:.4f} in one of {first['size']:,}.",
        shared.Table.of(
            rows, columns, f"{len(growth.closer)} queries; up to {most} gallery images are exact"
        ),
        next=("compress", given.vectors),
        json=rows,
    )


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
    k: Annotated[Counts, shared.k_option(unset="1,8")] = None,
    figure: shared.Figure = None,
) -> None:
    """Find out what smaller vectors cost: fewer dimensions, lower precision, or quantization.

    Example: `oodml compress vectors.npz --fit train.npz --dims 256,128 --pq 32`
    """
    from oodml.analysis.formatting import format_points
    from oodml.decisions import compression

    shared.check_outputs((figure,), vectors, fit)
    rows, others = reader.read(vectors, fit)
    if fit is not None and (common := {*rows.class_names} & {*others.class_names}):
        note = f"also has {len(common)} of the {len(rows.class_names)} evaluated classes"
        typer.secho(f"--fit {fit} {note}, so losses are optimistic.", fg="yellow", err=True)
    options: dict[str, Any] = {"precision": precision or compression.PRECISIONS, "reduce": reduce}
    options |= {"dims": dims or (), "pq": pq or (), "opq": opq or (), "rescore": rescore}
    options |= {"ks": tuple(k or (1, 8)), "distance": reader.distance, "seed": reader.seed}
    table = compression.compress(rows, others, **options)
    if figure is not None:
        from oodml.report.decision_figures import compression_figure

        compression_figure(table, figure)
    metrics = [name.removesuffix("_loss") for name in map(str, table) if name.endswith("_loss")]
    records, main = table.to_dict("records"), metrics[0]
    lines = [
        (row["code"], f"{row['bytes']:.0f}", f"{row['disk']}",
         *(f"{row[name]:.4f}" for name in metrics),
         "{} ({}…{})".format(*(format_points(row[f"{main}_{part}"])
                                 for part in ("loss", "low", "high"))))
        for row in records
    ]  # fmt: skip
    full, best = records[0], next((row for row in records if row["recommended"]), None)
    counts = f"{full['queries']} queries of {full['classes']} classes"
    need = f"{compression.MIN_QUERIES} queries of {compression.MIN_CLASSES} classes"
    answer = f"{counts}: no code is recommended, which takes {need} and an interval below a point."
    if best is not None:
        disk = f"(+{best['disk']} on disk) " * bool(best["disk"])
        answer = (
            f"{best['code']} is the smallest in memory that loses less than a point of {main} (95% "
            f"interval over {counts}): {best['bytes']:.0f} bytes per vector {disk}instead of "
            f"{full['bytes']:.0f}."
        )
    halves = "" if fit else "Codes were fitted on half of the classes; the other is evaluated."
    again = ("OTHER", "--fit", fit) if fit else (vectors, "--seed", reader.seed + 1)
    heads = ("stored as", "bytes in memory", "on disk", *metrics, f"points lost of {main} (95%)")
    shared.show(answer, shared.Table(halves, heads, lines), next=("compress", *again), json=records)


def index(
    vectors: shared.Vectors,
    reader: shared.VectorReader,
    out: Annotated[Path, option("File to write; the ids are in NAME.ids.csv.")],
    type: Annotated[str, option("Type of index: flat (exact), ivf, or hnsw.")] = "flat",
    effort: Annotated[Count, option("Lists (ivf) or candidates (hnsw).", unset="16 or 64")] = None,
) -> None:
    """Write a faiss index for production, and measure its recall against exact search.

    Example: `oodml index gallery.npz --type hnsw --out gallery.faiss`
    """
    from dataclasses import asdict

    from oodml.evaluate.index import write_index

    shared.check_outputs((out, out.with_suffix(".ids.csv")), vectors)
    (rows,) = reader.read(vectors)
    options: dict[str, Any] = {"distance": reader.distance, "seed": reader.seed}
    report = write_index(rows, out, kind=type, effort=effort, **options)
    sentences = [
        f"{out}: {report.kind} index of {report.vectors} vectors of {report.dimensions} dimensions",
        f"It returns {report.neighbor_recall:.2%} of the {report.k} exact nearest neighbors; "
        f"Recall@1 {report.recall:.4f}, exact {report.exact_recall:.4f} ({report.queries} queries)",
    ]
    shared.show(sentences, next=("evaluate", vectors, "--index", out), json=asdict(report))


def forecast(
    study: shared.Study,
    new: Annotated[str, option(_NEW, callback=shared.named_vectors)],
    classes: Annotated[Count, option("Number of classes.", min=2, unset="estimated")] = None,
    images_per_class: Annotated[Number, option(_EACH, min=1, unset="estimated")] = None,
    judge: Annotated[File, option(_JUDGE)] = None,
    n_queries: Annotated[Count, option("Number of queries to sample.", min=10, unset="50")] = None,
    judgments: Annotated[list[Path] | None, option(_JUDGMENTS, metavar="FILE")] = None,
    device: shared.Device = None,
    trust_code: shared.TrustCode = False,
) -> None:
    """Forecast Recall@1 of the methods of a study on images of unknown classes.

    If the interval is too wide, judge some queries: --judge page.html writes the page, and
    --judge page.html --judgments judged.csv reads your answers.

    Example: `oodml forecast results/ --new new_images/`
    """
    from oodml.errors import OodmlError
    from oodml.forecasting.description import describe_forecast
    from oodml.forecasting.judge import describe_judged, write_judge_page
    from oodml.forecasting.target import open_forecast
    from oodml.report.folder import read_folder
    from oodml.share.pack import study_folder

    if judge is None and (judgments or n_queries):
        flag = "--judgments" if judgments else "--n-queries"
        raise OodmlError(f"{flag} needs --judge, the page", location=flag)
    if judge is not None and judge.suffix != ".html":
        raise OodmlError(f"--judge {judge}: give a page, .html", "--judge", str(judge))
    with study_folder(study) as path:
        folder = read_folder(path, trust_code=trust_code)
        options: Any = {"trust_code": trust_code, "device": device}
        opened = open_forecast(folder, new, classes, images_per_class, **options)
        text = [describe_forecast(opened, bool(classes or images_per_class))]
        command: list[object] = ["forecast", study, "--new", new, "--judge"]
        if judge is not None and judgments:
            text.append(describe_judged(opened, judgments, judge))
            command = ["report", study]
        elif judge is not None:
            write_judge_page(opened, n_queries or 50, judge)
            text.append(f"Judge the queries on {judge}, then pass the saved file to --judgments.")
            command += [judge, "--judgments", "judged.csv"]
        else:
            command.append("judge.html")
    shared.show(
        text,
        next=command,
        json={"answer": "\n".join(text), "methods": opened.forecast.methods.to_dict("records")},
    )
