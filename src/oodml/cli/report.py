"""`oodml report`: the page of a study, or the ranking of several."""

from pathlib import Path
from typing import Annotated, Any

from oodml.cli import shared
from oodml.cli.shared import File, Text, Words, argument, many, option
from oodml.errors import OodmlError

_FORMATS = "Format of the output: png, pdf, or svg (default: png,pdf)."


def report(
    studies: Annotated[list[Path], argument("Studies: a folder or pack, or packs to rank.")],
    paper: Annotated[bool, option("Also write figures and tables into STUDY/report.")] = True,
    out: Annotated[File, option("Folder to write.", unset="the study, or NAME of NAME.zip")] = None,
    metric: Annotated[Text, shared.metric_option(unset="the study's")] = None,
    methods: Annotated[Words, many("Methods: their names.", unset="all")] = None,
    formats: Annotated[Words, many(_FORMATS, str, "--format")] = None,
    width: Annotated[str, option("Width of figures: auto, or column or text of a paper.")] = "auto",
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
    is_study = not study.is_dir() or (study / "results.parquet").exists()
    if others or (not is_study and any(study.rglob("*.zip"))):
        _rank(studies, out, metric, methods)
        return
    options: Any = {"paper": paper, "trust_code": trust_code, "metric": metric, "width": width}
    options |= {"selected": methods or (), "formats": formats or ("png", "pdf")}
    with study_folder(study) as folder:
        target = study.with_suffix("") if out is None and folder != study else out
        result = write_report(folder, out=target, **options)
    smoke = ["Smoke test: these numbers are not results."] * result.folder.plan.smoke
    page = result.page.resolve()
    written = [f"Report: {page}", *[f"Figures and tables: {page.parent / 'report'}"] * paper]
    answer = [*smoke, result.answer.headline, *result.answer.details]
    shared.show(
        [*answer, *written],
        next=("study", "table", study),
        json={"answer": answer, "page": str(page)},
    )


def _rank(packs: list[Path], out: Path | None, *unused: object) -> None:
    from oodml.report.leaderboard import write_leaderboard

    if out is None:
        raise OodmlError("a ranking of packs needs --out, a folder", location="--out")
    if any(unused):
        problem = "--metric and --methods apply to one study; the page ranks by every metric"
        raise OodmlError(problem, location="--metric")
    page = write_leaderboard(packs, out).resolve()
    command = ("study", "verify", min((out / "packs").iterdir()))
    shared.show(f"Ranking: {page}", next=command, json={"page": str(page)})
