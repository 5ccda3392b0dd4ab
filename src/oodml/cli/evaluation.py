"""`oodml evaluate` and `oodml compare`."""

import re
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import oodml
from oodml.cli import decisions, shared
from oodml.cli.shared import Count, Counts, File, Numbers, Text, Words, many, option, output
from oodml.errors import OodmlError, unknown

if TYPE_CHECKING:
    from oodml.evaluate.evaluation import Evaluation

ranking, benchmark = partial(option, panel="Ranking"), partial(option, panel="Benchmarks")
_SIZE = "Gallery size, index"
growth, folders = partial(option, panel=_SIZE), partial(option, panel="Folder of files")
source, open_sets = shared.source, partial(option, panel="Open set")
_SIZES = "Sizes of the gallery (default: up to 100 times all images)."
_EXCLUDE = "Leave out matches that share a column: same:camera."
_CUTOFFS = "1,2,4,8; by the rules of a benchmark 1,5,10,20"
_DISTRACTORS = "Vectors of other classes, for recall against the size of the gallery."
_TREC = "Write NAME.run, the 1000 nearest images, and NAME.qrels, the matches, in TREC format."
_READ = "vector_column label_column skip_unlabeled"
_FURTHER = r".*_published|precision@(?!1$).*|map@\d+|ami|int.*|density|align.*|rho@.*|unif.*|opis"
"""Metrics that are only in JSON, unless a protocol prints them."""
_MODES = {
    "--prompts": "prompts model k seed per_class",
    "a ranking in TREC format": "qrels k average per_class",
    "a folder of files or --n-queries": (
        "gallery n_queries memory device on k distance average seed per_class"
    ),
    "--index": f"index gallery k distance seed {_READ}",
    "--open-set": f"open_set threshold score far gallery distance seed figure {_READ}",
    "--distractors": f"distractors sizes gallery k distance seed figure {_READ}",
    "vectors alone": (
        "gallery k distance by average seed retrieval_only protocol exclude qrels write_trec "
        f"per_class {_READ}"
    ),
}
"""What is evaluated, and the options that it has."""


@dataclass(kw_only=True)
class EvaluateOptions(shared.VectorReader):
    """The options of `oodml evaluate`."""

    vectors: shared.Vectors
    gallery: shared.Gallery = None
    n_queries: Annotated[Count, source("Number of queries to sample.", min=1, unset="all")] = None
    model: Annotated[Text, source("Model: one with a text tower; VECTORS are then images.")] = None
    prompts: Annotated[File, source("Texts to search with: a CSV file of text and class.")] = None
    k: Annotated[Counts, shared.k_option(panel="Ranking", unset=_CUTOFFS)] = None
    by: Annotated[str, ranking("What matches share: class, superclass, or label.")] = "class"
    average: Annotated[str, ranking("Mean over queries (micro) or over classes (macro).")] = "micro"
    retrieval_only: Annotated[bool, ranking("Skip clustering and structure.")] = False
    per_class: Annotated[File, output("Write the metrics of each class to a CSV file.")] = None
    figure: shared.Figure = None
    open_set: Annotated[bool, open_sets("Evaluate how unknown classes are rejected.")] = False
    threshold: Annotated[File, open_sets("Threshold to apply: a file of `oodml threshold`.")] = None
    score: decisions.Score = "nearest"
    far: Annotated[Numbers, many(decisions.FAR, float, panel="Open set", unset="0.01,0.1")] = None
    distractors: Annotated[File, growth(_DISTRACTORS, callback=shared.named_vectors)] = None
    sizes: Annotated[Counts, many(_SIZES, shared.whole, panel=_SIZE)] = None
    index: Annotated[File, growth("A faiss index of the gallery, to compare with.")] = None
    protocol: Annotated[Text, benchmark("Rules and metrics: market1501, sop, gldv2, ….")] = None
    exclude: Annotated[Words, many(_EXCLUDE, panel="Benchmarks")] = None
    qrels: Annotated[File, benchmark("Matches (TREC); -1 is junk.", unset="by class")] = None
    write_trec: Annotated[File, benchmark(_TREC)] = None
    memory: Annotated[str, folders("Memory for the vectors in use.")] = "2GB"
    device: Annotated[str, folders("Device: cpu or cuda.")] = "cpu"
    on: Annotated[str, folders("Where to run: local, ray, or ray://HOST:PORT.")] = "local"


