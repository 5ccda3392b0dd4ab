"""The tables of a report as CSV and LaTeX files."""

from collections.abc import Hashable, Mapping
from pathlib import Path

import pandas as pd

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
    """Write every table that has rows as CSV, and the ranking by `metric` as `ags.tex`.

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
    return paths


def ags_latex(order: pd.DataFrame, chance: float | None = None) -> str:
    """The ranking of `compare_methods` as a LaTeX tabular (booktabs).

    Args:
        order: the ranking.
        chance: the AGS of chance, which becomes the last row.
    """
    last = [] if chance is None else [r"\midrule", rf"chance & {chance:.3f} & & & \\"]
    lines = [
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r"Method & AGS & 95\% interval & Hardest split & Loss (\%) \\",
        r"\midrule",
        *(_row(row) for row in order.to_dict("records")),
        *last,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return text.translate(LATEX_ESCAPES)


def _row(row: Mapping[Hashable, object]) -> str:
    low, high = (_number(row[name]) for name in ("ags_low", "ags_high"))
    interval = "--" if "--" in (low, high) else f"{low}--{high}"
    loss = float(str(row["relative_loss"]))
    cells = (escape_latex(str(row["method"])), _number(row["ags"]), interval)
    relative = "--" if loss != loss else f"{100 * loss:.1f}".replace("-", "$-$")
    return " & ".join([*cells, _number(row["hardest"]), relative]) + r" \\"


def _number(value: object) -> str:
    number = float(str(value))
    return "--" if number != number else f"{number:.3f}".replace("-", "$-$")
