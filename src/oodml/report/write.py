"""Writes a study's report: the page, the figures for a paper, and the tables."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from oodml.analysis.table import methods, ranked_metrics
from oodml.errors import OodmlError
from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.report.answer import Answer, answer
from oodml.report.folder import read_folder
from oodml.report.page import page
from oodml.report.paper import write_figures
from oodml.report.paper_tables import write_tables
from oodml.report.style import method_styles
from oodml.report.tables import tables
from oodml.results.schema import baselines_of


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        page: the path of the page.
        answer: the answer at the top of the page.
        smoke: whether the results are those of a smoke test.
    """

    page: Path
    answer: Answer
    smoke: bool


def write_report(
    directory: str | Path,
    images: ImageSet | None = None,
    paper: bool = True,
    trust_code: bool = False,
    out: str | Path | None = None,
) -> Report:
    """Write `report.html`, and figures and tables into `report/`.

    Args:
        directory: the folder of the study.
        images: images to use instead of the dataset that the study names.
        paper: also write the PNG, PDF, CSV, and LaTeX files.
        trust_code: see `read_folder`.
        out: the folder to write to; by default the study's.

    Raises:
        OodmlError: if the study has no results, or `out` is not writable.
    """
    folder = read_folder(directory, images, trust_code)
    target = folder.path if out is None else Path(out)
    _check_writable(target)
    computed = tables(folder)
    metric = ranked_metrics(folder.table)[0]
    if paper:
        styles = method_styles(methods(folder.table), baselines_of(folder.table))
        write_figures(computed, metric, styles, target / "report")
        write_tables(computed, metric, target / "report")
    write_text(target / "report.html", page(folder, computed))
    result = answer(computed, folder.data, metric)
    return Report(target / "report.html", result, folder.plan.smoke)


def _check_writable(folder: Path) -> None:
    """Raise before anything is computed if the folder cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OodmlError(
            f"{folder}: not writable ({error.strerror}). Choose another folder with --out, or "
            "make it writable.",
            location=str(folder),
        ) from error
