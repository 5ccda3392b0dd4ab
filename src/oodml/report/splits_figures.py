"""Pictures of splits: shift per step, where the classes lie, agreement of networks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from oodml.errors import OodmlError
from oodml.files import replacing
from oodml.report.class_map import ClassMap, class_map, sides
from oodml.shift.agreement import Agreement
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, TEST, NEITHER = "#2a6f97", "#d1495b", "#cccccc"
_COLOURS = {"train": TRAIN, "test": TEST, "": NEITHER}


def shift_per_step(
    progression: Progression, controls: Progression | None = None, chance: Progression | None = None
) -> "Figure":
    """FID of every split, sized by its classes; controls beside it and the range of chance."""
    figure, axes = _figure(1, 1, (7.0, 4.0))
    _draw_steps(axes[0][0], progression)
    _draw_controls(axes[0][0], progression, controls, chance)
    return figure


def progression_maps(
    progression: Progression,
    features: VectorSet,
    steps: Sequence[int | str] | None = None,
    umap: bool = False,
) -> "Figure":
    """Class means in two dimensions, coloured by side, for some steps (first, middle, last)."""
    chosen = [progression.at(step) for step in steps] if steps else _spread(progression)
    found = _placed(features, umap)
    figure, axes = _figure(1, len(chosen), (3.2 * len(chosen), 3.4))
    for place, split in zip(axes[0], chosen, strict=True):
        colours = [_COLOURS[side] for side in sides(found, split)]
        place.scatter(*found.points.T, c=colours, s=14, linewidths=0)
        place.set_title(f"step {split.step}, FID {split.shift:.4g}", fontsize=10)
        place.set_xticks([])
        place.set_yticks([])
    axes[0][0].set_xlabel("blue: train, red: test", fontsize=9)
    return figure


def agreement_figure(agreement: Agreement) -> "Figure":
    """Normalised FID of the same splits under several networks."""
    figure, axes = _figure(1, 1, (7.0, 4.0))
    places = np.arange(len(agreement.steps))
    for name, shifts in zip(agreement.backbones, agreement.normalized, strict=True):
        axes[0][0].plot(places, shifts, marker="o", markersize=4, label=name)
    axes[0][0].set_xticks(places, [str(step) for step in agreement.steps], rotation=45)
    axes[0][0].set_ylabel("FID, from 0 to 1 for each network")
    axes[0][0].set_xlabel("step")
    axes[0][0].legend(frameon=False)
    return figure


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure to .png, .pdf or .svg."""
    target = Path(path)
    if target.suffix not in (".png", ".pdf", ".svg"):
        raise OodmlError(f"{target}: suffix {target.suffix!r}; allowed: .png, .pdf, .svg")
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")


def progression_figure(
    progression: Progression,
    features: VectorSet | None = None,
    pictures: Mapping[str, str] | None = None,
    plotly_js: bool | str = False,
    umap: bool = False,
) -> str:
    """An HTML fragment: FID per step, and the class means with a slider over the steps.

    features: where the classes lie; without them only the FIDs are drawn.
    pictures: data URIs (data:image/…) by image id, e.g. from `thumbnails`, shown where the class
        that the image stands for is hovered over.
    plotly_js: whether the fragment brings plotly's script along, as in `plotly.io.to_html`.
    """
    import plotly.graph_objects as go
    from plotly.io import to_html

    steps, shifts = [str(s.step) for s in progression], [s.shift for s in progression]
    sizes = [f"{len(s.train)} train, {len(s.test)} test classes" for s in progression]
    line = go.Figure(
        go.Scatter(
            x=steps,
            y=shifts,
            mode="lines+markers",
            text=sizes,
            hovertemplate="step %{x}: FID %{y:.4g}<br>%{text}<extra></extra>",
            marker={"color": TEST},
            line={"color": NEITHER},
        )
    )
    line.update_xaxes(type="category", title="step")
    line.update_yaxes(title=progression.shift_measure)
    line.update_layout(template="simple_white", height=320, margin={"t": 20})
    parts = [to_html(line, full_html=False, include_plotlyjs=plotly_js)]
    if features is not None:
        found = _placed(features, umap)
        shown = {name: uri for name, uri in (pictures or {}).items() if name in found.samples}
        script = _HOVER.replace("PICTURES", json.dumps(shown)) if shown else None
        drawn = _map(progression, found)
        parts.append(to_html(drawn, full_html=False, include_plotlyjs=False, post_script=script))
    return "\n".join(parts)


