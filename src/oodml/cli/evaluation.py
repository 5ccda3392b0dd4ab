"""`oodml evaluate`, `oodml compare`, `oodml index`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oodml.cli import decisions, shared
from oodml.cli.shared import option
from oodml.errors import OodmlError, unknown

if TYPE_CHECKING:
    from oodml.evaluate.evaluation import Evaluation
    from oodml.vectors import VectorSet


def evaluate(
    vectors: Annotated[Path | None, shared.VECTORS] = None,
    gallery: Annotated[
        Path | None,
        option(
            "Vectors to search in; by default the queries. May contain other classes. A "
            "folder of files is read in chunks and need not fit into memory."
        ),
    ] = None,
    k: Annotated[
        list[int] | None, option("Cut-off of recall and precision; may be repeated.")
    ] = None,
    distance: shared.Distance = "cosine",
    by: Annotated[
        str,
        option(
            "What images must share to count as a match: class, superclass, or label (one of "
            "several, as in 'cat|dog')."
        ),
    ] = "class",
    protocol: Annotated[
        str | None,
        option(
            "Rules and metrics of a benchmark: market1501, veri, msmt17, sop, inshop, "
            "inaturalist, gldv2, or wildlife."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        option(
            "same:COLUMN: do not rank images of the query's class with its camera, time, "
            "location, or sequence; may be repeated."
        ),
    ] = None,
    run: Annotated[Path | None, option("Instead of vectors: a ranking in TREC format.")] = None,
    qrels: Annotated[
        Path | None, option("Judgments of pairs of ids in TREC format; -1 is junk.")
    ] = None,
    write_run: Annotated[
        Path | None, option("Write the 1000 nearest images in TREC format.")
    ] = None,
    write_qrels: Annotated[Path | None, option("Write the matches in TREC format.")] = None,
    average: Annotated[
        str, option("Average over queries (micro) or over classes (macro).")
    ] = "micro",
    seed: shared.Seed = 0,
    restarts: Annotated[int, option("Runs of k-means; the best one counts.")] = 1,
    retrieval_only: Annotated[
        bool, option("Skip clustering and structure metrics.", "--retrieval-only")
    ] = False,
    as_json: shared.Json = False,
    per_class: Annotated[
        Path | None, option("Write the metrics of each class to this CSV file.")
    ] = None,
    open_set: Annotated[
        bool,
        option(
            "Measure how well queries of classes outside the gallery are recognized.", "--open-set"
        ),
    ] = False,
    threshold: Annotated[
        Path | None, option("With --open-set: a file of `oodml threshold`.")
    ] = None,
    score: Annotated[str, decisions.SCORE] = "nearest",
    far: Annotated[
        list[float] | None, option("With --open-set: a false-accept rate; may be repeated.")
    ] = None,
    distractors: Annotated[
        Path | None, option("Images of other classes: report recall against the gallery's size.")
    ] = None,
    sizes: Annotated[str, option("With --distractors: gallery sizes, such as 1e4,1e6.")] = "",
    index: Annotated[
        Path | None,
        option("A faiss index of the gallery, to separate its failures from the model's."),
    ] = None,
    figure: Annotated[Path | None, decisions.FIGURE] = None,
    n_queries: Annotated[
        int | None,
        option(
            "Without --gallery: the number of vectors that are queries, sampled with the share of "
            "each class (default: all). Metrics then have 95% intervals.",
            min=1,
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "Instead of vectors, give images and a model with a text tower that searches them for "
            "the texts of --queries, such as open_clip:ViT-B-32/laion2b_s34b_b79k (default: none)."
        ),
    ] = None,
    queries: Annotated[
        Path | None, option("With --model: a CSV file with the columns text and class.")
    ] = None,
    memory: Annotated[
        str, option("With a folder of files: memory for the vectors in use.")
    ] = "2GB",
    column: shared.Column = None,
    labels: shared.Labels = None,
    skip_unlabeled: shared.SkipUnlabeled = False,
) -> None:
    """Compute every retrieval and clustering metric with its chance level, and the structure.

    Example: `oodml evaluate test.npz --per-class classes.csv`
    """
    from oodml.evaluate.evaluation import evaluate_vectors

    for output in (per_class, figure, write_run, write_qrels):
        shared.check_output(output, vectors, gallery, threshold, distractors, run, qrels)
    options: dict[str, Any] = {"distance": distance, "average": average, "seed": seed}
    ks = tuple(k or (1, 2, 4, 8))
    rules = {"protocol": protocol, "exclude": exclude, "qrels": qrels}
    if model is not None:
        texts = _evaluate_text(str(vectors), model, queries, k, seed)
        _print_result(texts, str(vectors), per_class, as_json)
        return
    if run is not None or vectors is None:
        _print_result(_evaluate_run(run, qrels, vectors, k, average), "run", per_class, as_json)
        return
    if n_queries is not None or vectors.is_dir() or (gallery is not None and gallery.is_dir()):
        _refuse_with_shards(
            by=by != "class" and by,
            **rules,
            write_run=write_run,
            write_qrels=write_qrels,
            open_set=open_set,
            distractors=distractors,
            index=index,
            vector_column=column,
            label_column=labels,
            skip_unlabeled=skip_unlabeled,
            n_queries=n_queries is not None and gallery is not None,
        )
        result = _evaluate_shards(vectors, gallery, memory, n_queries=n_queries, ks=ks, **options)
        _print_result(result, vectors.name, per_class, as_json)
        return
    read = shared.vector_reader(column, labels, skip_unlabeled)
    rows, searched = read(vectors), read(gallery)
    shown = distance, seed, figure, as_json
    if index is not None:
        _print_index_errors(rows, searched, index, ks, distance, seed, as_json)
        return
    if open_set:
        decisions.evaluate_open_set(rows, searched, threshold, score, far, *shown)
        return
    if distractors is not None:
        decisions.evaluate_sizes(rows, searched, read(distractors), sizes, k, *shown)
        return
    files = {"run_file": write_run, "qrels_file": write_qrels}
    ruled = _evaluate_rules(rows, searched, rules, by, k, options | files)
    if ruled is None:
        options |= {"by": by, "restarts": restarts, "retrieval_only": retrieval_only}
        ruled = evaluate_vectors(rows, searched, ks=ks, **options)
    _print_result(ruled, vectors.name, per_class, as_json)


def _print_index_errors(
    queries: "VectorSet",
    gallery: "VectorSet | None",
    index: Path,
    ks: tuple[int, ...],
    distance: str,
    seed: int,
    as_json: bool,
) -> None:
    from oodml.evaluate.index import index_errors

    table = index_errors(queries, index, gallery, ks=ks, distance=distance, seed=seed)
    if as_json:
        shared.print_json(table.to_dict("records"))
        return
    rows = [
        (f"{row['k']}", *(f"{row[name]:.4f}" for name in ("exact", "index", "lost", "gained")),
         f"{100 * row['loss']:.1f} ({100 * row['low']:.1f}…{100 * row['high']:.1f})")
        for row in table.to_dict("records")
    ]  # fmt: skip
    heads = ("k", "exact", "index", "lost", "gained", "points lost (95%)")
    shared.print_table(f"recall@k with {index.name}", heads, rows)
    first = table.iloc[0]
    failures = 1 - first["exact"] + first["lost"]
    if failures > 0:
        typer.echo(
            f"Of the failures at {first['k']:.0f}, {(1 - first['exact']) / failures:.0%} are the "
            f"model's (exact search fails, too), and {first['lost'] / failures:.0%} the index's."
        )


def _evaluate_rules(
    queries: "VectorSet",
    gallery: "VectorSet | None",
    rules: dict[str, Any],
    by: str,
    k: list[int] | None,
    options: dict[str, Any],
) -> "Evaluation | None":
    """The evaluation by the rules of a benchmark, or None if neither options nor columns ask it."""
    from oodml.evaluate.judged import evaluate_judged, uses_columns
    from oodml.evaluate.trec import read_qrels

    outputs = options["run_file"], options["qrels_file"]
    if not any((*rules.values(), *outputs, by == "label", uses_columns(queries, gallery))):
        return None
    if by == "superclass":
        problem = "--by superclass: the rules of benchmarks apply to classes"
        raise OodmlError(problem, "--by", by, ("class", "label"))
    if rules["protocol"] and k:
        raise OodmlError("--k: a protocol has its own cut-offs", "--k", k)
    return evaluate_judged(
        queries,
        gallery,
        protocol=rules["protocol"],
        exclude=tuple(map(_excluded_column, rules["exclude"] or ())),
        shared_label=by == "label",
        qrels=read_qrels(rules["qrels"]) if rules["qrels"] else None,
        ks=tuple(k or (1, 5, 10, 20)),
        **options,
    )


def _evaluate_text(
    data: str, model: str, file: Path | None, k: list[int] | None, seed: int
) -> "Evaluation":
    from oodml.catalog import make_importable
    from oodml.text_queries import evaluate_prompts

    if file is None:
        problem = "--model: pass --queries, a CSV file with the columns text and class"
        raise OodmlError(problem, "--queries")
    make_importable(Path.cwd())
    return evaluate_prompts(data, model, file, ks=tuple(k or (1, 2, 4, 8)), seed=seed)


def _evaluate_run(
    run: Path | None,
    qrels: Path | None,
    vectors: Path | None,
    k: list[int] | None,
    average: str,
) -> "Evaluation":
    from oodml.evaluate.judged import evaluate_run
    from oodml.evaluate.trec import read_qrels, read_run

    if run is None or qrels is None or vectors is not None:
        problem = "pass either a file of vectors, or --run and --qrels"
        raise OodmlError(problem, "VECTORS", vectors, ("--run", "--qrels"))
    return evaluate_run(read_run(run), read_qrels(qrels), ks=k or (1, 5, 10, 20), average=average)


def _excluded_column(text: str) -> str:
    from oodml.vector_columns import ATTRIBUTES

    allowed = [f"same:{name}" for name in ATTRIBUTES if name not in ("junk", "relevance")]
    if text not in allowed:
        raise unknown("value", text, allowed, "--exclude")
    return text.removeprefix("same:")


def _evaluate_shards(
    vectors: Path, gallery: Path | None, memory: str, **options: Any
) -> "Evaluation":
    from oodml.evaluate.shards import Shards
    from oodml.evaluate.streaming import evaluate_shards, parse_memory
    from oodml.vectors import VectorSet

    queries = None if gallery is None else VectorSet.load(vectors)
    searched = Shards(gallery or vectors)
    return evaluate_shards(queries, searched, memory=parse_memory(memory), **options)


def _refuse_with_shards(**given: Any) -> None:
    """Refuse options that need all vectors in memory."""
    for name, is_given in given.items():
        if is_given:
            flag = f"--{name.replace('_', '-')}"
            problem = f"{flag} needs all vectors in one file that fits into memory"
            raise OodmlError(problem, flag, flag)


def _print_result(result: "Evaluation", name: str, per_class: Path | None, as_json: bool) -> None:
    from oodml.files import replacing

    if per_class is not None:
        with replacing(per_class) as temporary:
            result.per_class.to_csv(temporary, index=False)
    for note in result.notes:
        typer.secho(note, fg="yellow", err=True)
    if as_json:
        names = ("answer", "notes", "sizes", "metrics", "chance", "intervals")
        shared.print_json({key: getattr(result, key) for key in names})
    else:
        _print_evaluation(result, name)


def compare(
    a: shared.Vectors,
    b: shared.Vectors,
    metric: Annotated[
        list[str] | None, option("Metric, as named by `oodml evaluate`; may be repeated.")
    ] = None,
    distance: shared.Distance = "cosine",
    confidence: Annotated[float, option("Confidence level of the interval.")] = 0.95,
    resamples: Annotated[int, option("Number of resamples of the classes.")] = 10_000,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
    column: shared.Column = None,
    labels: shared.Labels = None,
    skip_unlabeled: shared.SkipUnlabeled = False,
) -> None:
    """Find out which of two models is better on the same images, and with what confidence.

    A and B are vectors of the same images (ids). Classes are resampled, not images, and both models
    are scored on the same resamples.

    Example: `oodml compare margin.npz arcface.npz --metric recall@1`
    """
    from dataclasses import asdict

    import oodml
    from oodml.evaluate.evaluation import align_by_id
    from oodml.evaluate.query_lists import query_lists

    first, second = map(shared.vector_reader(column, labels, skip_unlabeled), (a, b))
    shared.print_skipped(first, second)
    second = align_by_id(first, second, str(a), str(b))
    comparisons = oodml.compare(
        first.vectors,
        second.vectors,
        first.labels,
        metrics=tuple(metric or ("recall@1", "map@r", "map")),
        distance=distance,
        seed=seed,
        resamples=resamples,
        confidence=confidence,
        lists=query_lists(first),
    )
    if as_json:
        shared.print_json([asdict(comparison) for comparison in comparisons])
        return
    rows = [
        (
            comparison.metric,
            f"{comparison.a:.4f}",
            f"{comparison.b:.4f}",
            f"{comparison.difference:+.4f}",
            f"{comparison.low:+.4f} … {comparison.high:+.4f}",
            f"{comparison.probability:.1%}",
        )
        for comparison in comparisons
    ]
    heads = ("metric", "A", "B", "A - B", f"{confidence:.0%} interval", "A is better")
    typer.echo(f"A: {a}   B: {b}")
    shared.print_table("", heads, rows)


def index(
    vectors: shared.Vectors,
    out: Annotated[Path, option("File of the index; the ids are written to NAME.ids.csv.")],
    kind: Annotated[str, option("flat (exact), ivf, or hnsw.")] = "flat",
    distance: shared.Distance = "cosine",
    effort: Annotated[
        int | None,
        option("Lists searched (ivf, default 16) or candidates per query (hnsw, default 64)."),
    ] = None,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
    column: shared.Column = None,
    labels: shared.Labels = None,
    skip_unlabeled: shared.SkipUnlabeled = False,
) -> None:
    """Write a faiss index for production, and measure its recall against exact search.

    Example: `oodml index gallery.npz --kind hnsw --out gallery.faiss`
    """
    from dataclasses import asdict

    from oodml.evaluate.index import write_index

    for output in (out, out.with_suffix(".ids.csv")):
        shared.check_output(output, vectors)
    rows = shared.vector_reader(column, labels, skip_unlabeled)(vectors)
    shared.print_skipped(rows)
    report = write_index(rows, out, kind=kind, distance=distance, effort=effort, seed=seed)
    if as_json:
        shared.print_json(asdict(report))
        return
    typer.echo(
        f"{out}: {report.kind} index of {report.vectors} vectors of {report.dimensions} "
        f"dimensions; ids in {out.with_suffix('.ids.csv').name}\n"
        f"It returns {report.neighbor_recall:.2%} of the {report.k} exact nearest neighbors; "
        f"Recall@1 {report.recall:.4f}, exact {report.exact_recall:.4f} ({report.queries} queries)"
    )


def _print_evaluation(result: "Evaluation", name: str) -> None:
    sizes, metrics, has_intervals = result.sizes, result.metrics, bool(result.intervals)
    typer.echo(result.answer)
    if "vectors" in sizes:
        typer.echo(
            f"{name}: {sizes['vectors']} vectors of {sizes['dimensions']} dimensions, "
            f"{sizes['classes']} classes"
        )
    else:
        typer.echo(f"{name}: {', '.join(f'{count} {what}' for what, count in sizes.items())}")
    rows = [
        (
            name,
            f"{value:.4f}",
            *("{:.4f} … {:.4f}".format(*result.intervals[name]) for _ in range(has_intervals)),
            f"{result.chance[name]:.4f}" if name in result.chance else "",
        )
        for name, value in metrics.items()
        if name not in ("queries", "singletons")
    ]
    heads = ("metric", "value", *["95% interval"] * has_intervals, "chance")
    counts = f"{metrics['queries']:.0f} queries"
    if metrics["singletons"]:
        counts += f"; {metrics['singletons']:.0f} without a positive are excluded"
    shared.print_table(counts, heads, rows)


COMMANDS = (evaluate, compare, index)
