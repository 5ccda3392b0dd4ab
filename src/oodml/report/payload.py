"""The data that the page's figures draw, as JSON values."""

import math
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from oodml.analysis.formatting import is_percent
from oodml.analysis.structure import structure_metrics_of
from oodml.analysis.table import methods, metrics, ranked_metrics, standard_split
from oodml.evaluate.registry import find_metric
from oodml.report.class_map import ClassMap, class_map, class_sides
from oodml.report.examples import Examples, find_examples
from oodml.report.folder import StudyFolder
from oodml.report.style import method_styles
from oodml.report.thumbnails import thumbnails
from oodml.results.schema import baselines_of

EXAMPLE_PIXELS, MAP_PIXELS = 96, 48
EXAMPLE_BYTES, MAP_BYTES = 5_000_000, 2_000_000
MAX_EXAMPLE_IMAGES = 1200


def page_data(folder: StudyFolder, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The metrics, methods, series, map, examples, and images of a page.

    Args:
        folder: the study.
        tables: the result of `oodml.report.tables.tables`.
    """
    table = folder.table
    splits = tables["progression"]
    examples = _find_examples(folder, splits["split"].tolist())
    drawn = None if folder.features is None else class_map(folder.features)
    data = {
        "data": folder.data,
        "methods": _methods(folder),
        "baselines": sorted(baselines_of(table)),
        "metrics": {name: _metric(name) for name in metrics(table)},
        "ranked": ranked_metrics(table),
        "standard": standard_split(splits["split"]),
        "splits": _records(splits),
        "curves": _nested(tables["curves"], "metric", "method"),
        "seeds": _nested(tables["seeds"], "metric", "method"),
        "chance": _nested(tables["chance"], "metric"),
        "chance_ags": dict(tables["chance_ags"].to_numpy().tolist()),
        "ags": _nested(tables["ags"], "metric"),
        "ags_by_seed": _nested(tables["ags_by_seed"], "metric", "method"),
        "published": _nested(tables["published"], "metric", "method"),
        "few_shot": _nested(tables["few_shot"], "metric"),
        "compression": _nested(tables["compression"], "method"),
        "gains": _nested(tables["gains"], "method"),
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
    shown = [*_shown(_find_examples(folder, splits))] if splits else []
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


def _methods(folder: StudyFolder) -> list[dict[str, Any]]:
    baselines = baselines_of(folder.table)
    styles = method_styles(methods(folder.table), baselines)
    return [
        {"name": name, **styles[name]._asdict(), "baseline": name in baselines}
        for name in methods(folder.table)
    ]


def _metric(name: str) -> dict[str, Any]:
    metric = find_metric(name)
    return {
        "label": metric.label, "family": metric.family, "bounds": metric.bounds,
        "chance": metric.chance, "higher_is_better": metric.higher_is_better,
        "percent": is_percent(name),
    }  # fmt: skip


def _nested(table: pd.DataFrame, *keys: str) -> dict[str, Any] | list[dict[str, Any]]:
    """The rows of a table, grouped by some columns, which they no longer contain."""
    if not keys:
        return _records(table)
    if table.empty:
        return {}
    key, *rest = keys
    return {
        str(name): _nested(rows.drop(columns=key), *rest)
        for name, rows in table.groupby(key, sort=False)
    }


def _map(drawn: ClassMap, folder: StudyFolder) -> dict[str, Any]:
    splits = {str(split.step): split for split in folder.progression or ()}
    letters = {"train": "r", "test": "t", "": "-"}
    return {
        "classes": drawn.classes,
        "superclasses": drawn.superclasses,
        "x": drawn.points[:, 0],
        "y": drawn.points[:, 1],
        "explained": drawn.explained,
        "samples": drawn.samples,
        "sides": {
            name: "".join(letters[side] for side in class_sides(drawn, split))
            for name, split in splits.items()
        },
    }


def _find_examples(folder: StudyFolder, splits: list[str]) -> list[Examples]:
    """Examples of the easiest, hardest, and standard split, then of more, up to a size limit."""
    order = [splits[0], splits[-1], *filter(None, [standard_split(splits)]), *splits]
    chosen: list[Examples] = []
    for split in dict.fromkeys(order):
        examples = find_examples(folder, split)
        if examples is None:
            continue
        if len(chosen) > 1 and len(set(_shown([*chosen, examples]))) > MAX_EXAMPLE_IMAGES:
            break
        chosen.append(examples)
    return sorted(chosen, key=lambda one: splits.index(one.split))


def _shown(examples: list[Examples]) -> Iterable[str]:
    for one in examples:
        yield from one.queries
        for rows in one.neighbors.values():
            for row in rows:
                yield from row


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return records
