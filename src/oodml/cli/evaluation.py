"""`oodml evaluate`, `oodml compare`, `oodml index`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

VECTORS = typer.Argument(help="Vectors: .npz, .safetensors, .parquet, or .npy with a .csv beside.")
DISTANCE = typer.Option(help="cosine, or euclidean on the vectors as they are.")
SEED = typer.Option(help="Of ties, k-means and resamples.")
JSON = typer.Option("--json", help="Print JSON instead of a table.")


def evaluate(
    vectors: Annotated[Path, VECTORS],
    gallery: Annotated[
        Path | None, typer.Option(help="Vectors to search instead; may hold further classes.")
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option(help="Cut-off of recall and precision; repeat for more.")
    ] = None,
    distance: Annotated[str, DISTANCE] = "cosine",
    by: Annotated[str, typer.Option(help="What is right: class or superclass.")] = "class",
    average: Annotated[str, typer.Option(help="micro (queries) or macro (classes).")] = "micro",
    seed: Annotated[int, SEED] = 0,
    restarts: Annotated[int, typer.Option(help="Of k-means; the best is kept.")] = 1,
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="No clustering, no structure.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
    per_class: Annotated[
        Path | None, typer.Option(help="Write the metrics of each class to this CSV file.")
    ] = None,
) -> None:
    """Every retrieval, clustering and structure metric of vectors, beside the chance level.

    Example: `oodml evaluate test.npz --per-class classes.csv`
    """
    from math import isfinite

    import oodml
    from oodml.evaluate.summary import evaluation

    queries = oodml.VectorSet.load(vectors)
    result = evaluation(
        queries,
        None if gallery is None else oodml.VectorSet.load(gallery),
        ks=tuple(k or (1, 2, 4, 8)),
        distance=distance,
        by=by,
        average=average,
        seed=seed,
        restarts=restarts,
        retrieval_only=retrieval_only,
    )
    if per_class is not None:
        from oodml.files import replacing

        with replacing(per_class) as temporary:
            result.per_class.to_csv(temporary, index=False)
    if as_json:
        values = {
            name: value if isfinite(value) else None for name, value in result.metrics.items()
        }
        _print_json({"metrics": values, "chance": result.chance})
        return
    rows = [
        (name, f"{value:.4f}", f"{result.chance[name]:.4f}" if name in result.chance else "")
        for name, value in result.metrics.items()
        if name not in ("queries", "singletons")
    ]
    counts = f"{result.metrics['queries']:.0f} queries"
    if result.metrics["singletons"]:
        counts += f"; {result.metrics['singletons']:.0f} without a positive are left out"
    _print_table(f"{vectors.name}: {counts}", ("metric", "value", "chance"), rows)


def compare(
    a: Annotated[Path, typer.Argument(help="Vectors of one model.")],
    b: Annotated[Path, typer.Argument(help="Vectors of another of the same images (ids).")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric, as `oodml evaluate` names it; repeatable."),
    ] = None,
    distance: Annotated[str, DISTANCE] = "cosine",
    confidence: Annotated[float, typer.Option(help="Of the interval.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Draws of classes.")] = 10_000,
    seed: Annotated[int, SEED] = 0,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Which of two models is better on the same images, by how much, and how sure that is.

    Classes are resampled, not images, and both models are scored on the same draws.

    Example: `oodml compare margin.npz arcface.npz --metric recall@1`
    """
    from dataclasses import asdict

    import oodml
    from oodml.evaluate.summary import aligned

    first = oodml.VectorSet.load(a)
    second = aligned(first, oodml.VectorSet.load(b), str(a), str(b))
    compared = oodml.compare(
        first.vectors,
        second.vectors,
        first.labels,
        metrics=tuple(metric or ("recall@1", "map@r", "map")),
        distance=distance,
        seed=seed,
        resamples=resamples,
        confidence=confidence,
    )
    if as_json:
        _print_json([asdict(one) for one in compared])
        return
    rows = [
        (
            one.metric,
            f"{one.a:.4f}",
            f"{one.b:.4f}",
            f"{one.difference:+.4f}",
            f"{one.low:+.4f} … {one.high:+.4f}",
            f"{one.probability:.1%}",
        )
        for one in compared
    ]
    heads = ("metric", "A", "B", "A - B", f"{confidence:.0%} interval", "A is better")
    _print_table(f"A: {a}   B: {b}", heads, rows)


def index(
    vectors: Annotated[Path, VECTORS],
    out: Annotated[Path, typer.Option(help="File of the index; ids go to NAME.ids.csv beside.")],
    kind: Annotated[str, typer.Option(help="flat (exact), ivf or hnsw.")] = "flat",
    distance: Annotated[str, DISTANCE] = "cosine",
    effort: Annotated[
        int | None, typer.Option(help="Lists searched (ivf, 16) or candidates kept (hnsw, 64).")
    ] = None,
    seed: Annotated[int, SEED] = 0,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write a faiss index for production, and say what it loses against exact search.

    Example: `oodml index gallery.npz --kind hnsw --out gallery.faiss`
    """
    from dataclasses import asdict

    import oodml
    from oodml.evaluate.index import write_index

    report = write_index(
        oodml.VectorSet.load(vectors),
        out,
        kind=kind,
        distance=distance,
        effort=effort,
        seed=seed,
    )
    if as_json:
        _print_json(asdict(report))
        return
    typer.echo(
        f"{out}: {report.kind} index of {report.vectors} vectors of {report.dimensions} "
        f"dimensions; ids in {out.with_suffix('.ids.csv').name}\n"
        f"Of the {report.k} exact nearest neighbours it finds {report.found:.2%}; "
        f"Recall@1 {report.recall:.4f}, exact {report.exact_recall:.4f} ({report.queries} queries)"
    )


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


def _print_table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for position, head in enumerate(heads):
        table.add_column(head, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


COMMANDS = (evaluate, compare, index)
