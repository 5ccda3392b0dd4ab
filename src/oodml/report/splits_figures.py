"""Figures of splits: shift per step, maps of the classes, and the agreement of networks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from oodml.errors import OodmlError, error_at, install_command
from oodml.files import replacing
from oodml.report.style import asset
from oodml.shift.controls import Agreement
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TRAIN, TEST, NEITHER = "#2a6f97", "#d1495b", "#cccccc"
SIDES = {"train": ("training classes", TRAIN), "test": ("test classes", TEST),
         "": ("in neither", NEITHER)}  # fmt: skip
SUFFIXES = (".png", ".pdf", ".svg")
SHIFT_LABEL = "FID of class means"


@dataclass(frozen=True)
class ClassMap:
    """Classes as points.

    Attributes:
        classes: [n] the names of the classes.
        points: [n 2] their positions, centered and scaled to [-1, 1].
        explained: the share of the variance of the class means on the two axes.
        samples: [n] the id of an image of each class.
        superclasses: [n] the superclass of each class, or None.
    """

    classes: tuple[str, ...]
    points: Float[np.ndarray, "n 2"]
    explained: float
    samples: tuple[str, ...]
    superclasses: tuple[str, ...] | None


def class_map(features: VectorSet, max_classes: int = 2000, seed: int = 0) -> ClassMap:
    """Project the class means of pretrained features on their first two principal axes.

    The map is the same for all splits, so only the sides change from split to split. The sample
    of a class is the image closest to its mean. At most `max_classes` classes are drawn, selected
    at random.
    """
    means = features.class_means()
    centered = means - means.mean(axis=0)
    _, scale, axes = np.linalg.svd(centered, full_matrices=False)
    points = centered @ axes[:2].T
    if points.shape[1] < 2:
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
    positions = np.arange(len(splits))
    shifts = [split.shift for split in splits]
    sizes = [10 + 40 * len(split.train) / len(splits[0].train) for split in splits]
    axis.plot(positions, shifts, color=NEITHER, zorder=1)
    axis.scatter(positions, shifts, s=sizes, color=TEST, zorder=2, label=progression.procedure)
    every = max(1, len(positions) // 15)
    axis.set_xticks(positions[::every], [str(s.step) for s in splits][::every], rotation=45)
    axis.set(xlabel="Step", ylabel=SHIFT_LABEL)
    return figure


def progression_maps(
    progression: Progression,
    features: VectorSet,
    steps: Sequence[int | str] | None = None,
    umap: bool = False,
) -> "Figure":
    """Maps of the class means, colored by side, for some steps."""
    last = len(progression) - 1
    middle = np.unique(np.linspace(0, last, min(3, last + 1)).astype(int)).tolist()
    chosen = [progression.at(one) for one in steps] if steps else [progression[i] for i in middle]
    drawn = _class_positions(features, umap)
    figure, axes = _figure(len(chosen), (3.2 * len(chosen), 3.4))
    for axis, split in zip(axes, chosen, strict=True):
        colors = [SIDES[side][1] for side in class_sides(drawn, split)]
        axis.scatter(*drawn.points.T, c=colors, s=14, linewidths=0)
        axis.set_title(_split_title(split), fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_xlabel("blue: training classes, red: test classes", fontsize=9)
    return figure


def agreement_figure(agreement: Agreement) -> "Figure":
    """The normalized shift of the same splits under several networks."""
    figure, axes = _figure(1, (7.0, 4.0))
    positions = np.arange(len(agreement.steps))
    for name, shifts in zip(agreement.backbones, agreement.normalized, strict=True):
        axes[0].plot(positions, shifts, marker="o", markersize=4, label=name)
    axes[0].set_xticks(positions, [str(step) for step in agreement.steps], rotation=45)
    axes[0].set_ylabel("FID, rescaled to [0, 1] per network")
    axes[0].set_xlabel("Step")
    axes[0].legend(frameon=False)
    return figure


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a PNG, PDF, or SVG file, depending on the suffix."""
    target = Path(path)
    if target.suffix not in SUFFIXES:
        problem = f"suffix {target.suffix!r}; allowed: {', '.join(SUFFIXES)}"
        raise error_at(target, problem, target.suffix, SUFFIXES)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")


