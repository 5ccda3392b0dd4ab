"""A small page about drift: the chart over files, and example images of new clusters."""

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path

from oodml.decisions.drift import Drift
from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.report.decision_figures import png_axes
from oodml.report.style import LIGHT
from oodml.report.thumbnails import thumbnails

EXAMPLES = 8
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Drift against {{ index }}</title><style>body{font:16px/1.5 sans-serif;margin:2rem auto;
max-width:46rem;padding:0 1rem}img{max-width:100%}.row img{height:72px;margin:2px}
td,th{text-align:left;padding:.2rem .8rem .2rem 0}code{margin-right:.6rem}</style></head><body>
<h1>{{ farther }} of {{ results|length }} files {{ "is" if farther == 1 else "are" }} farther from
{{ index }} than chance</h1>
<img alt="Drift of each file" src="data:image/png;base64,{{ chart }}">
<p>Above 1, the new images are farther from the index than random images of both (95% level).</p>
<table><tr><th>File</th><th>Drift</th><th>p</th><th>New clusters</th></tr>
{% for name, one in results.items() %}<tr><td>{{ name }}</td><td>{{ "%.2f"|format(one.value) }}</td>
<td>{{ "%.3g"|format(one.p) }}</td><td>{{ one.clusters|length }}</td></tr>{% endfor %}</table>
{% for name, one in results.items() if one.clusters %}<h2>New clusters in {{ name }}</h2>
{% for cluster in one.clusters[:12] %}<h3>{{ cluster|length }} images</h3><p class="row">
{% for id in cluster[:limit] %}{% if id in images %}<img src="{{ images[id] }}" alt="{{ id }}"
title="{{ id }}">{% else %}<code>{{ id }}</code>{% endif %}{% endfor %}</p>{% endfor %}{% endfor %}
</body></html>
"""


def write_drift_page(
    path: Path, index: str, results: Mapping[str, Drift], images: ImageSet | None
) -> None:
    """Write the page of some files of new vectors.

    Args:
        results: the drift of each file.
        images: the images that the ids name, or None to show ids.
    """
    from jinja2 import Environment

    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / "chart.png"
        with png_axes(chart, 6) as axes:
            colors = [LIGHT[1] if one.p <= 0.05 else LIGHT[0] for one in results.values()]
            axes.bar([*results], [one.value for one in results.values()], color=colors)
            axes.axhline(1, color="#333333", linewidth=0.8, linestyle="--")
            axes.set(ylabel="Drift, relative to chance")
            axes.tick_params(axis="x", rotation=30)
        encoded = base64.b64encode(chart.read_bytes()).decode()
    shown = [
        name for one in results.values() for group in one.clusters for name in group[:EXAMPLES]
    ]
    write_text(
        path,
        Environment(autoescape=True)
        .from_string(_PAGE)
        .render(
            index=index,
            results=results,
            farther=sum(one.p <= 0.05 for one in results.values()),
            chart=encoded,
            images=thumbnails(images, shown, 96, 2_000_000),
            limit=EXAMPLES,
        ),
    )
