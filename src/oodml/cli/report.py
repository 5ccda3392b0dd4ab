"""`oodml report` and `oodml forecast`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oodml.errors import OodmlError

if TYPE_CHECKING:
    from oodml.report.folder import StudyFolder
    from oodml.report.forecast import TargetForecast
    from oodml.vectors import VectorSet

TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Import user code that the folder names. Runs that code."),
]
StudyDirectory = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder of a study, or a pack (.zip).")
]


def report(
    directory: StudyDirectory,
    paper: Annotated[
        bool, typer.Option(help="Also write figures and tables for a paper into DIR/report.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write to this folder instead of DIR; for a pack, NAME of NAME.zip by default."
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric of the figures, of the LaTeX tables, and printed.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods to compare, separated by commas (default: all).")
    ] = "",
    formats: Annotated[
        str, typer.Option("--format", help="Formats of the figures: png, pdf, svg.")
    ] = "png,pdf",
    width: Annotated[
        str,
        typer.Option(help="Width of the figures: auto, or column or text of a two-column paper."),
    ] = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Write the report page of a study, with figures and tables.

    Example: `oodml report results/ --metric map@r --format pdf --width column`
    """
    from oodml.report.write import write_report
    from oodml.share.pack import study_folder

    with study_folder(directory) as folder:
        target = directory.with_suffix("") if out is None and folder != directory else out
        result = write_report(
            folder,
            paper=paper,
            trust_code=trust_code,
            out=target,
            metric=metric,
            selected=[name for name in methods.split(",") if name],
            formats=formats.split(","),
            width=width,
        )
    if result.folder.plan.smoke:
        typer.echo("Smoke test: these numbers are not results.")
    for sentence in (result.answer.headline, *result.answer.details):
        typer.echo(sentence)
    typer.echo(f"Report: {result.page.resolve()}")


def forecast(
    directory: StudyDirectory,
    target: Annotated[
        str, typer.Option(help="A folder of unlabeled images, or a vector file of their features.")
    ],
    metric: Annotated[str, typer.Option(help="The metric to forecast.")] = "recall@1",
    split: Annotated[
        str | None, typer.Option(help="Measure shift to the training classes of this split.")
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Forecast what the methods of a study will score on images of unknown classes.

    Example: `oodml forecast results/ --target new_images/`
    """
    from oodml.report.folder import read_folder
    from oodml.report.forecast import forecast_target
    from oodml.share.pack import study_folder

    with study_folder(directory) as path:
        folder = read_folder(path, trust_code=trust_code)
    if folder.plan.smoke:
        typer.echo("Smoke test: these numbers are not results.")
    features = _target_features(target, folder, trust_code)
    typer.echo(_format_forecast(forecast_target(folder, features, metric, split), metric))


def _format_forecast(forecast: "TargetForecast", metric: str) -> str:
    from oodml.analysis.forecast import separated_forecast
    from oodml.analysis.formatting import format_points
    from oodml.analysis.target_shift import MEASURE_LABELS
    from oodml.evaluate.registry import find_metric
    from oodml.report.forecast import describe_left_out

    low, high = forecast.range
    label = find_metric(metric).label
    lines = [
        f"Shift to the training classes of split {forecast.split}, by the "
        f"{MEASURE_LABELS[forecast.measure]}: {forecast.shift:.1f} "
        f"(splits of the study: {low:.1f} to {high:.1f})"
    ]
    if forecast.outside:
        lines.append("The target is OUTSIDE the range of the study; the forecast extrapolates.")
    names = forecast.methods["method"].tolist()
    width = max(24, *map(len, names))
    lines.append(f"{'method':{width}}{label:>12}   80% interval     95% interval")
    lines += [
        f"{row['method']:{width}}{row['expected']:12.3f}   "
        f"{row['low_80']:.3f} to {row['high_80']:.3f}   "
        f"{row['low_95']:.3f} to {row['high_95']:.3f}"
        for row in forecast.methods.to_dict("records")
    ]
    best = separated_forecast(forecast.methods)
    if best is not None:
        lines.append(f"Expected to score highest: {best}.")
    elif len(names) > 1:
        lines.append("The 80% intervals overlap: the forecast names no best method.")
    lines.append(describe_left_out(forecast.splits))
    if not forecast.splits.shift_helps:
        lines.append("The forecast is therefore the mean over the study's splits.")
    if forecast.superclasses is not None:
        half = format_points(float(forecast.superclasses.best["half_80"]))
        lines.append(
            "A target unlike anything in the study can deviate more: for left-out superclasses, "
            f"the 80% interval is ±{half} points."
        )
    return "\n".join(lines)


def _target_features(target: str, folder: "StudyFolder", trust_code: bool) -> "VectorSet":
    """The target's features, computed like those that the study's shift is measured on."""
    from oodml.vector_files import SUFFIXES
    from oodml.vectors import VectorSet

    if target.endswith(SUFFIXES):
        return VectorSet.load(target)
    from oodml.backbones import is_user_code
    from oodml.datasets import open_unlabeled
    from oodml.embedding import embed

    source = folder.features.source if folder.features else {}
    backbone = str(source.get("backbone", "lite0"))
    if is_user_code(backbone) and not trust_code:
        problem = (
            f"user code computed the study's features ({backbone}); it was not imported. If you "
            "trust the folder, pass --trust-code; otherwise pass the target's features as a file"
        )
        raise OodmlError(problem, "--trust-code", backbone)
    return embed(
        open_unlabeled(target),
        backbone,
        weights=_weights(str(source.get("weights", "own")), folder.plan.shift_weights),
        image_size=None if source.get("image_size", "own") == "own" else int(source["image_size"]),
        pooling=str(source.get("pooling", "avg")),
        augmentation=str(source.get("augmentation", "base")),
    )


def _weights(tag: str, file: str | None) -> str | None:
    """The weights with a tag of `weights_key`: the default, none, or the study's file."""
    from oodml.embedding import weights_key

    for weights in (None, "none", file):
        if weights_key(weights) == tag:
            return weights
    reason = (
        "plan.json does not name their file"
        if file is None
        else f"{file} is missing or has other contents"
    )
    problem = (
        f"the study's features were computed with custom weights (content {tag}), but {reason}. "
        "Restore the file, or pass the target's features as a file"
    )
    raise OodmlError(problem, file or "plan.json", tag)


COMMANDS = (report, forecast)
