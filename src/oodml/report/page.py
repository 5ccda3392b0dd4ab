"""The report page: one HTML file that needs no network, with the data that its figures draw."""

import json
import math
from base64 import b64decode
from collections.abc import Iterable, Mapping
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any

import pandas as pd

from oodml import __version__, catalog
from oodml.analysis import formatting
from oodml.analysis.diagnostics import structure_metrics_of
from oodml.analysis.table import methods, metrics, ranked_metrics, shifts, standard_split
from oodml.evaluate.registry import find_metric
from oodml.progress import count_noun, format_duration
from oodml.report.answer import answer
from oodml.report.examples import Examples, find_examples, thumbnails
from oodml.report.failure_tables import page_failures
from oodml.report.folder import StudyFolder
from oodml.report.gain_tables import describe_losses
from oodml.report.paper import MIN_BAND_SEEDS
from oodml.report.splits_figures import ClassMap, class_map, class_sides
from oodml.report.style import asset, method_styles
from oodml.report.tables import select
from oodml.results.schema import Stage, baselines_of

if TYPE_CHECKING:
    from jinja2 import Environment


PUBLISHED_DATA = ("cars196", "cub200", "online_products")
"""Datasets of the paper, for which its conclusions are shown unfolded."""
SAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<\u2028\u2029"}
"""Letters that would end the script, or a line of it."""
EXAMPLE_PIXELS, MAP_PIXELS = 96, 48
EXAMPLE_BYTES, MAP_BYTES = 5_000_000, 2_000_000
MAX_EXAMPLE_IMAGES = 1200


def page(folder: StudyFolder, tables: Mapping[str, pd.DataFrame]) -> str:
    """The page of a study."""
    template = page_environment().from_string(asset("template.html"))
    return template.render(**_page_values(folder, tables))


def page_environment() -> "Environment":
    """The template environment of pages: everything is escaped, and numbers have filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("oodml.report", "assets"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    names = ("number", "percent", "level", "difference")
    environment.filters |= {name: getattr(formatting, f"format_{name}") for name in names}
    environment.filters |= {
        "label": lambda name: find_metric(name).label,
        "level_interval": _level_interval,
        "shift_limit": lambda shift: "none" if shift == inf else formatting.format_number(shift, 2),
        "difference_interval": lambda row, name, metric: formatting.format_interval(
            row[f"{name}_low"], row[f"{name}_high"], metric, difference=True
        ),
        "duration": format_duration,
        "listed": formatting.format_list,
        "counted": count_noun,
    }
    return environment


def _page_values(folder: StudyFolder, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    from plotly.offline import get_plotlyjs

    table, ranked = folder.table, ranked_metrics(folder.table)
    order, baselines = shifts(table), sorted(baselines_of(table))
    candidates = () if baselines else catalog.names("methods")
    parts = ("data", "settings", "failed", "notes", "progression")
    listed = ("findings", "structure", "controls", "few_shot", "open_set", "compression", "losses")
    return {
        **{name: getattr(folder, name) for name in parts},
        **{name: _records(tables[name]) for name in (*listed, "trial")},
        "smoke": folder.plan.smoke, "search": folder.plan.search, "main": ranked[0],
        "answers": {metric: answer(tables, folder.data, metric) for metric in ranked},
        "rankings": {metric: _ranking(tables, metric) for metric in ranked},
        "metrics": ranked, "baselines": baselines,
        "untrained": [name for name in candidates if not catalog.get_class("methods", name).trains],
        "shift": order, "standard": standard_split(order.index),
        "seeds": sorted(table.loc[table["stage"] == Stage.ZERO_SHOT, "seed"].unique().tolist()),
        "chance": dict(tables["chance_ags"].to_numpy().tolist()),
        "chance_of": {metric: find_metric(metric).chance for metric in ranked},
        "failing": page_failures(folder, tables), "failures": folder.failures(),
        "near_far": _records(select(tables, "near_and_far", ranked[0])),
        "epochs": _records(tables["best_test_epoch_diagnostic"]),
        "published_data": folder.data in PUBLISHED_DATA,
        "refit": any((run.get("train") or {}).get("refit") for run in folder.runs.values()),
        "level_and_gain": describe_losses(tables["losses"]),
        "further": _records(select(tables, "test_data", ranked[0])),
        "runs": _runs(folder, tables["runs"]),
        "folder": folder.path.resolve().name, "version": __version__,
        "payload": json.dumps(page_data(folder, tables), separators=(",", ":")).translate(SAFE),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "css": asset("page.css"),
        "scripts": [asset(name) for name in ("figures.js", "decisions.js", "page.js")],
    }  # fmt: skip


def _level_interval(row: Mapping[str, Any], name: str, metric: str) -> str:
    """The interval of a level, or the reason why it has none."""
    if row[f"{name}_low"] == row[f"{name}_low"]:
        return formatting.format_interval(row[f"{name}_low"], row[f"{name}_high"], metric)
    if not row["trains"]:
        return "not trained"
    return "one seed" if row["seeds"] < 2 else "no interval"


def _ranking(tables: Mapping[str, pd.DataFrame], metric: str) -> dict[str, Any]:
    order, pairs, ranks = (select(tables, name, metric) for name in ("ags", "pairs", "ranks"))
    order = order.assign(has_interval=order["ags_low"].notna())
    known = pairs["probability"].notna()
    trains = order.set_index("method")["trains"].to_dict()
    return {
        "rows": order.to_dict("records"),
        "names": order["method"].tolist(),
        "splits": ranks["split"].unique().tolist(),
        "ranks": _cells(ranks, "split", "rank"),
        "separated": _cells(ranks, "split", "separated"),
        "beats": _cells(pairs[known], "other", "probability"),
        "has_order": bool((known & pairs["method"].map(trains).astype(bool)).any()),
    }


def _cells(rows: pd.DataFrame, column: str, value: str) -> dict[tuple[str, str], Any]:
    return dict(zip(zip(rows["method"], rows[column], strict=True), rows[value], strict=True))


def _runs(folder: StudyFolder, runs: pd.DataFrame) -> dict[str, Any]:
    seconds = runs["seconds"].fillna(0.0)
    last = dict(zip(runs["method"], runs["run"], strict=True))
    return {
        "rows": _records(runs),
        "total": float(seconds.sum()),
        "by_method": seconds.groupby(runs["method"]).sum().to_dict(),
        "settings": {
            method: json.dumps(folder.runs[run], indent=1, sort_keys=True, default=str)
            for method, run in last.items()
        },
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return records


def page_data(folder: StudyFolder, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The metrics, methods, series, map, examples, and images of a page."""
    table, baselines = folder.table, baselines_of(folder.table)
    splits, seeds = tables["progression"], tables["seeds"]
    by_method = ("curves", "ags_by_seed", "published")
    few = tables["curves"].loc[tables["curves"]["n"] < MIN_BAND_SEEDS, "method"]
    examples = _find_examples(folder, splits["split"].tolist())
    drawn = None if folder.features is None else class_map(folder.features)
    data = {
        "data": folder.data,
        "methods": [
            {"name": name, **style._asdict(), "baseline": name in baselines}
            for name, style in method_styles(methods(table), baselines).items()
        ],
        "baselines": sorted(baselines),
        "metrics": {name: _metric(name) for name in metrics(table)},
        "ranked": ranked_metrics(table),
        "standard": standard_split(splits["split"]),
        "splits": _records(splits),
        **{name: _nested(tables[name], "metric", "method") for name in by_method},
        **{name: _nested(tables[name], "metric") for name in ("chance", "ags", "few_shot")},
        **{name: _nested(tables[name], "method") for name in ("compression", "gains")},
        "seeds": _nested(seeds[seeds["method"].isin(few)], "metric", "method"),
        "chance_ags": dict(tables["chance_ags"].to_numpy().tolist()),
        "structure_measures": structure_metrics_of(table),
        "structure": _nested(tables["structure_points"], "measure"),
        "map": None if drawn is None else _map(drawn, folder),
        "examples": [vars(one) for one in examples],
        "images": thumbnails(folder.images, _shown(examples), EXAMPLE_PIXELS, EXAMPLE_BYTES),
        "samples": thumbnails(folder.images, drawn.samples if drawn else (), MAP_PIXELS, MAP_BYTES),
    }
    return plain(data)  # type: ignore[no-any-return]


