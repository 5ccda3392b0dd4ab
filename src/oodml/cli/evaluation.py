"""`oodml evaluate` and `oodml compare`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import oodml
from oodml.cli import decisions, shared
from oodml.cli.shared import (
    Count,
    Counts,
    File,
    Numbers,
    Text,
    Words,
    many,
    option,
    output,
    source,
    vector_source,
    whole,
)  # fmt: skip
from oodml.errors import OodmlError, unknown

if TYPE_CHECKING:
    from oodml.evaluate.evaluation import Evaluation

rankings, far_rates = partial(many, panel="Ranking"), partial(many, panel="Open set")
growths = partial(many, panel="Gallery size, index")
ranking, benchmark = partial(option, panel="Ranking"), partial(option, panel="Benchmarks")
open_sets, growth = partial(option, panel="Open set"), partial(option, panel="Gallery size, index")


@dataclass(kw_only=True)
class EvaluateOptions(shared.VectorReader):
    """The options of `oodml evaluate`."""

    vectors: Annotated[File, shared.VECTORS] = None
    gallery: Annotated[
        File, vector_source("Vectors to search, or a folder (default: queries).")
    ] = None
    model: Annotated[Text, source("A model with a text tower; VECTORS are then images.")] = None
    queries: Annotated[File, source("With --model: a CSV file of text and class.")] = None
    n_queries: Annotated[Count, source("Number of queries to sample (default: all).", min=1)] = None
    memory: Annotated[str, source("With a folder of files: memory for vectors in use.")] = "2GB"
    device: Annotated[str, source("With a folder of files: compare on cpu or cuda.")] = "cpu"
    on: Annotated[str, source("With a folder: search on local, ray, or ray://HOST:PORT.")] = "local"
    k: Annotated[Counts, rankings("Cut-offs (default: 1,2,4,8, or of the rules).", int)] = None
    distance: shared.Distance = "cosine"
    by: Annotated[str, ranking("What matches share: class, superclass, or label.")] = "class"
    average: Annotated[str, ranking("Mean over queries (micro) or classes (macro).")] = "micro"
    seed: shared.Seed = 0
    restarts: Annotated[int, ranking("Runs of k-means; the best counts.")] = 1
    retrieval_only: Annotated[
        bool, ranking("Skip clustering and structure.", "--retrieval-only")
    ] = False
    protocol: Annotated[Text, benchmark("Of a benchmark: market1501, sop, gldv2, ….")] = None
    exclude: Annotated[
        Words, many("Ignore images that share a column: same:camera.", panel="Benchmarks")
    ] = None
    run: Annotated[File, benchmark("A ranking in TREC format instead of vectors.")] = None
    qrels: Annotated[File, benchmark("Judgments, -1 is junk (default: the classes).")] = None
    write_run: Annotated[File, benchmark("Write the 1000 nearest images in TREC format.")] = None
    write_qrels: Annotated[File, benchmark("Write the matches in TREC format.")] = None
    open_set: Annotated[bool, open_sets("Recognize unknown classes.", "--open-set")] = False
    threshold: Annotated[File, open_sets("A file of `oodml threshold`.")] = None
    score: decisions.Score = "nearest"
    far: Annotated[Numbers, far_rates("False-accept rates (default: 0.01,0.1).", float)] = None
    distractors: Annotated[
        File, growth("Of other classes: recall against size.", callback=shared.named_vectors)
    ] = None
    sizes: Annotated[Counts, growths("Gallery sizes (default: to 100 times all).", whole)] = None
    index: Annotated[File, growth("A faiss index of the gallery, to compare with.")] = None
    per_class: Annotated[File, output("Write the metrics of each class to a CSV file.")] = None
    figure: shared.Figure = None
    as_json: shared.Json = False


@shared.with_groups
def evaluate(given: EvaluateOptions) -> None:
    """Compute every retrieval and clustering metric with its chance level, and the structure.

    Protocols: market1501, veri, msmt17, sop, inshop, inaturalist, gldv2, wildlife. With --exclude
    same:camera, images of the query's class and camera are not ranked; also time, location, and
    sequence. --by label matches images that share one of several labels, as in "cat|dog".

    A folder as --gallery is read in chunks and need not fit into memory. Sampled queries have 95%
    intervals. A model is, for example, open_clip:ViT-B-32/openai, with --queries.

    Example: `oodml evaluate test.npz --per-class classes.csv`
    """
    vectors, gallery = given.vectors, given.gallery
    outputs = (given.per_class, given.figure, given.write_run, given.write_qrels)
    inputs = (given.threshold, given.distractors, given.run, given.qrels)
    shared.check_outputs(outputs, vectors, gallery, *inputs)
    if given.model is not None:
        _show(_evaluate_text(given), given)
        return
    if given.run is not None or vectors is None:
        _show(_evaluate_run(given), given)
        return
    if given.n_queries is not None or any(one and one.is_dir() for one in (vectors, gallery)):
        _show(_evaluate_shards(given), given)
        return
    for flag, value, default in (("--on", given.on, "local"), ("--device", given.device, "cpu")):
        if value != default:
            raise OodmlError(f"{flag} {value}: needs a folder of files", flag, value, (default,))
    rows, searched, others = given.read(vectors, gallery, given.distractors, note=False)
    if given.index is not None:
        _show_index_errors(rows, searched, given)
    elif given.open_set:
        decisions.show_open_set(rows, searched, given)
    elif others is not None:
        decisions.show_sizes(rows, searched, others, given)
    else:
        _show(_evaluate_vectors(rows, searched, given), given)


def _evaluate_vectors(
    queries: "oodml.VectorSet", gallery: "oodml.VectorSet | None", given: Any
) -> "Evaluation":
    """The evaluation by classes; or by the rules of a benchmark if options or columns ask it."""
    from oodml.evaluate.evaluation import evaluate_vectors
    from oodml.evaluate.judged import evaluate_judged, uses_columns
    from oodml.evaluate.trec import read_qrels

    options = {name: getattr(given, name) for name in ("distance", "average", "seed")}
    rules = (given.protocol, given.exclude, given.qrels, given.write_run, given.write_qrels)
    if not (any(rules) or given.by == "label" or uses_columns(queries, gallery)):
        options |= {"by": given.by, "restarts": given.restarts}
        options |= {"retrieval_only": given.retrieval_only, "ks": given.k or (1, 2, 4, 8)}
        return evaluate_vectors(queries, gallery, **options)
    if given.by == "superclass":
        problem = "--by superclass: the rules of benchmarks apply to classes"
        raise OodmlError(problem, "--by", given.by, ("class", "label"))
    if given.protocol and given.k:
        raise OodmlError("--k: a protocol has its own cut-offs", "--k", given.k)
    return evaluate_judged(
        queries,
        gallery,
        protocol=given.protocol,
        exclude=tuple(map(_excluded_column, given.exclude or ())),
        shared_label=given.by == "label",
        qrels=read_qrels(given.qrels) if given.qrels else None,
        ks=given.k or (1, 5, 10, 20),
        run_file=given.write_run,
        qrels_file=given.write_qrels,
        **options,
    )


def _excluded_column(text: str) -> str:
    from oodml.vector_columns import ATTRIBUTES

    allowed = [f"same:{name}" for name in ATTRIBUTES if name not in ("junk", "relevance")]
    if text not in allowed:
        raise unknown("value", text, allowed, "--exclude")
    return text.removeprefix("same:")


def _evaluate_text(given: Any) -> "Evaluation":
    from oodml.catalog import make_importable
    from oodml.text_queries import evaluate_prompts

    if given.queries is None:
        problem = "--model: pass --queries, a CSV file with the columns text and class"
        raise OodmlError(problem, "--queries")
    make_importable(Path.cwd())
    ks = tuple(given.k or (1, 2, 4, 8))
    return evaluate_prompts(str(given.vectors), given.model, given.queries, ks=ks, seed=given.seed)


def _evaluate_run(given: Any) -> "Evaluation":
    from oodml.evaluate.judged import evaluate_run
    from oodml.evaluate.trec import read_qrels, read_run

    if given.run is None or given.qrels is None or given.vectors is not None:
        problem = "pass either a file of vectors, or --run and --qrels"
        raise OodmlError(problem, "VECTORS", given.vectors, ("--run", "--qrels"))
    ranking, judgments = read_run(given.run), read_qrels(given.qrels)
    return evaluate_run(ranking, judgments, ks=given.k or (1, 5, 10, 20), average=given.average)


def _evaluate_shards(given: Any) -> "Evaluation":
    from oodml.devices import resolve_device
    from oodml.evaluate.shards import Shards
    from oodml.evaluate.streaming import evaluate_shards, parse_memory
    from oodml.ray_cluster import spread_on_ray

    names = ["protocol", "exclude", "qrels", "write_run", "write_qrels", "open_set"]
    names += ["distractors", "index", "skip_unlabeled"]
    needs_memory = {f"--{name.replace('_', '-')}": getattr(given, name) for name in names} | {
        "--by": given.by != "class",
        "--vector-column": given.column,
        "--label-column": given.labels,
        "--n-queries": given.n_queries is not None and given.gallery is not None,
    }
    for flag in (flag for flag, value in needs_memory.items() if value):
        raise OodmlError(f"{flag} needs all vectors in one file that fits into memory", flag, flag)
    queries = None if given.gallery is None else oodml.VectorSet.load(given.vectors)
    options = {name: getattr(given, name) for name in ("n_queries", "distance", "average", "seed")}
    options |= {"memory": parse_memory(given.memory), "ks": tuple(given.k or (1, 2, 4, 8))}
    files, options["device"] = given.gallery or given.vectors, given.device
    if given.on == "local":
        resolve_device(given.device)
        return evaluate_shards(queries, Shards(files), **options)
    if given.on != "ray" and not given.on.startswith("ray://"):
        raise unknown("executor", given.on, ("local", "ray", "ray://HOST:PORT"), "--on")
    with spread_on_ray(given.on, given.device) as spread:
        return evaluate_shards(queries, Shards(files, spread), **options)


def _show(result: "Evaluation", given: Any) -> None:
    import typer

    from oodml.files import replacing

    if given.per_class is not None:
        with replacing(given.per_class) as temporary:
            result.per_class.to_csv(temporary, index=False)
    for note in result.notes:
        typer.secho(note, fg="yellow", err=True)
    sizes, metrics, intervals = result.sizes, result.metrics, result.intervals
    name = "run" if given.vectors is None else given.vectors.name
    counts = [f"{count} {what}" for what, count in sizes.items()]
    if "vectors" in sizes:
        counts = [f"{sizes['vectors']} vectors of {sizes['dimensions']} dimensions"]
        counts.append(f"{sizes['classes']} classes")
    rows = [
        (
            metric,
            f"{value:.4f}",
            *(["{:.4f} … {:.4f}".format(*intervals[metric])] if intervals else []),
            f"{result.chance[metric]:.4f}" if metric in result.chance else "",
        )
        for metric, value in metrics.items()
        if metric not in ("queries", "singletons")
    ]
    heads = ("metric", "value", *["95% interval"] * bool(intervals), "chance")
    title = f"{metrics['queries']:.0f} queries"
    if metrics["singletons"]:
        title += f"; {metrics['singletons']:.0f} without a positive are excluded"
    files = given.vectors is not None and given.vectors.is_file()
    keys = ("answer", "notes", "sizes", "metrics", "chance", "intervals")
    shared.show(
        [result.answer, f"{name}: {', '.join(counts)}"],
        shared.Table(title, heads, rows),
        next=("threshold", given.vectors, "--out", "threshold.json") if files else (),
        json={key: getattr(result, key) for key in keys},
    )


def _show_index_errors(
    queries: "oodml.VectorSet", gallery: "oodml.VectorSet | None", given: Any
) -> None:
    from oodml.evaluate.index import index_errors

    options = {"ks": given.k or (1, 2, 4, 8), "distance": given.distance, "seed": given.seed}
    table = index_errors(queries, given.index, gallery, **options).to_dict("records")
    rows = [
        (f"{row['k']}", *(f"{row[name]:.4f}" for name in ("exact", "index", "lost", "gained")),
         f"{100 * row['loss']:.1f} ({100 * row['low']:.1f}…{100 * row['high']:.1f})")
        for row in table
    ]  # fmt: skip
    k, exact, lost = (table[0][name] for name in ("k", "exact", "lost"))
    failures = 1 - exact + lost
    sentence = f"The index loses {100 * table[0]['loss']:.1f} points of Recall@{k} to exact search."
    if failures > 0:
        sentence += (
            f" Of the failures, {(1 - exact) / failures:.0%} are the model's (exact search fails, "
            f"too), and {lost / failures:.0%} the index's."
        )
    heads = ("k", "exact", "index", "lost", "gained", "points lost (95%)")
    shared.show(
        sentence,
        shared.Table(f"recall@k with {given.index.name}", heads, rows),
        next=("index", given.gallery or given.vectors, "--effort", 128, "--out", "better.faiss"),
        json=table,
    )


@shared.with_groups
def compare(
    a: shared.Vectors,
    b: shared.Vectors,
    reader: shared.VectorReader,
    metric: Annotated[Words, many("Metrics (default: recall@1,map@r,map).")] = None,
    distance: shared.Distance = "cosine",
    confidence: Annotated[float, option("Confidence level of the interval.")] = 0.95,
    resamples: Annotated[int, option("Number of resamples of the classes.")] = 10_000,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
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

    first, second = reader.read(a, b)
    second = align_by_id(first, second, str(a), str(b))
    options: dict[str, Any] = {"distance": distance, "seed": seed, "lists": query_lists(first)}
    options |= {"resamples": resamples, "confidence": confidence}
    options["metrics"] = tuple(metric or ("recall@1", "map@r", "map"))
    compared = oodml.compare(first.vectors, second.vectors, first.labels, **options)
    rows = [
        (one.metric, f"{one.a:.4f}", f"{one.b:.4f}", f"{one.difference:+.4f}",
         f"{one.low:+.4f} … {one.high:+.4f}", f"{one.probability:.1%}")
        for one in compared
    ]  # fmt: skip
    main = compared[0]
    better = "A" if main.difference >= 0 else "B"
    sure = "" if main.low > 0 or main.high < 0 else "not "
    shared.show(
        f"{better} has the higher {main.metric}, by {abs(main.difference):.4f}; the difference is "
        f"{sure}significant at {confidence:.0%}. A: {a}   B: {b}",
        shared.Table(
            "", ("metric", "A", "B", "A - B", f"{confidence:.0%} interval", "A is better"), rows
        ),
        next=("compress", a if better == "A" else b),
        json=[asdict(one) for one in compared],
    )
