"""`oodml report`: the answer of a study, as a page and as figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from oodml.report.folder import StudyFolder
    from oodml.vectors import VectorSet

TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Import your own code that the folder names; trust it.")
]


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")],
    paper: Annotated[
        bool, typer.Option(help="Also write figures and tables for a paper into DIR/report.")
    ] = True,
    trust_code: TrustCode = False,
) -> None:
    """Write a study's page, DIR/report.html, and figures and tables beside it.

    Example: `oodml report results/`
    """
    from oodml.report.write import write_report

    page = write_report(directory, paper=paper, trust_code=trust_code)
    typer.echo(f"The answer is in {page.resolve()}")


def forecast(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")],
    target: Annotated[
        str, typer.Option(help="Images without labels, or their features: folder or vector file.")
    ],
    metric: Annotated[str, typer.Option(help="What to forecast.")] = "recall@1",
    split: Annotated[
        str | None, typer.Option(help="Measure against this split's train classes.")
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Say what the methods of a study will score on images of unknown classes.

    Example: `oodml forecast results/ --target new_images/`
    """
    from oodml.report.folder import read_study
    from oodml.report.forecast import forecast_target, told

    folder = read_study(directory, trust_code=trust_code)
    found = forecast_target(folder, _features(target, folder, trust_code), metric, split)
    low, high = found.range
    typer.echo(
        f"Shift to the train classes of split {found.split}: {found.measure} {found.shift:.1f} "
        f"(the study's splits: {low:.1f} to {high:.1f})"
    )
    if found.outside:
        typer.echo("The target lies OUTSIDE the study's range: the forecast is a guess.")
    typer.echo(f"{'method':24}{metric:>10}   80% interval     95% interval")
    for row in found.methods.to_dict("records"):
        typer.echo(
            f"{row['method']:24}{row['expected']:10.3f}   "
            f"{row['low_80']:.3f} to {row['high_80']:.3f}   "
            f"{row['low_95']:.3f} to {row['high_95']:.3f}"
        )
    typer.echo(f"Expected to hold up best there: {found.methods.iloc[0]['method']}.")
    typer.echo(told(found.splits))
    if found.superclasses is not None:
        unseen = found.superclasses.best
        typer.echo(
            "A target unlike anything in the study may lie further off: of whole superclasses left "
            f"out, 80% needed ±{unseen['half_80']:.3f}."
        )


def _features(target: str, folder: "StudyFolder", trust_code: bool) -> "VectorSet":
    """The target's features, made as those were that the study's shift was measured on."""
    from oodml.vectors import SUFFIXES, VectorSet

    if target.endswith(SUFFIXES):
        return VectorSet.load(target)
    from oodml.datasets import open_images
    from oodml.embedding import embed
    from oodml.errors import OodmlError

    source = folder.features.source if folder.features else {}
    backbone = str(source.get("backbone", "lite0"))
    if ":" in backbone and not trust_code:
        raise OodmlError(
            f"the study's features come from code of your own, {backbone}, which is not imported: "
            "if you trust the folder, say --trust-code; or give the target's features as a file"
        )
    return embed(
        open_images(target),
        backbone,
        weights=_weights(str(source.get("weights", "own")), folder.shift_weights),
        image_size=None if source.get("image_size", "own") == "own" else int(source["image_size"]),
        augmentation=str(source.get("augmentation", "base")),
    )


def _weights(tag: str, file: str | None) -> str | None:
    """The weights that `weights_tag` gave this tag, from the file that the study names."""
    from oodml.embedding import weights_tag
    from oodml.errors import OodmlError

    for weights in (None, "none", file):
        if weights_tag(weights) == tag:
            return weights
    where = (
        "its plan.json names no file of them" if file is None else f"{file} is gone or holds others"
    )
    raise OodmlError(
        f"the study's features come from a network with weights of its own (content {tag}), and "
        f"{where}: put them there, or give the target's features as a file"
    )


COMMANDS = (report, forecast)
