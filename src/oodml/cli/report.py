"""`oodml report`: the page of a study, or the ranking of several."""

from pathlib import Path
from typing import Annotated

import typer

from oodml.cli import shared
from oodml.cli.shared import argument, option
from oodml.errors import OodmlError


def report(
    studies: Annotated[
        list[Path],
        argument("The folder of a study, or a pack (.zip). To rank: packs, or folders of packs."),
    ],
    paper: Annotated[
        bool, option("Also write figures and tables for a paper into STUDY/report.")
    ] = True,
    out: Annotated[
        Path | None,
        option("Folder to write to (default: the study's; of a pack, NAME of NAME.zip)."),
    ] = None,
    metric: Annotated[
        str | None, option("Metric of figures, LaTeX tables, and text (default: of the study).")
    ] = None,
    methods: Annotated[
        str | None, option("Methods to compare, separated by commas (default: all).")
    ] = None,
    formats: Annotated[
        str, option("Formats of the figures: png, pdf, svg.", "--format")
    ] = "png,pdf",
    width: Annotated[
        str, option("Width of the figures: auto, or column or text of a two-column paper.")
    ] = "auto",
    trust_code: shared.TrustCode = False,
) -> None:
    """Write the page of a study, with figures and tables; or rank the methods of packed studies.

    Several packs, or a folder of packs, become one static page with a ranking per dataset.

    Example: `oodml report results/ --metric map@r --format pdf --width column` or
    `oodml report a.zip b.zip --out site/`
    """
    from oodml.report.write import write_report
    from oodml.share.pack import study_folder

    study, *others = studies
    if others or _contains_packs(study):
        _rank(studies, out, metric, methods)
        return
    with study_folder(study) as folder:
        target = study.with_suffix("") if out is None and folder != study else out
        result = write_report(
            folder,
            paper=paper,
            trust_code=trust_code,
            out=target,
            metric=metric,
            selected=[name for name in (methods or "").split(",") if name],
            formats=formats.split(","),
            width=width,
        )
    if result.folder.plan.smoke:
        typer.echo("Smoke test: these numbers are not results.")
    for sentence in (result.answer.headline, *result.answer.details):
        typer.echo(sentence)
    typer.echo(f"Report: {result.page.resolve()}")
    shared.print_next("study", "table", study)


def _contains_packs(folder: Path) -> bool:
    """Whether this is a folder of packs, and not of a study."""
    if not folder.is_dir() or (folder / "results.parquet").exists():
        return False
    return any(folder.rglob("*.zip"))


def _rank(packs: list[Path], out: Path | None, *unused: str | None) -> None:
    from oodml.report.leaderboard import write_leaderboard

    if out is None:
        raise OodmlError("a ranking of packs needs --out, a folder", location="--out")
    if any(unused):
        problem = "--metric and --methods apply to one study; the page ranks by every metric"
        raise OodmlError(problem, location="--metric")
    page = write_leaderboard(packs, out)
    typer.echo(f"Ranking: {page.resolve()}")
    shared.print_next("study", "verify", out / "packs" / sorted((out / "packs").iterdir())[0].name)


COMMANDS = (report,)