def progression_html(
    progression: Progression,
    features: VectorSet | None = None,
    pictures: Mapping[str, str] | None = None,
    plotly_js: bool | str = False,
    umap: bool = False,
) -> str:
    """An HTML fragment: shift per step, and a map of the classes with a slider over the steps.

    Args:
        features: the features of the images; without them there is no map.
        pictures: data URIs by image id, such as those of `thumbnails`. The picture of a class is
            shown when the pointer is over it.
        plotly_js: whether the fragment includes plotly's script, as in `plotly.io.to_html`.
        umap: compute positions with UMAP instead of principal axes.
    """
    from plotly.io import to_html

    name = progression.data or "Splits"
    parts = [f"<h1 style='font:600 1.4rem system-ui,sans-serif'>{escape(name)}</h1>"]
    line = _shift_line(progression)
    parts.append(to_html(line, full_html=False, include_plotlyjs=plotly_js))
    if features is not None:
        drawn = _class_positions(features, umap)
        shown = {name: uri for name, uri in (pictures or {}).items() if name in drawn.samples}
        script = asset("hover.js").replace("PICTURES", json.dumps(shown)) if shown else None
        slider = _map_with_slider(progression, drawn)
        parts.append(to_html(slider, full_html=False, include_plotlyjs=False, post_script=script))
    return "\n".join(parts)


def _shift_line(progression: Progression) -> Any:
    import plotly.graph_objects as go

    splits = progression.splits
    line = go.Figure(
        go.Scatter(
            x=[str(split.step) for split in splits],
            y=[split.shift for split in splits],
            mode="lines+markers",
            text=[f"{len(s.train)} training, {len(s.test)} test classes" for s in splits],
            hovertemplate="step %{x}: FID %{y:.4g}<br>%{text}<extra></extra>",
            marker={"color": TEST},
            line={"color": NEITHER},
        )
    )
    line.update_xaxes(type="category", title="Step")
    known = progression.shift_measure == "fid_class_means"
    line.update_yaxes(title=SHIFT_LABEL if known else progression.shift_measure)
    line.update_layout(
        template="simple_white", height=360, title="Shift of each split", margin={"t": 50}
    )
    return line


def _map_with_slider(progression: Progression, drawn: ClassMap) -> Any:
    import plotly.graph_objects as go

    splits = progression.splits
    figure = go.Figure()
    for number, split in enumerate(splits):
        for trace in _side_traces(drawn, split, visible=number == 0):
            figure.add_scatter(**trace)
    steps = [
        {
            "label": str(split.step),
            "method": "update",
            "args": [
                {"visible": [other == number for other in range(len(splits)) for _ in SIDES]},
                {"title.text": _split_title(split)},
            ],
        }
        for number, split in enumerate(splits)
    ]
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(
        template="simple_white",
        height=620,
        title=_split_title(splits[0]),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        sliders=[{"steps": steps, "currentvalue": {"prefix": "step "}}],
    )
    return figure


def _side_traces(drawn: ClassMap, split: Split, visible: bool) -> list[dict[str, Any]]:
    """One plotly trace per side, so that the sides have a legend."""
    sides = np.array(class_sides(drawn, split))
    superclasses = drawn.superclasses or ("",) * len(drawn.classes)
    details = np.array([superclasses, drawn.samples]).T
    names = np.array(drawn.classes)
    return [
        {
            "x": drawn.points[sides == side, 0],
            "y": drawn.points[sides == side, 1],
            "mode": "markers",
            "name": label,
            "visible": visible,
            "marker": {"color": color, "size": 7},
            "text": [f"{name} ({side or 'in neither'})" for name in names[sides == side]],
            "customdata": details[sides == side],
            "hovertemplate": "%{text}<br>%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        }
        for side, (label, color) in SIDES.items()
    ]


def _split_title(split: Split) -> str:
    return f"step {split.step}, FID {split.shift:.4g}"


def _class_positions(features: VectorSet, umap: bool) -> ClassMap:
    drawn = class_map(features)
    if not umap:
        return drawn
    try:
        from umap import UMAP
    except ImportError as error:
        problem = f"UMAP is not installed; run `{install_command('umap')}`, or use principal axes"
        raise OodmlError(problem, location="umap") from error
    rows = np.isin(features.class_names, drawn.classes)
    points: Float[np.ndarray, "n 2"] = UMAP(random_state=0, n_jobs=1).fit_transform(
        features.class_means()[rows]
    )
    centered = points - points.mean(axis=0)
    return replace(drawn, points=centered / np.abs(centered).max(), explained=0.0)


def _figure(columns: int, size: tuple[float, float]) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
