"""The report's figures for print: one style, PNG and PDF."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from oodml.analysis.few_shot import few_shot_gains
from oodml.analysis.ranking import compare_methods
from oodml.analysis.table import is_quality, methods, metrics
from oodml.files import replacing
from oodml.report.answer import label
from oodml.report.folder import StudyFolder
from oodml.report.series import curves, split_sizes
from oodml.report.style import Look, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}


def write_figures(folder: StudyFolder, target: Path) -> list[Path]:
    """Write every figure of a study as PNG and PDF; return the paths. By the first metric."""
    table = folder.table
    metric = next((name for name in metrics(table) if is_quality(name)), metrics(table)[0])
    with paper_style():
        figures = {
            "generalization": generalization_figure(table, metric),
            "ags": ags_figure(table, metric),
            "few_shot": few_shot_figure(table, metric),
            "progression": progression_figure(folder),
        }
        written = [
            _save(figure, target / f"{name}{suffix}")
            for name, figure in figures.items()
            if figure is not None
            for suffix in (".png", ".pdf")
        ]
    return written


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib's settings for the figures: small type, thin lines, no frame."""
    import matplotlib as mpl

    style: Any = {
        "font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False,
        "axes.linewidth": 0.6, "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e4e4e4",
        "grid.linewidth": 0.5, "lines.linewidth": 1.3, "lines.markersize": 4,
        "legend.frameon": False, "figure.constrained_layout.use": True, "pdf.fonttype": 42,
        "savefig.dpi": 200, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    }  # fmt: skip
    with mpl.rc_context(style):
        yield


def generalization_figure(table: pd.DataFrame, metric: str) -> "Figure":
    """The metric against shift, a line a method, with the band of its 95% interval."""
    figure, axes = _figure(4.6, 2.9)
    found, look = curves(table, metric), looks(methods(table))
    for name in methods(table):
        rows = found[found["method"] == name]
        _line(axes[0], rows, "mean", look[name], name)
    axes[0].set(xlabel="Shift between train and test classes (FID)", ylabel=label(metric))
    _legend(figure, axes[0])
    return figure


def ags_figure(table: pd.DataFrame, metric: str) -> "Figure | None":
    """The score of each method with its interval, the best on top; None without scores."""
    order = compare_methods(table, metric).dropna(subset=["ags"])
    if order.empty:
        return None
    figure, axes = _figure(3.6, 0.6 + 0.25 * len(order))
    look = looks(methods(table))
    for height, row in enumerate(order.iloc[::-1].to_dict("records")):
        drawn = look[row["method"]]
        axes[0].plot(row["ags"], height, drawn.marker, color=drawn.light)
        axes[0].hlines(height, row["ags_low"], row["ags_high"], color=drawn.light)
    axes[0].set_yticks(range(len(order)), order["method"].iloc[::-1])
    axes[0].set(xlabel=f"AGS of {label(metric)}", ylim=(-0.6, len(order) - 0.4))
    return figure


def few_shot_figure(table: pd.DataFrame, metric: str) -> "Figure | None":
    """The gain by adaptation against shift, a panel a number of shots; None without any."""
    gains = few_shot_gains(table, metric)
    if gains.empty:
        return None
    shots, look = sorted(gains["shots"].unique()), looks(methods(table))
    figure, axes = _figure(0.8 + 2.4 * len(shots), 2.6, len(shots))
    for axis, count in zip(axes, shots, strict=True):
        for name in methods(table):
            rows = gains[(gains["method"] == name) & (gains["shots"] == count)]
            if len(rows):
                _line(axis, rows, "gain", look[name], name)
        axis.axhline(0, color="#555555", linewidth=0.6)
        axis.set(title=f"{count} labelled images a class", xlabel="Shift (FID)")
    axes[0].set_ylabel(f"Gain in {label(metric)}")
    _legend(figure, axes[0])
    return figure


def progression_figure(folder: StudyFolder) -> "Figure":
    """The shift of each split, in order; the standard split as a ring."""
    figure, axes = _figure(3.6, 2.2)
    splits = split_sizes(folder.table, folder.progression, {})
    places = range(len(splits))
    axes[0].plot(places, splits["shift"], "-", color="#bbbbbb", zorder=1)
    rings = ["white" if name == "0" else "#222222" for name in splits["split"]]
    axes[0].scatter(places, splits["shift"], c=rings, edgecolors="#222222", s=18, zorder=2)
    axes[0].set_xticks(places, splits["split"])
    axes[0].set(xlabel="Split", ylabel="FID of class means", ylim=(0, None))
    return figure


def _figure(width: float, height: float, panels: int = 1) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)
    return figure, list(axes[0])


def _line(axis: "Axes", rows: pd.DataFrame, value: str, look: Look, name: str) -> None:
    low, high = ("low", "high") if value == "mean" else (f"{value}_low", f"{value}_high")
    axis.plot(
        rows["shift"], rows[value], DASHES[look.dash], marker=look.marker, color=look.light,
        label=name,
    )  # fmt: skip
    axis.fill_between(
        rows["shift"], rows[low], rows[high], color=look.light, alpha=0.14, linewidth=0
    )


def _legend(figure: "Figure", axis: "Axes") -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")


def _save(figure: "Figure", path: Path) -> Path:
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata=metadata)
    return path
