"""`oodml report`: the answer of a study, as a page and as figures."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")],
    paper: Annotated[
        bool, typer.Option(help="Also write figures and tables for a paper into DIR/report.")
    ] = True,
) -> None:
    """Write a study's page, DIR/report.html, and figures and tables beside it.

    Example: `oodml report results/`
    """
    from oodml.report.write import write_report

    page = write_report(directory, paper=paper)
    typer.echo(f"The answer is in {page.resolve()}")


COMMANDS = (report,)
