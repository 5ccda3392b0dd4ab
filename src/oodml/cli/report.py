"""`oodml report`."""

from pathlib import Path
from typing import Annotated

import typer

from oodml.cli.shared import argument, option

TrustCode = Annotated[
    bool, option("Import user code that the folder names. Runs that code.", "--trust-code")
]
StudyDirectory = Annotated[
    Path, argument("The folder of a study, or a pack (.zip).", metavar="DIR")
]


def report(
    directory: StudyDirectory,
    paper: Annotated[
        bool, option("Also write figures and tables for a paper into DIR/report.")
    ] = True,
    out: Annotated[
        Path | None,
        option("Write to this folder instead of DIR; for a pack, NAME of NAME.zip by default."),
    ] = None,
    metric: Annotated[
        str | None, option("Metric of the figures, of the LaTeX tables, and printed.")
    ] = None,
    methods: Annotated[str, option("Methods to compare, separated by commas (default: all).")] = "",
    formats: Annotated[
        str, option("Formats of the figures: png, pdf, svg.", "--format")
    ] = "png,pdf",
    width: Annotated[
        str, option("Width of the figures: auto, or column or text of a two-column paper.")
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


COMMANDS = (report,)