def report_thumbnails(folder: StudyFolder) -> dict[str, bytes]:
    """The pictures that the page of a study shows, as WebP files by image id."""
    splits = [] if folder.progression is None else [str(one.step) for one in folder.progression]
    shown = _shown(_find_examples(folder, splits)) if splits else []
    if folder.features is not None:
        shown += class_map(folder.features).samples
    uris = thumbnails(folder.images, shown, EXAMPLE_PIXELS, EXAMPLE_BYTES + MAP_BYTES)
    return {name: b64decode(uri.partition(",")[2]) for name, uri in uris.items()}


def plain(value: Any) -> Any:
    """The value as JSON: numbers with six digits, null for what is not a finite number."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if value is pd.NA:
        return None
    if isinstance(value, Iterable):
        return [plain(entry) for entry in value]
    if float(value) == int(value) if math.isfinite(value) else False:
        return int(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _metric(name: str) -> dict[str, Any]:
    metric, keys = find_metric(name), ("label", "family", "bounds", "chance", "higher_is_better")
    return {key: getattr(metric, key) for key in keys} | {"percent": formatting.is_percent(name)}


def _nested(table: pd.DataFrame, key: str, *others: str) -> dict[str, Any]:
    """The rows of a table, grouped by one or two columns, which they no longer contain."""
    groups: dict[str, Any] = {}
    for row in _records(table):
        name, *names = [str(row.pop(column)) for column in (key, *others)]
        rows = groups.setdefault(name, {} if names else [])
        (rows.setdefault(names[0], []) if names else rows).append(row)
    return groups


def _map(drawn: ClassMap, folder: StudyFolder) -> dict[str, Any]:
    letters = {"train": "r", "test": "t", "": "-"}
    sides = {
        str(split.step): "".join(letters[side] for side in class_sides(drawn, split))
        for split in folder.progression or ()
    }
    values = {name: value for name, value in vars(drawn).items() if name != "points"}
    return values | dict(zip("xy", drawn.points.T, strict=True)) | {"sides": sides}


def _find_examples(folder: StudyFolder, splits: list[str]) -> list[Examples]:
    """Examples of the easiest, hardest, and standard split, then of more, up to a size limit."""
    order = [splits[0], splits[-1], *filter(None, [standard_split(splits)]), *splits]
    chosen: list[Examples] = []
    for split in dict.fromkeys(order):
        if examples := find_examples(folder, split):
            if len(chosen) > 1 and len(set(_shown([*chosen, examples]))) > MAX_EXAMPLE_IMAGES:
                break
            chosen.append(examples)
    return sorted(chosen, key=lambda one: splits.index(one.split))


def _shown(examples: list[Examples]) -> list[str]:
    """The ids of the queries and neighbors."""
    rows = [row for one in examples for row in (one.queries, *chain(*one.neighbors.values()))]
    return [*chain(*rows)]
