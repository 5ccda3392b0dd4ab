"""Figures of splits: shift per step, maps of the classes, and the agreement of networks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from oodml.errors import error_at
from oodml.files import replacing
from oodml.report.style import asset
from oodml.shift.controls import Agreement
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEST, NEITHER = "#d1495b", "#cccccc"
COLORS = {"train": "#2a6f97", "test": TEST, "": NEITHER}
SUFFIXES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class ClassMap:
    """Classes as points."""

    classes: tuple[str, ...]
    points: Float[np.ndarray, "n 2"]  # centered and scaled to [-1, 1]
    explained: float  # the share of the variance of the class means on the two axes
    samples: tuple[str, ...]  # the id of an image of each class
    superclasses: tuple[str, ...] | None


def class_map(features: VectorSet, max_classes: int = 2000, seed: int = 0) -> ClassMap:
    """Project the class means of pretrained features on their first two principal axes.

    The sample of a class is the image closest to its mean. Of more than `max_classes`
    classes, a random sample of that size is kept.
    """
    means = features.class_means()
    centered = means - means.mean(axis=0)
    _, scale, axes = np.linalg.svd(centered, full_matrices=False)
    points = centered @ axes[:2].T
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((scale**2).sum())
    drawn = np.arange(len(means))
    if len(drawn) > max_classes:
        drawn = np.sort(np.random.default_rng(seed).choice(drawn, max_classes, replace=False))
    distance = np.linalg.norm(features.vectors - means[features.labels], axis=1)
    by_class = np.lexsort((distance, features.labels))
    samples = by_class[np.unique(features.labels[by_class], return_index=True)[1]]
    names, groups = np.asarray(features.class_names), features.superclasses
    return ClassMap(
        tuple(names[drawn].tolist()),
        points[drawn] / max(float(np.abs(points).max()), 1e-12),
        float((scale[:2] ** 2).sum()) / total if total else 0.0,
        tuple(features.ids[samples[drawn]].tolist()),
        None if groups is None else tuple(groups[samples[drawn]].tolist()),
    )


def class_sides(drawn: ClassMap, split: Split) -> list[str]:
    """The side of each class of a map: "train", "test", or "" if it is not in the split."""
    side = dict.fromkeys(split.train, "train") | dict.fromkeys(split.test, "test")
    return [side.get(name, "") for name in drawn.classes]


def shift_per_step(progression: Progression) -> "Figure":
    """The shift of every split, as dots sized by the number of classes."""
    figure, (axis,) = _figure(1, (7.0, 4.0))
    splits = progression.splits
    positions, shifts = np.arange(len(splits)), [split.shift for split in splits]
    sizes = [10 + 40 * len(split.train) / len(splits[0].train) for split in splits]
    axis.plot(positions, shifts, color=NEITHER, zorder=1)
    axis.scatter(positions, shifts, s=sizes, color=TEST, zorder=2, label=progression.procedure)
    every = max(1, len(positions) // 15)
    axis.set_xticks(positions[::every], [str(s.step) for s in splits][::every], rotation=45)
    axis.set(xlabel="Step", ylabel="FID of class means")
    return figure


def progression_maps(
    progression: Progression, features: VectorSet, steps: Sequence[int | str] | None = None
) -> "Figure":
    """Maps of the class means, colored by side, for some steps."""
    last = len(progression) - 1
    middle = np.unique(np.linspace(0, last, min(3, last + 1)).astype(int)).tolist()
    chosen = [progression.at(one) for one in steps] if steps else [progression[i] for i in middle]
    drawn = class_map(features)
    figure, axes = _figure(len(chosen), (3.2 * len(chosen), 3.4))
    for axis, split in zip(axes, chosen, strict=True):
        colors = [COLORS[side] for side in class_sides(drawn, split)]
        axis.scatter(*drawn.points.T, c=colors, s=14, linewidths=0)
        axis.set_title(f"step {split.step}, FID {split.shift:.4g}", fontsize=10)
        axis.set(xticks=[], yticks=[])
    axes[0].set_xlabel("blue: training classes, red: test classes", fontsize=9)
    return figure


def agreement_figure(agreement: Agreement) -> "Figure":
    """The normalized shift of the same splits under several networks."""
    figure, (axis,) = _figure(1, (7.0, 4.0))
    positions = np.arange(len(agreement.steps))
    for name, shifts in zip(agreement.backbones, agreement.normalized, strict=True):
        axis.plot(positions, shifts, marker="o", markersize=4, label=name)
    axis.set_xticks(positions, [str(step) for step in agreement.steps], rotation=45)
    axis.set(xlabel="Step", ylabel="FID, rescaled to [0, 1] per network")
    axis.legend(frameon=False)
    return figure


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a PNG, PDF, or SVG file, depending on the suffix."""
    target = Path(path)
    if target.suffix not in SUFFIXES:
        problem = f"suffix {target.suffix!r}; allowed: {', '.join(SUFFIXES)}"
        raise error_at(target, problem, target.suffix, SUFFIXES)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")


def splits_page(
    splits: Progression,
    features: VectorSet | None = None,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """A page with the shift per step and, from features, a map of the classes for each step.

    `pictures` are data URIs by image id; the map shows that of the class under the pointer.
    """
    import pandas as pd
    import plotly.express as px

    frame = pd.DataFrame(
        {"step": str(one.step), splits.shift_measure: one.shift, "train": len(one.train),
         "test": len(one.test)} for one in splits
    )  # fmt: skip
    hover = ["train", "test"]
    figures, scripts = [px.line(frame, x="step", y=splits.shift_measure, hover_data=hover)], [""]
    figures[0].update_traces(mode="lines+markers").update_xaxes(type="category")
    if features is not None:
        drawn, maps = class_map(features), []
        for one in splits:
            points = pd.DataFrame(drawn.points, columns=["x", "y"]).assign(
                image=drawn.samples, side=class_sides(drawn, one), step=one.step
            )
            missing = pd.DataFrame({"side": [*COLORS], "step": one.step})  # a trace for every side
            maps += [points.assign(**{"class": drawn.classes}), missing]
        options: dict[str, Any] = {"color_discrete_map": COLORS, "hover_name": "class"}
        options |= {"animation_frame": "step", "category_orders": {"side": [*COLORS]}}
        scatter = px.scatter(pd.concat(maps), "x", "y", "side", hover_data=["image"], **options)
        figures.append(scatter.update_xaxes(visible=False).update_yaxes(visible=False))
        shown = {name: uri for name, uri in (pictures or {}).items() if name in drawn.samples}
        scripts.append(asset("hover.js").replace("PICTURES", json.dumps(shown)))
    html = [
        figure.update_layout(template="simple_white").to_html(
            full_html=False, include_plotlyjs=not number, post_script=script, auto_play=False
        )
        for number, (figure, script) in enumerate(zip(figures, scripts, strict=True))
    ]
    name = escape(splits.data or "splits")
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{name}</title>"
    return "\n".join([head, f"<h1 style='font:600 1.4rem system-ui,sans-serif'>{name}</h1>", *html])


def _figure(columns: int, size: tuple[float, float]) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
