"""The report's tables as CSV and LaTeX."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from oodml.analysis.epoch_gap import epoch_gap
from oodml.analysis.few_shot import few_shot_gains
from oodml.analysis.findings import findings
from oodml.analysis.ranking import beat_probability, compare_methods
from oodml.analysis.structure import structure_correlations
from oodml.analysis.table import is_quality, metrics, shifts, trained
from oodml.files import write_text
from oodml.report.folder import StudyFolder
from oodml.report.series import chance_ags, chance_levels, curves, image_counts, split_sizes


def write_tables(folder: StudyFolder, target: Path) -> list[Path]:
    """Write every table of a study into a folder; return the paths.

    curves, ags and few_shot hold every metric; ags.tex is of the first metric alone.
    """
    table = folder.table
    quality = [name for name in metrics(table) if is_quality(name)] or metrics(table)
    counts = image_counts(folder.images or folder.features)
    frames = {
        "curves": _over(quality, lambda metric: curves(table, metric)),
        "ags": _over(quality, lambda metric: compare_methods(table, metric)),
        "few_shot": _over(quality, lambda metric: few_shot_gains(table, metric)),
        "structure": structure_correlations(trained(table), quality[0]),
        "progression": split_sizes(table, folder.progression, counts),
        "findings": pd.DataFrame(findings(table, quality[0])),
    }
    levels = chance_levels(folder)
    if levels:
        frames["chance"] = _chance(table, levels)
    gaps = epoch_gap(trained(table), quality[0])
    if len(gaps):
        frames["best_test_epoch_diagnostic"] = gaps
    if shifts(table).nunique() > 1:
        frames["beats"] = beat_probability(table, quality[0]).reset_index()
    for name, frame in frames.items():
        write_text(target / f"{name}.csv", frame.to_csv(index=False))
    chance = chance_ags(table, levels).get(quality[0])
    write_text(target / "ags.tex", ags_latex(compare_methods(table, quality[0]), chance))
    return [*(target / f"{name}.csv" for name in frames), target / "ags.tex"]


def _chance(table: pd.DataFrame, levels: Mapping[str, Sequence[float | None]]) -> pd.DataFrame:
    """One row a (metric, split): what a random order, or random clusters, would score."""
    shift = shifts(table)
    rows = [
        (metric, split, shift[split], level)
        for metric, found in levels.items()
        for split, level in zip(shift.index, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=["metric", "split", "shift", "chance"])


def ags_latex(order: pd.DataFrame, chance: float | None = None) -> str:
    """The ranking of `compare_methods` as a LaTeX tabular (booktabs); chance: its AGS."""
    last = [] if chance is None else [r"\midrule", rf"chance & {chance:.3f} & & & \\"]
    lines = [
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r"Method & AGS & 95\% interval & Hardest split & Lost (\%) \\",
        r"\midrule",
        *(_row(row) for row in order.to_dict("records")),
        *last,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[Hashable, object]) -> str:
    low, high = (_number(row[name]) for name in ("ags_low", "ags_high"))
    interval = "--" if "--" in (low, high) else f"{low}--{high}"
    name = str(row["method"]).replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")
    lost = float(str(row["relative_loss"]))
    cells = (name, _number(row["ags"]), interval, _number(row["hardest"]))
    return " & ".join([*cells, "--" if lost != lost else f"{100 * lost:.1f}"]) + r" \\"


def _number(value: object) -> str:
    number = float(str(value))
    return "--" if number != number else f"{number:.3f}"


def _over(names: list[str], made: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    frames = {name: made(name) for name in names}
    joined = pd.concat(frames, names=["metric", "row"]).reset_index(level="metric")
    return joined.reset_index(drop=True)