# Plotly's own labels hold no images, so the picture of the hovered class is laid over the map.
_HOVER = """
const map = document.getElementById('{plot_id}');
const pictures = PICTURES;
const shown = document.createElement('img');
shown.alt = '';
shown.style.cssText = 'position:fixed;display:none;width:96px;pointer-events:none;z-index:9;'
  + 'border:1px solid #999;background:#fff';
document.body.appendChild(shown);
map.on('plotly_hover', event => {
  const picture = pictures[event.points[0].customdata[1]];
  if (!picture) return;
  shown.src = picture;
  shown.style.left = event.event.clientX + 16 + 'px';
  shown.style.top = event.event.clientY + 16 + 'px';
  shown.style.display = 'block';
});
map.on('plotly_unhover', () => { shown.style.display = 'none'; });
"""


def _map(progression: Progression, found: ClassMap) -> Any:
    import plotly.graph_objects as go

    superclasses = found.superclasses or ("",) * len(found.classes)
    about = np.array([superclasses, found.samples]).T
    figure = go.Figure()
    for number, split in enumerate(progression):
        side = sides(found, split)
        figure.add_scatter(
            x=found.points[:, 0],
            y=found.points[:, 1],
            mode="markers",
            visible=number == 0,
            marker={"color": [_COLOURS[name] for name in side], "size": 7},
            text=[
                f"{name} ({place or 'in neither'})"
                for name, place in zip(found.classes, side, strict=True)
            ],
            customdata=about,
            hovertemplate="%{text}<br>%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        )
    shown = [
        {
            "label": str(split.step),
            "method": "update",
            "args": [
                {"visible": [other == number for other in range(len(progression))]},
                {"title.text": f"step {split.step}, FID {split.shift:.4g}"},
            ],
        }
        for number, split in enumerate(progression)
    ]
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(
        template="simple_white",
        height=520,
        title=f"step {progression[0].step}, FID {progression[0].shift:.4g}",
        showlegend=False,
        sliders=[{"steps": shown, "currentvalue": {"prefix": "step "}}],
    )
    return figure


def _placed(features: VectorSet, umap: bool) -> ClassMap:
    """The class means on principal axes, or by UMAP where it is wanted and installed."""
    found = class_map(features)
    if not umap:
        return found
    try:
        from umap import UMAP
    except ImportError as error:
        raise OodmlError("UMAP is not installed; pip install 'oodml[umap]', or use PCA") from error
    kept = np.isin(features.class_names, found.classes)
    points: Float[np.ndarray, "n 2"] = UMAP(random_state=0, n_jobs=1).fit_transform(
        features.class_means()[kept]
    )
    centred = points - points.mean(axis=0)
    return replace(found, points=centred / np.abs(centred).max(), explained=0.0)


def _spread(progression: Progression) -> list[Split]:
    places = np.unique(np.linspace(0, len(progression) - 1, min(3, len(progression))).astype(int))
    return [progression[int(place)] for place in places]


def _draw_steps(axes: "Axes", progression: Progression) -> None:
    places = np.arange(len(progression))
    axes.plot(places, [split.shift for split in progression], color=NEITHER, zorder=1)
    axes.scatter(
        places,
        [split.shift for split in progression],
        s=[10 + 40 * len(split.train) / len(progression[0].train) for split in progression],
        color=TEST,
        zorder=2,
        label=progression.procedure,
    )
    every = max(1, len(places) // 15)
    axes.set_xticks(places[::every], [str(s.step) for s in progression][::every], rotation=45)
    axes.set_xlabel("step")
    axes.set_ylabel("FID of class means")


def _draw_controls(
    axes: "Axes",
    progression: Progression,
    controls: Progression | None,
    chance: Progression | None,
) -> None:
    if chance is not None:
        shifts = [split.shift for split in chance]
        axes.axhspan(min(shifts), max(shifts), color=NEITHER, alpha=0.5, label="random splits")
    place = {str(split.step): number for number, split in enumerate(progression)}
    dots = [
        (place[of], split.shift)
        for split in controls or ()
        if (of := str(split.step).split(" control ")[0]) in place
    ]
    if dots:
        axes.scatter(*zip(*dots, strict=True), marker="x", color=TRAIN, label="same size, no shift")
    if chance is not None or dots:
        axes.legend(frameon=False)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.spines[["top", "right"]].set_visible(False)
    return figure, axes
