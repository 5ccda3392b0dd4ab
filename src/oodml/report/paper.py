"""The report's figures and tables for print: PNG, PDF, CSV, and LaTeX."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from oodml.analysis.formatting import is_percent
from oodml.evaluate.registry import find_metric
from oodml.files import replacing, write_text
from oodml.report.style import Style, paper_style
from oodml.report.tables import select
from oodml.results.schema import STANDARD_SPLIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Styles = Mapping[str, Style]
LINE_STYLES = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}
NAME_WIDTH = 24
DATES = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
"""The field that is left out of each format, so that the same figure gives the same file."""
FORMATS = tuple(DATES)
WIDTHS = {"auto": None, "column": 3.3, "text": 6.8}
"""The widths of figures in inches; "column" and "text" are those of a page in two columns."""
LEGEND_ROW = 0.17
"""The height of a row of a legend below a figure, in inches."""
MIN_BAND_SEEDS = 3
"""With fewer seeds, figures show the seeds as dots, as in figures.js: t intervals are too wide."""
NOT_WRITTEN = ("structure_points",)
LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
        "\n": " ", "\r": " ", **{character: f"\\{character}" for character in "_%&#${}"},
    }
)  # fmt: skip


def write_figures(
    tables: Mapping[str, pd.DataFrame],
    metric: str,
    styles: Styles,
    target: Path,
    formats: Sequence[str] = FORMATS[:2],
    width: str = "auto",
) -> list[Path]:
    """Write every figure of a metric into a folder, and return the paths of the files.

    `styles` are in the order of the legend. It is to the right of the figure if `width` is "auto",
    and below it for the widths of a paper.
    """
    drawn, paths = _Figures(tables, metric, styles, WIDTHS[width]), []
    with paper_style():
        for draw in (drawn.generalization, drawn.ags, drawn.few_shot, drawn.progression):
            if (figure := draw()) is None:
                continue
            for suffix in formats:
                paths.append(target / f"{draw.__name__}.{suffix}")
                with replacing(paths[-1]) as temporary:
                    figure.savefig(temporary, metadata={DATES[suffix]: None})
    return paths


@dataclass(frozen=True)
class _Figures:
    tables: Mapping[str, pd.DataFrame]
    metric: str
    styles: Styles
    width: float | None

    def generalization(self) -> "Figure":
        """The metric against shift: a line per method with the band of its 95% interval."""
        figure, (axis,) = self._figure(3.4, 2.9)
        curves, seeds = (select(self.tables, name, self.metric) for name in ("curves", "seeds"))
        for name, style in self.styles.items():
            rows = curves[curves["method"] == name]
            _draw_line(axis, rows, ("mean", "low", "high"), style, name)
            if rows["n"].max() < MIN_BAND_SEEDS:
                dots = seeds[seeds["method"] == name]
                axis.plot(dots["shift"], dots["value"], ".", color=style.light, markersize=2)
        label = find_metric(self.metric).label
        axis.set(xlabel="Shift between training and test classes (FID)", ylabel=label)
        self._draw_legend(figure, axis)
        return figure

    def ags(self) -> "Figure | None":
        """The AGS of each method with its interval, the highest on top; None without scores."""
        order = select(self.tables, "ags", self.metric).dropna(subset=["ags"])
        if order.empty:
            return None
        figure, (axis,) = self._figure(2.6, 0.6 + 0.25 * len(order), legend=False)
        for height, row in enumerate(order.iloc[::-1].to_dict("records")):
            style = self.styles[row["method"]]
            axis.plot(row["ags"], height, style.marker, color=style.light)
            axis.hlines(height, row["ags_low"], row["ags_high"], color=style.light)
        axis.set_yticks(range(len(order)), [_wrap(name) for name in order["method"].iloc[::-1]])
        axis.set(xlabel=f"AGS of {find_metric(self.metric).label}", ylim=(-0.6, len(order) - 0.4))
        return figure

    def few_shot(self) -> "Figure | None":
        """The gain from adaptation against shift, a panel per number of shots; None without any."""
        gains = select(self.tables, "few_shot", self.metric)
        if gains.empty:
            return None
        shots = sorted(gains["shots"].unique())
        figure, axes = self._figure(2.3 * len(shots), 2.6, len(shots))
        for axis, count in zip(axes, shots, strict=True):
            for name, style in self.styles.items():
                rows = gains[(gains["method"] == name) & (gains["shots"] == count)]
                if len(rows):
                    _draw_line(axis, rows, ("gain", "gain_low", "gain_high"), style, name)
            axis.axhline(0, color="#555555", linewidth=0.6)
            axis.set(title=f"{count} labeled images per class", xlabel="Shift (FID)")
        axes[0].set_ylabel(f"Gain in {find_metric(self.metric).label}")
        self._draw_legend(figure, axes[0])
        return figure

    def progression(self) -> "Figure":
        """The shift of each split in ascending order; the standard split is a ring."""
        alone = replace(self, styles={}, width=self.width or 3.6)
        figure, (axis,) = alone._figure(3.6, 2.2, legend=False)
        splits = self.tables["progression"]
        positions = range(len(splits))
        axis.plot(positions, splits["shift"], "-", color="#bbbbbb", zorder=1)
        fills = ["white" if name == STANDARD_SPLIT else "#222222" for name in splits["split"]]
        axis.scatter(positions, splits["shift"], c=fills, edgecolors="#222222", s=18, zorder=2)
        axis.set_xticks(positions, splits["split"])
        axis.set(xlabel="Split", ylabel="FID of class means", ylim=(0, None))
        return figure

    def _figure(
        self, panel: float, height: float, panels: int = 1, legend: bool = True
    ) -> "tuple[Figure, list[Axes]]":
        """A figure of the width, or of a panel's width and the names of the methods beside it."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows = -(-len(self.styles) // self._legend_columns) if self.width and legend else 0
        width = self.width or panel + self._legend_width
        figure = Figure(figsize=(width, height + LEGEND_ROW * rows))
        FigureCanvasAgg(figure)
        return figure, list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])

    @property
    def _legend_width(self) -> float:
        return 0.5 + 0.065 * min(NAME_WIDTH, max(map(len, self.styles), default=0))

    @property
    def _legend_columns(self) -> int:
        """Below the figure; beside it, a legend has one column."""
        return max(1, int((self.width or 0) / self._legend_width))

    def _draw_legend(self, figure: "Figure", axis: "Axes") -> None:
        place: Any = f"outside {'lower' if self.width else 'right'} center"
        handles, names = axis.get_legend_handles_labels()
        figure.legend(handles, names, loc=place, ncols=self._legend_columns)