def evaluate(given: EvaluateOptions) -> None:
    """Compute every retrieval and clustering metric with its chance level, and the structure.

    Protocols: market1501, veri, msmt17, sop, inshop, inaturalist, gldv2, wildlife. With --exclude
    same:camera, images of the query's class and camera are not ranked; also time, location, and
    sequence. --by label matches images that share one of several labels, as in "cat|dog". With
    --qrels, VECTORS is also a ranking of any program in TREC format.

    A folder of files is read in chunks and need not fit into memory. Sampled queries have 95%
    intervals. A model is, for example, open_clip:ViT-B-32/openai, with --prompts.

    Example: `oodml evaluate test.npz --per-class classes.csv`
    """
    vectors, gallery, trec = given.vectors, given.gallery, given.write_trec
    written = [trec.with_name(f"{trec.name}.{kind}") for kind in ("run", "qrels")] if trec else []
    inputs = (given.threshold, given.distractors, given.qrels)
    shared.check_outputs((given.per_class, given.figure, *written), vectors, gallery, *inputs)
    mode = _find_mode(given)
    if mode in _OTHER_INPUT:
        _show(_OTHER_INPUT[mode](given), given)
        return
    rows, searched, others = given.read(vectors, gallery, given.distractors, note=False)
    if mode == "--index":
        _show_index_errors(rows, searched, given)
    elif mode == "--open-set":
        decisions.show_open_set(rows, searched, given)
    elif mode == "--distractors":
        decisions.show_sizes(rows, searched, others, given)
    else:
        _show(_evaluate_vectors(rows, searched, given, written), given)


def _find_mode(given: EvaluateOptions) -> str:
    """What is evaluated; options that do not apply to it are refused."""
    from oodml.vector_files import READABLE

    vectors, gallery = given.vectors, given.gallery
    signs = {
        "--prompts": given.prompts or given.model,
        "a ranking in TREC format": given.qrels and vectors.suffix.lower() not in READABLE,
        "a folder of files or --n-queries": given.n_queries is not None
        or any(one and one.is_dir() for one in (vectors, gallery)),
        "--index": given.index,
        "--open-set": given.open_set,
        "--distractors": given.distractors,
    }
    mode = next((name for name, sign in signs.items() if sign), "vectors alone")
    allowed = ["vectors", "as_json", *_MODES[mode].split()]
    for one in fields(given):
        if one.name not in allowed and getattr(given, one.name) != one.default:
            flags = [f"--{name.replace('_', '-')}" for name in (one.name, *allowed[2:])]
            others = [name for name, options in _MODES.items() if one.name in options.split()]
            problem = f"{flags[0]} does not apply to {mode}, only to {' and '.join(others)}"
            raise OodmlError(problem, flags[0], getattr(given, one.name), flags[1:])
    return mode


