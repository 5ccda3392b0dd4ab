"""Everything the page draws, as JSON values."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from oodml.analysis.few_shot import few_shot_gains
from oodml.analysis.published import published_curve, published_results
from oodml.analysis.ranking import compare_methods
from oodml.analysis.structure import structure_metrics_of, structure_points
from oodml.analysis.table import BASELINE, is_quality, methods, metrics
from oodml.errors import OodmlError
from oodml.report.class_map import ClassMap, class_map, sides
from oodml.report.folder import StudyFolder
from oodml.report.forecast import LeftOut
from oodml.report.gallery import Gallery, gallery
from oodml.report.series import chance_ags, chance_levels, curves, image_counts, split_sizes
from oodml.report.style import looks
from oodml.report.thumbnails import thumbnails

GALLERY_PIXELS, MAP_PIXELS = 96, 48
GALLERY_BYTES, MAP_BYTES = 5_000_000, 2_000_000
GALLERY_IMAGES = 1200


def page_data(folder: StudyFolder, left_out: Iterable[LeftOut]) -> dict[str, Any]:
    """The data of the page's figures: split order, series a metric, map, galleries, images.

    left_out: the forecasts of what was left out, as `left_out_forecasts` gives them.
    """
    table = folder.table
    names = methods(table)
    levels = chance_levels(folder)
    counts = image_counts(folder.images or folder.features)
    sizes = split_sizes(table, folder.progression, counts)
    galleries = _galleries(folder, sizes["split"].tolist())
    found_map = None if folder.features is None else class_map(folder.features)
    quality = [name for name in metrics(table) if is_quality(name)]
    data = {
        "data": folder.data,
        "methods": _methods(names),
        "metrics": quality,
        "splits": _records(sizes),
        "curves": {metric: _by_method(curves(table, metric)) for metric in metrics(table)},
        "chance": levels,
        "chance_ags": chance_ags(table, levels),
        "ags": {metric: _records(compare_methods(table, metric)) for metric in quality},
        "published": _published(folder.data, names),
        "few_shot": {metric: _records(few_shot_gains(table, metric)) for metric in quality},
        "forecast": {found.kind: _by_measure(found) for found in left_out},
        "structure": _structure(table, quality),
        "map": None if found_map is None else _map(found_map, folder),
        "galleries": [_gallery(found) for found in galleries],
        "images": thumbnails(folder.images, _shown(galleries), GALLERY_PIXELS, GALLERY_BYTES),
        "samples": thumbnails(
            folder.images, found_map.samples if found_map else (), MAP_PIXELS, MAP_BYTES
        ),
    }
    return plain(data)  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """The value with numbers of six digits, and null for what is not a number."""
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


def _methods(names: list[str]) -> list[dict[str, Any]]:
    found = looks(names)
    return [{"name": name, **found[name]._asdict(), "baseline": name == BASELINE} for name in names]


def _by_method(frame: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    return {
        str(method): _records(rows.drop(columns="method"))
        for method, rows in frame.groupby("method")
    }


def _by_measure(left_out: LeftOut) -> dict[str, list[dict[str, Any]]]:
    unused = ["measure", "group", "widening_80", "widening_95", "others_error"]
    drawn = left_out.drawn().items()
    return {measure: _records(rows.drop(columns=unused)) for measure, rows in drawn}


def _published(data: str, names: list[str]) -> dict[str, dict[str, list[float]]]:
    if data not in published_results()["fid"]:
        return {}
    found = {}
    for name in names:
        try:
            shift, value = published_curve(data, name)
        except OodmlError:
            continue
        found[name] = {"shift": shift, "value": value}
    return found


def _structure(table: pd.DataFrame, quality: list[str]) -> dict[str, list[dict[str, Any]]]:
    if not quality:
        return {}
    return {
        measure: _records(structure_points(table, measure, quality[0]))
        for measure in structure_metrics_of(table)
    }


def _map(found: ClassMap, folder: StudyFolder) -> dict[str, Any]:
    splits = {str(split.step): split for split in folder.progression or ()}
    present = set(folder.table["split"])
    letters = {"train": "r", "test": "t", "": "-"}
    return {
        "classes": found.classes,
        "superclasses": found.superclasses,
        "x": found.points[:, 0],
        "y": found.points[:, 1],
        "explained": found.explained,
        "samples": found.samples,
        "sides": {
            name: "".join(letters[side] for side in sides(found, split))
            for name, split in splits.items()
            if name in present
        },
    }


def _galleries(folder: StudyFolder, splits: list[str]) -> list[Gallery]:
    """Of the easiest, hardest and standard split, then of more, until enough images are shown."""
    middle = [split for split in splits if split == "0"] + splits
    found: list[Gallery] = []
    for split in dict.fromkeys([splits[0], splits[-1], *middle]):
        one = gallery(folder, split)
        if one is None:
            continue
        if len(found) > 1 and len(set(_shown([*found, one]))) > GALLERY_IMAGES:
            break
        found.append(one)
    return sorted(found, key=lambda one: splits.index(one.split))


def _gallery(found: Gallery) -> dict[str, Any]:
    return {
        "split": found.split,
        "queries": found.queries,
        "query_classes": found.query_classes,
        "neighbours": found.neighbours,
        "classes": found.classes,
    }


def _shown(galleries: list[Gallery]) -> Iterable[str]:
    for found in galleries:
        yield from found.queries
        for rows in found.neighbours.values():
            for row in rows:
                yield from row


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return records