def _draw_line(
    axis: "Axes", rows: pd.DataFrame, columns: tuple[str, str, str], style: Style, name: str
) -> None:
    value, low, high = columns
    x, color = rows["shift"], style.light
    line: Any = {"marker": style.marker, "color": color, "label": _wrap(name)}
    axis.plot(x, rows[value], LINE_STYLES[style.dash], **line)
    if rows["n"].max() >= MIN_BAND_SEEDS:
        axis.fill_between(x, rows[low], rows[high], color=color, alpha=0.14, linewidth=0)


def _wrap(name: str) -> str:
    lines = textwrap.wrap(name, NAME_WIDTH) or [name]
    return "\n".join(lines[:2]) + ("…" if len(lines) > 2 else "")


def write_tables(tables: Mapping[str, pd.DataFrame], metric: str, target: Path) -> list[Path]:
    """Write every table that has rows as CSV, and two as LaTeX, and return the paths.

    `ags.tex` is the ranking by `metric`, and `splits.tex` has the metric of each method and split.
    """
    chance = tables["chance_ags"].set_index("metric")["chance"].get(metric)
    order, seeds = (select(tables, name, metric) for name in ("ags", "seeds"))
    texts = {
        f"{name}.csv": frame.to_csv(index=False)
        for name, frame in tables.items()
        if len(frame) and name not in NOT_WRITTEN
    }
    texts["ags.tex"] = ags_latex(order, chance)
    texts["splits.tex"] = splits_latex(seeds, order["method"].tolist(), metric)
    for name, text in texts.items():
        write_text(target / name, text)
    return [target / name for name in texts]


def splits_latex(values: pd.DataFrame, order: Sequence[str], metric: str) -> str:
    """The mean ± standard deviation over seeds by method and split, as a LaTeX tabular (booktabs).

    The best mean of each split is bold. Metrics between 0 and 1 are in percent. `values` are rows
    of the table `seeds`, and `order` are the methods from top to bottom.
    """
    grouped = values.groupby(["method", "split"])["value"]
    means, spreads = grouped.mean().unstack(), grouped.std().unstack()
    splits = values.sort_values("shift")["split"].drop_duplicates().tolist()
    best = means.max() if find_metric(metric).higher_is_better else means.min()
    scale, digits = (100, 1) if is_percent(metric) else (1, 3)

    def cell(method: str, split: str) -> str:
        mean, spread = (float(str(t.at[method, split])) for t in (means, spreads))
        text = _number(scale * mean, digits)
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
    """The ranking, and the AGS of chance, as a LaTeX tabular (booktabs)."""
    header, rows = ("Method", "AGS", r"95\% interval", "Hardest split", r"Loss (\%)"), []
    for row in order.to_dict("records"):
        names = ("ags_low", "ags_high", "ags", "hardest")
        low, high, score, hardest = (_number(row[name]) for name in names)
        interval = "--" if "--" in (low, high) else f"{low}--{high}"
        loss = _number(100 * row["relative_loss"], 1)
        rows.append([escape_latex(str(row["method"])), score, interval, hardest, loss])
    if chance is not None:
        rows.append([r"\midrule chance", f"{chance:.3f}", "", "", ""])
    return _tabular("lrrrr", header, rows)


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return text.translate(LATEX_ESCAPES)


def _number(value: float, digits: int = 3) -> str:
    return "--" if value != value else f"{value:.{digits}f}".replace("-", "$-$")
