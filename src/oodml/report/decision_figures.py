"""Figures and pages of the commands on vectors."""

import base64
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oodml.decisions.drift import Drift
from oodml.decisions.open_set import OpenSetScores
from oodml.errors import error_at
from oodml.files import replacing, write_text
from oodml.images.image_set import ImageSet
from oodml.report.examples import thumbnails
from oodml.report.page import page_environment
from oodml.report.style import LIGHT, asset, paper_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLES = 8
"""The number of images shown of each new cluster."""


@contextmanager
def png_axes(path: Path, width: float = 4.2, height: float = 2.9) -> Iterator["Axes"]:
    """Axes that are drawn in the style of the report's figures and written to a PNG file."""
    from matplotlib.figure import Figure

    if path.suffix.lower() != ".png":
        raise error_at(path, "figures are written as .png", allowed=(".png",))
    with paper_style():
        figure = Figure((width, height))
        yield figure.add_subplot()
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png")


def threshold_figure(scored: OpenSetScores, threshold: float | None, path: Path) -> None:
    """The scores of known and unknown queries as histograms, with the threshold."""
    edges = np.histogram_bin_edges(scored.scores, 60)
    with png_axes(path) as axes:
        sides = (("known", scored.known, LIGHT[0]), ("unknown", ~scored.known, LIGHT[1]))
        for name, side, color in sides:
            shares = np.histogram(scored.scores[side], edges)[0] / max(1, side.sum())
            axes.stairs(shares, edges, fill=True, alpha=0.35, color=color, label=name)
        if threshold is not None and np.isfinite(threshold):
            axes.axvline(threshold, color="#333333", linewidth=1, linestyle="--", label="threshold")
        axes.set(xlabel="Score", ylabel="Share")
        axes.legend()


def compression_figure(table: pd.DataFrame, path: Path) -> None:
    """Recall against bytes per vector, with the interval of the loss; from `compress`."""
    metric = next(name.removesuffix("_loss") for name in map(str, table) if name.endswith("_loss"))
    with png_axes(path, 5.2) as axes:
        full = table[metric].iloc[0]
        for row in table.to_dict("records"):
            axes.plot(row["bytes"], row[metric], "o", color=LIGHT[0])
            bounds = full - row[f"{metric}_high"], full - row[f"{metric}_low"]
            axes.vlines(row["bytes"], *bounds, color=LIGHT[0])
            at = (row["bytes"], row[metric])
            axes.annotate(row["code"], at, (4, 4), textcoords="offset points", fontsize=6)
        axes.axhline(full, color="#999999", linewidth=0.6, linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set(xlabel="Bytes per vector", ylabel=metric)
        axes.xaxis.set_major_formatter("{x:g}")


def growth_figure(tables: Mapping[int, pd.DataFrame], path: Path) -> None:
    """Recall@k against the gallery's size; extrapolated points are hollow. From `extrapolate`."""
    with png_axes(path) as axes:
        for color, (k, table) in zip(LIGHT, tables.items(), strict=False):
            axes.plot(table["size"], table["recall"], color=color, linewidth=0.8, label=f"k = {k}")
            for row in table.to_dict("records"):
                filled = "white" if row["extrapolated"] else color
                axes.plot(row["size"], row["recall"], "o", color=color, markerfacecolor=filled)
                axes.vlines(row["size"], row["low"], row["high"], color=color)
        axes.set_xscale("log")
        axes.set(xlabel="Images in the gallery", ylabel="Recall@k")
        axes.legend()


def write_drift_page(
    path: Path, index: str, results: Mapping[str, Drift], images: ImageSet | None
) -> None:
    """Write the page of the drift of files of new vectors; without `images`, it shows ids."""
    drifts = [*results.values()]
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / "chart.png"
        with png_axes(chart, 6) as axes:
            colors = [LIGHT[1] if one.p <= 0.05 else LIGHT[0] for one in drifts]
            axes.bar([*results], [one.value for one in drifts], color=colors)
            axes.axhline(1, color="#333333", linewidth=0.8, linestyle="--")
            axes.set(ylabel="Drift, relative to chance")
            axes.tick_params(axis="x", rotation=30)
        encoded = base64.b64encode(chart.read_bytes()).decode()
    shown = [name for one in drifts for group in one.clusters for name in group[:EXAMPLES]]
    values = {
        "index": index, "results": results, "chart": encoded, "limit": EXAMPLES,
        "forecast": any(one.change for one in drifts),
        "farther": sum(one.p <= 0.05 for one in drifts),
        "images": thumbnails(images, shown, 96, 2_000_000),
    }  # fmt: skip
    write_text(path, page_environment().from_string(asset("drift.html")).render(**values))
