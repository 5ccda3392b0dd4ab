"""Writing a study's report: the page, the figures for a paper, and the tables."""

from pathlib import Path

from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.report.folder import read_study
from oodml.report.page import page
from oodml.report.paper import write_figures
from oodml.report.paper_tables import write_tables


def write_report(
    directory: str | Path,
    images: ImageSet | None = None,
    paper: bool = True,
    trust_code: bool = False,
) -> Path:
    """Write `report.html` into a study's folder, and `report/` beside it; return the page's path.

    images: stands in for the data set that the study names. paper: also the PNG, PDF, CSV and
    LaTeX files. trust_code: as of `read_study`.
    """
    folder = read_study(directory, images, trust_code)
    if paper:
        write_figures(folder, folder.path / "report")
        write_tables(folder, folder.path / "report")
    target = folder.path / "report.html"
    write_text(target, page(folder))
    return target
