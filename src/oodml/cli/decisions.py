"""`oodml threshold`, and what `oodml evaluate` prints about decisions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oodml.cli import shared
from oodml.cli.shared import option

if TYPE_CHECKING:
    from oodml.vectors import VectorSet

SCORE = option("Score of known classes: nearest, margin, density, or energy.")
FIGURE = option("Write a figure to this PNG file.")


def threshold(
    vectors: shared.Vectors,
    out: Annotated[Path, option("File of the threshold (JSON).")],
    far: Annotated[float, option("Share of unknown queries to accept (false-accept rate).")] = 0.01,
    gallery: Annotated[
        Path | None,
        option(
            "Vectors to search in; queries of other classes are unknown. By default, each "
            "image searches the others with its own class left out."
        ),
    ] = None,
    mode: Annotated[
        str, option("identification, or pairs to accept pairs of images.")
    ] = "identification",
    score: Annotated[str, SCORE] = "nearest",
    conformal: Annotated[
        bool,
        option(
            "Use the threshold with the guaranteed rate; needs 1/far − 1 classes.", "--conformal"
        ),
    ] = False,
    distance: shared.Distance = "cosine",
    seed: shared.Seed = 0,
    figure: Annotated[Path | None, FIGURE] = None,
    as_json: shared.Json = False,
    column: shared.Column = None,
    labels: shared.Labels = None,
    skip_unlabeled: shared.SkipUnlabeled = False,
) -> None:
    """Choose the threshold that accepts a given share of queries of unknown classes.

    Use vectors of classes that the model was not trained on.

    Example: `oodml threshold valid.npz --far 0.05 --out threshold.json`
    """
    from dataclasses import asdict, replace

    from oodml.decisions.threshold import choose_threshold, score_queries
    from oodml.errors import error_at

    for output in (out, figure):
        shared.check_output(output, vectors, gallery)
    read = shared.vector_reader(column, labels, skip_unlabeled)
    queries, searched = read(vectors), read(gallery)
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

        scored, _ = score_queries(queries, **options)
        threshold_figure(scored, chosen.threshold, figure)
    if as_json:
        shared.print_json(asdict(chosen))
        return
    typer.echo(
        f"{out}: accept from {chosen.threshold:.4f} (95% interval over classes {chosen.low:.4f} … "
        f"{chosen.high:.4f}).\nOf {chosen.images} unknown queries of {chosen.classes} classes, "
        f"{far:.2%} are accepted; of the known, {chosen.tar:.1%} ({chosen.tar_low:.1%} … "
        f"{chosen.tar_high:.1%})."
    )
    if chosen.conformal is None:
        typer.echo("No threshold guarantees this rate for a new class with so few classes.")
    else:
        typer.echo(
            f"From {chosen.conformal:.4f}, an image of a new class is accepted with a probability "
            f"of at most {far:g} if the new class is exchangeable with these."
        )


def evaluate_open_set(
    queries: "VectorSet",
    gallery: "VectorSet | None",
    threshold: Path | None,
    score: str,
    fars: list[float] | None,
    distance: str,
    seed: int,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Print the open-set metrics of queries; without a gallery, half of the classes form it."""
    from oodml.decisions.open_set import gallery_scores, open_set_metrics, withheld_scores
    from oodml.decisions.threshold import Threshold, score_pairs
    from oodml.evaluate.structure import structure_metrics

    chosen = None if threshold is None else Threshold.load(threshold)
    if chosen is not None:
        score, distance = chosen.score, chosen.distance
    if chosen is not None and chosen.mode == "pairs":
        scored, _ = score_pairs(queries, distance, seed)
    elif gallery is None:
        scored = withheld_scores(queries, score, distance, seed)
    else:
        scored = gallery_scores(queries, gallery, score, distance)
    limit = None if chosen is None else chosen.threshold
    values = open_set_metrics(scored, fars or (0.01, 0.1), limit)
    values["opis"] = structure_metrics(queries.vectors, queries.labels)["opis"]
    if figure is not None:
        from oodml.report.decision_figures import threshold_figure

        threshold_figure(scored, limit, figure)
    counts = int(scored.known.sum()), int((~scored.known).sum())
    if as_json:
        shared.print_json({"known": counts[0], "unknown": counts[1], "metrics": values})
        return
    title = f"{counts[0]} known and {counts[1]} unknown queries"
    rows = [(name, f"{value:.4f}") for name, value in values.items()]
    shared.print_table(title, ("metric", "value"), rows)