def _evaluate_vectors(
    queries: "oodml.VectorSet", gallery: "oodml.VectorSet | None", given: Any, written: list[Path]
) -> "Evaluation":
    """The evaluation by classes; or by the rules of a benchmark if options or columns ask it."""
    from oodml.evaluate.evaluation import evaluate_vectors
    from oodml.evaluate.judged import evaluate_judged, uses_columns
    from oodml.evaluate.trec import read_qrels

    options = {name: getattr(given, name) for name in ("distance", "average", "seed")}
    rules = (given.protocol, given.exclude, given.qrels, written)
    if not (any(rules) or given.by == "label" or uses_columns(queries, gallery)):
        options |= {"by": given.by, "retrieval_only": given.retrieval_only}
        return evaluate_vectors(queries, gallery, ks=given.k or (1, 2, 4, 8), **options)
    if given.by == "superclass":
        problem = "--by superclass: the rules of benchmarks apply to classes"
        raise OodmlError(problem, "--by", given.by, ("class", "label"))
    if given.protocol and given.k:
        raise OodmlError("--k: a protocol has its own cut-offs", "--k", given.k)
    options |= {"ks": given.k or (1, 5, 10, 20), "protocol": given.protocol}
    options |= {"qrels": given.qrels and read_qrels(given.qrels)}
    options |= {"exclude": tuple(map(_excluded_column, given.exclude or ()))}
    options |= zip(("run_file", "qrels_file"), written, strict=False)
    return evaluate_judged(queries, gallery, shared_label=given.by == "label", **options)


def _excluded_column(text: str) -> str:
    from oodml.vector_columns import ATTRIBUTES

    allowed = [f"same:{name}" for name in ATTRIBUTES if name not in ("junk", "relevance")]
    if text not in allowed:
        raise unknown("value", text, allowed, "--exclude")
    return text.removeprefix("same:")


def _evaluate_text(given: Any) -> "Evaluation":
    from oodml.catalog import make_importable
    from oodml.text_queries import evaluate_prompts

    if given.prompts is None or given.model is None:
        problem = "text search needs --model and --prompts, a CSV file with columns text and class"
        raise OodmlError(problem, "--prompts")
    make_importable(Path.cwd())
    ks = tuple(given.k or (1, 2, 4, 8))
    return evaluate_prompts(str(given.vectors), given.model, given.prompts, ks=ks, seed=given.seed)


def _evaluate_ranking(given: Any) -> "Evaluation":
    from oodml.evaluate.judged import evaluate_run
    from oodml.evaluate.trec import read_qrels, read_run

    files = read_run(given.vectors), read_qrels(given.qrels)
    return evaluate_run(*files, ks=given.k or (1, 5, 10, 20), average=given.average)


def _evaluate_shards(given: Any) -> "Evaluation":
    from oodml.devices import resolve_device
    from oodml.evaluate.shards import Shards
    from oodml.evaluate.streaming import evaluate_shards, parse_memory
    from oodml.ray_cluster import spread_on_ray

    if given.n_queries is not None and given.gallery is not None:
        problem = "--n-queries samples the queries of one file or folder; it has no --gallery"
        raise OodmlError(problem, "--n-queries", given.n_queries)
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


_OTHER_INPUT = {
    "--prompts": _evaluate_text,
    "a ranking in TREC format": _evaluate_ranking,
    "a folder of files or --n-queries": _evaluate_shards,
}


def _show(result: "Evaluation", given: Any) -> None:
    import typer

    from oodml.files import replacing

    if given.per_class is not None:
        with replacing(given.per_class) as temporary:
            result.per_class.to_csv(temporary, index=False)
    for note in result.notes:
        typer.secho(note, fg="yellow", err=True)
    sizes, metrics, intervals = result.sizes, result.metrics, result.intervals
    vectors = given.vectors
    title = f"{metrics['queries']:.0f} queries"
    if metrics["singletons"]:
        title += f"; {metrics['singletons']:.0f} without a positive are excluded"
    rows = [
        (name, f"{value:.4f}", *(["{:.4f} … {:.4f}".format(*intervals[name])] if intervals else []),
         f"{result.chance[name]:.4f}" if name in result.chance else "")
        for name, value in metrics.items()
        if name not in ("queries", "singletons")
    ]  # fmt: skip
    heads = ("metric", "value", *["95% interval"] * bool(intervals), "chance")
    counts = [f"{count} {what}" for what, count in sizes.items()]
    if "vectors" in sizes:
        counts = [f"{sizes['vectors']} vectors of {sizes['dimensions']} dimensions"]
        counts.append(f"{sizes['classes']} classes")
    main = [row for row in rows if given.protocol or not re.fullmatch(_FURTHER, row[0])]
    further = f"--json prints {len(rows) - len(main)} further metrics."
    following: tuple[object, ...] = ("threshold", vectors, "--out", "threshold.json")
    if given.model is not None:
        following = ("embed", "--data", vectors, "--model", given.model, "--out", "vectors.npz")
    elif vectors.is_dir():
        following = ("evaluate", "queries.npz", "--gallery", vectors)
    elif "vectors" not in sizes:
        following = ("evaluate", "OTHER", "--qrels", given.qrels)
    keys = ("answer", "notes", "sizes", "metrics", "chance", "intervals")
    shared.show(
        [result.answer, f"{vectors.name}: {', '.join(counts)}", *[further] * (main != rows)],
        shared.Table(title, heads, main),
        next=following,
        json={key: getattr(result, key) for key in keys},
    )


