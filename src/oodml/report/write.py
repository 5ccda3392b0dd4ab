"""Writes a study's report: the page, the figures for a paper, and the tables."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from oodml.analysis.table import methods, ranked_metrics
from oodml.errors import error_at, unknown
from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.progress import Progress
from oodml.report.answer import Answer, answer
from oodml.report.folder import StudyFolder, read_folder
from oodml.report.page import page
from oodml.report.paper import FORMATS, WIDTHS, write_figures, write_tables
from oodml.report.style import method_styles
from oodml.report.tables import Tables, tables
from oodml.results.schema import baselines_of


@dataclass(frozen=True)
class Report:
    """A report that was written: the path and the answer of its page, the study, and its tables, of
    which page, figures, and files consist (`oodml.report.tables.tables`)."""

    page: Path
    answer: Answer
    folder: StudyFolder
    tables: Tables


@pd.option_context("mode.string_storage", "python")  # faster than Arrow for many small tables
def write_report(
    directory: str | Path,
    images: ImageSet | None = None,
    paper: bool = True,
    trust_code: bool = False,
    out: str | Path | None = None,
    *,
    metric: str | None = None,
    selected: Sequence[str] = (),
    formats: Sequence[str] = FORMATS[:2],
    width: str = "auto",
) -> Report:
    """Write `report.html` into `out` (default: the study's folder), and with `paper`, figures and
    tables into `report/`.

    `images` and `trust_code` are options of `read_folder`, `formats` and `width` of
    `oodml.report.paper.write_figures`; `selected` are the methods to compare (default: all).
    """
    target = Path(directory if out is None else out)
    folder = read_folder(directory, images, trust_code)
    ranked = ranked_metrics(folder.table)
    metric, present = metric or ranked[0], methods(folder.table)
    options: list[tuple[str, Sequence[str], Iterable[str]]] = [
        ("methods", selected, present), ("metric", (metric,), ranked), ("width", (width,), WIDTHS),
        ("format", formats, FORMATS),
    ]  # fmt: skip
    for name, values, allowed in options:
        for value in set(values).difference(allowed):
            raise unknown(name.removesuffix("s"), value, allowed, f"--{name}")
    if selected:
        table = folder.table[folder.table["method"].isin(selected)]
        table.attrs = folder.table.attrs
        folder = replace(folder, table=table)
    _check_writable(target)
    with Progress(f"Report of {folder.data}", 3, "parts") as progress:
        computed = tables(folder)
        progress.advance()
        if paper:
            styles = method_styles(methods(folder.table), baselines_of(folder.table))
            write_figures(computed, metric, styles, target / "report", formats, width)
            write_tables(computed, metric, target / "report")
        progress.advance()
        write_text(target / "report.html", page(folder, computed))
        progress.advance()
    result = answer(computed, folder.data, metric)
    return Report(target / "report.html", result, folder, computed)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "Choose another folder with --out, or make it writable."
        raise error_at(folder, f"not writable ({error.strerror}). {advice}") from error