def evaluate_sizes(
    queries: "VectorSet",
    gallery: "VectorSet | None",
    distractors: "VectorSet",
    sizes: str,
    ks: list[int] | None,
    distance: str,
    seed: int,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Print Recall@k against the size of the gallery."""
    from oodml.decisions.gallery_size import count_distractors, extrapolate

    growth = count_distractors(queries, distractors, gallery, distance, seed)
    most = growth.base + growth.pool
    chosen = _numbers("--sizes", sizes) or [growth.base, most, 10 * most, 100 * most]
    tables = {k: extrapolate(growth, chosen, k, seed) for k in ks or (1,)}
    if figure is not None:
        from oodml.report.decision_figures import growth_figure

        growth_figure(tables, figure)
    rows = [{"k": k, **row} for k, table in tables.items() for row in table.to_dict("records")]
    if as_json:
        shared.print_json(rows)
        return
    title = f"{len(growth.closer)} queries; up to {most} gallery images are exact"
    lines = [
        (f"{row['size']:,}", f"{row['k']}", f"{row['recall']:.4f}",
         f"{row['low']:.4f} … {row['high']:.4f}",
         "extrapolated, 80%" if row["extrapolated"] else "exact, 95%")
        for row in rows
    ]  # fmt: skip
    shared.print_table(title, ("gallery size", "k", "recall@k", "interval", ""), lines)


def compress(
    vectors: shared.Vectors,
    fit: Annotated[
        Path | None,
        option(
            "Vectors of training classes to fit codes on. By default, half of the classes "
            "are used for fitting, and the other half is evaluated."
        ),
    ] = None,
    dims: Annotated[str, option("Numbers of dimensions, such as 256,128,64.")] = "",
    reduce: Annotated[str, option("truncate (Matryoshka embeddings) or pca.")] = "truncate",
    precision: Annotated[str, option("Of float16, int8, and binary.")] = "float16,int8,binary",
    pq: Annotated[str, option("Bytes per vector of product quantization, such as 16,32.")] = "",
    opq: Annotated[str, option("The same after a learned rotation.")] = "",
    rescore: Annotated[
        int,
        option(
            "Search this many times as many neighbors by binary codes, and sort them by "
            "int8 vectors; 0 for none.",
            min=0,
        ),
    ] = 4,
    k: Annotated[list[int] | None, option("Cut-off of recall; may be repeated.")] = None,
    distance: shared.Distance = "cosine",
    seed: shared.Seed = 0,
    figure: Annotated[Path | None, FIGURE] = None,
    as_json: shared.Json = False,
    column: shared.Column = None,
    labels: shared.Labels = None,
    skip_unlabeled: shared.SkipUnlabeled = False,
) -> None:
    """Find out what smaller vectors cost: fewer dimensions, lower precision, or quantization.

    Example: `oodml compress vectors.npz --fit train.npz --dims 256,128 --pq 32`
    """
    from oodml.analysis.formatting import format_points
    from oodml.decisions.compression import compress as compress_vectors

    shared.check_output(figure, vectors, fit)
    read = shared.vector_reader(column, labels, skip_unlabeled)
    rows, others = read(vectors), read(fit)
    shared.print_skipped(*filter(None, (rows, others)))
    table = compress_vectors(
        rows,
        others,
        dims=_numbers("--dims", dims),
        reduce=reduce,
        precision=[name.strip() for name in precision.split(",") if name.strip()],
        pq=_numbers("--pq", pq),
        opq=_numbers("--opq", opq),
        rescore=rescore,
        ks=tuple(k or (1, 8)),
        distance=distance,
        seed=seed,
    )
    if figure is not None:
        from oodml.report.decision_figures import compression_figure

        compression_figure(table, figure)
    if as_json:
        shared.print_json(table.to_dict("records"))
        return
    metrics = [name.removesuffix("_loss") for name in map(str, table) if name.endswith("_loss")]
    lines = [
        (row["code"], f"{row['bytes']:.0f}", *(f"{row[name]:.4f}" for name in metrics),
         "{} ({}…{})".format(*(format_points(row[f"{metrics[0]}_{part}"])
                                 for part in ("loss", "low", "high"))))
        for row in table.to_dict("records")
    ]  # fmt: skip
    heads = ("stored as", "bytes", *metrics, f"points lost of {metrics[0]} (95%)")
    shared.print_table("", heads, lines)


def test_drift(
    index: str | None,
    files: list[Path],
    seed: int,
    fail_above: float | None,
    page: Path | None,
    data: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Print the drift of files of new vectors; exit with status 1 if one is above the limit."""
    from dataclasses import replace

    from oodml.analysis.formatting import format_points
    from oodml.decisions.drift import drift
    from oodml.errors import OodmlError
    from oodml.forecasting.target import forecast_changes
    from oodml.report.folder import read_folder
    from oodml.vectors import VectorSet

    if index is None or not files:
        raise OodmlError("--test needs two or more files of vectors", location="--test")
    shared.check_output(page, Path(index), *files)
    known = VectorSet.load(index, labels="")
    new = {file.name: VectorSet.load(file, labels="") for file in files}
    results = {name: drift(known, vectors, seed) for name, vectors in new.items()}
    if model is not None:
        results_folder, colon, method = model.rpartition(":")
        if not colon:
            raise OodmlError(f"--model {model}: expected RESULTS:METHOD", "--model", model)
        changes = forecast_changes(read_folder(results_folder), method, known, new, seed)
        results = {name: replace(one, change=changes[name]) for name, one in results.items()}
    if page is not None:
        from oodml.datasets import open_images
        from oodml.report.decision_figures import write_drift_page

        write_drift_page(
            page, Path(index).name, results, None if data is None else open_images(data)
        )
    if as_json:
        shared.print_json({name: result.as_dict() for name, result in results.items()})
    else:
        rows = [
            (name, f"{one.value:.3f}", f"{one.p:.3g}",
             f"{len(one.clusters)} ({sum(map(len, one.clusters))} images)", one.verdict)
            for name, one in results.items()
        ]  # fmt: skip
        heads = ("file", "drift", "p", "new clusters", "")
        shared.print_table(f"against {Path(index).name}", heads, rows)
        for name, one in results.items():
            if one.change is not None:
                change, low, high = (format_points(value, sign=True) for value in one.change)
                typer.echo(
                    f"{name}: Recall@1 of {model} is expected to change by {change} points "
                    f"(80% interval {low} to {high})."
                )
    if fail_above is not None and any(one.value > fail_above for one in results.values()):
        raise typer.Exit(1)


def _numbers(option: str, text: str) -> list[int]:
    from oodml.errors import OodmlError

    try:
        return [int(float(part)) for part in text.split(",") if part.strip()]
    except ValueError as error:
        problem = f"{option} {text}: not a list of numbers such as 64,32"
        raise OodmlError(problem, option, text) from error


COMMANDS = (threshold, compress)