def _show_index_errors(
    queries: "oodml.VectorSet", gallery: "oodml.VectorSet | None", given: Any
) -> None:
    from oodml.evaluate.index import index_errors

    options = {"ks": given.k or (1, 2, 4, 8), "distance": given.distance, "seed": given.seed}
    table = index_errors(queries, given.index, gallery, **options).to_dict("records")
    k, exact, lost = (table[0][name] for name in ("k", "exact", "lost"))
    failures = 1 - exact + lost
    sentence = f"The index loses {100 * table[0]['loss']:.1f} points of Recall@{k} to exact search."
    if failures > 0:
        sentence += (
            f" Of the failures, {(1 - exact) / failures:.1%} are the model's (exact search fails, "
            f"too), and {lost / failures:.1%} the index's."
        )
    rows = [
        (f"{row['k']}", *(f"{row[name]:.4f}" for name in ("exact", "index", "lost", "gained")),
         "{:.1f} ({:.1f}…{:.1f})".format(*(100 * row[name] for name in ("loss", "low", "high"))))
        for row in table
    ]  # fmt: skip
    heads = ("k", "exact", "index", "lost", "gained", "points lost (95%)")
    larger = ("--type", "hnsw", "--effort", 128)
    shared.show(
        sentence,
        shared.Table(f"recall@k with {given.index.name}", heads, rows),
        next=("index", given.gallery or given.vectors, *larger, "--out", "better.faiss"),
        json=table,
    )


def compare(
    a: shared.Vectors,
    b: shared.Vectors,
    reader: shared.VectorReader,
    metric: Annotated[Words, shared.metrics_option(unset="recall@1,map@r,map")] = None,
    confidence: Annotated[float, option("Confidence level of the interval.")] = 0.95,
    resamples: shared.Resamples = 10_000,
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
    options: dict[str, Any] = {"distance": reader.distance, "seed": reader.seed}
    options |= {"resamples": resamples, "confidence": confidence, "lists": query_lists(first)}
    options["metrics"] = tuple(metric or ("recall@1", "map@r", "map"))
    compared = oodml.compare(first.vectors, second.vectors, first.labels, **options)
    columns = {"metric": "{metric}", "A": "{a:.4f}", "B": "{b:.4f}", "A - B": "{difference:+.4f}"}
    columns |= {f"{confidence:.0%} interval": "{low:+.4f} … {high:+.4f}"}
    columns |= {"P(A is better)": "{probability:.1%}"}
    records, main = [asdict(one) for one in compared], compared[0]
    better = "A" if main.difference >= 0 else "B"
    sure = "" if main.low > 0 or main.high < 0 else "not "
    shared.show(
        f"{better} has the higher {main.metric}, by {abs(main.difference):.4f}; the difference is "
        f"{sure}significant at {confidence:.0%}. A: {a}   B: {b}",
        shared.Table.of(records, columns),
        next=("evaluate", a if better == "A" else b, "--per-class", "classes.csv"),
        json=records,
    )
