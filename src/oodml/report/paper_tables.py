"""The tables of a report as CSV and LaTeX files."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from oodml.analysis.formatting import is_percent
from oodml.evaluate.registry import find_metric
from oodml.files import write_text
from oodml.report.tables import select

NOT_WRITTEN = ("structure_points",)
LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
        "\n": " ", "\r": " ", **{character: f"\\{character}" for character in "_%&#${}"},
    }
)  # fmt: skip


def write_tables(tables: Mapping[str, pd.DataFrame], metric: str, target: Path) -> list[Path]:
    """Write every table that has rows as CSV, and two as LaTeX.

    `ags.tex` is the ranking by `metric`, and `splits.tex` has the metric of each method and split.

    Returns:
        The paths of the files.
    """
    paths = []
    for name, frame in tables.items():
        if len(frame) and name not in NOT_WRITTEN:
            paths.append(target / f"{name}.csv")
            write_text(paths[-1], frame.to_csv(index=False))
    chance = tables["chance_ags"].set_index("metric")["chance"].get(metric)
    paths.append(target / "ags.tex")
    write_text(paths[-1], ags_latex(select(tables, "ags", metric), chance))
    paths.append(target / "splits.tex")
    order = select(tables, "ags", metric)["method"]
    write_text(paths[-1], splits_latex(select(tables, "seeds", metric), order.tolist(), metric))
    return paths


def splits_latex(values: pd.DataFrame, order: Sequence[str], metric: str) -> str:
    """The mean ± standard deviation over seeds by method and split, as a LaTeX tabular (booktabs).

    The best mean of each split is bold. Metrics between 0 and 1 are in percent.

    Args:
        values: one row per run, with the columns method, split, shift, and value.
        order: the methods from top to bottom.
        metric: the metric of the values.
    """
    grouped = values.groupby(["method", "split"])["value"]
    means, spreads = grouped.mean().unstack(), grouped.std().unstack()
    splits = values.sort_values("shift")["split"].drop_duplicates().tolist()
    best = means.max() if find_metric(metric).higher_is_better else means.min()
    scale, digits = (100, 1) if is_percent(metric) else (1, 3)

    def cell(method: str, split: str) -> str:
        mean, spread = (float(str(t.at[method, split])) for t in (means, spreads))
        if mean != mean:
            return "--"
        text = f"{scale * mean:.{digits}f}".replace("-", "$-$")
        text = rf"\textbf{{{text}}}" if mean == best[split] else text
        return text if spread != spread else rf"{text} $\pm$ {scale * spread:.{digits}f}"

    rows = [[escape_latex(name), *(cell(name, split) for split in splits)] for name in order]
    header = ["Method", *(escape_latex(str(name)) for name in splits)]
    return _tabular("l" + "r" * len(splits), header, rows)


def _tabular(columns: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(row) + r" \\" for row in (header, *rows)]
    body = [lines[0], r"\midrule", *lines[1:]]
    start, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([start, r"\toprule", *body, r"\bottomrule", end]) + "\n"


def ags_latex(order: pd.DataFrame, chance: float | None = None) -> str:
    """The ranking of `compare_methods` as a LaTeX tabular (booktabs).

    Args:
        order: the ranking.
        chance: the AGS of chance, which becomes the last row.
    """
    header = ("Method", "AGS", r"95\% interval", "Hardest split", r"Loss (\%)")
    rows = [_cells(row) for row in order.to_dict("records")]
    if chance is not None:
        rows.append([r"\midrule chance", f"{chance:.3f}", "", "", ""])
    return _tabular("lrrrr", header, rows)


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return text.translate(LATEX_ESCAPES)


def _cells(row: Mapping[Hashable, object]) -> list[str]:
    low, high = (_number(row[name]) for name in ("ags_low", "ags_high"))
    interval = "--" if "--" in (low, high) else f"{low}--{high}"
    loss = float(str(row["relative_loss"]))
    cells = (escape_latex(str(row["method"])), _number(row["ags"]), interval)
    relative = "--" if loss != loss else f"{100 * loss:.1f}".replace("-", "$-$")
    return [*cells, _number(row["hardest"]), relative]


def _number(value: object) -> str:
    number = float(str(value))
    return "--" if number != number else f"{number:.3f}".replace("-", "$-$")
