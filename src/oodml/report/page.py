"""The report page: one HTML file that needs no network."""

import json
from collections.abc import Hashable, Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

from oodml import __version__
from oodml.analysis.controls import size_effects
from oodml.analysis.epoch_gap import epoch_gap
from oodml.analysis.findings import findings
from oodml.analysis.ranking import beat_probability, compare_methods, ranks, share_won
from oodml.analysis.structure import structure_correlations
from oodml.analysis.table import is_quality, metrics, shifts, standard_split, trained
from oodml.report.answer import answer, label
from oodml.report.folder import StudyFolder
from oodml.report.forecast import left_out_forecasts, told
from oodml.report.payload import page_data
from oodml.report.series import chance_ags, chance_levels


def page(folder: StudyFolder) -> str:
    """The whole page as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "label": label, "number": _number, "duration": duration, "told": told
    }  # fmt: skip
    template = environment.from_string(_asset("template.html"))
    return template.render(**page_values(folder))


def page_values(folder: StudyFolder) -> dict[str, Any]:
    """What the template is filled with."""
    table = folder.table
    quality = [name for name in metrics(table) if is_quality(name)] or metrics(table)
    main = quality[0]
    order = shifts(table)
    zero_shot = table[table["stage"] == "zero_shot"]
    left_out = left_out_forecasts(folder, main)
    scores = chance_ags(table, chance_levels(folder))
    return {
        "data": folder.data,
        "answer": answer(table, folder.data, main, scores.get(main)),
        "main": main,
        "metrics": quality,
        "rankings": {metric: _ranking(table, metric) for metric in quality},
        "findings": findings(table, main, _backbones(folder)),
        "correlations": structure_correlations(trained(table), main).to_dict("records"),
        "shift": order,
        "standard": standard_split(order.index),
        "seeds": sorted(zero_shot["seed"].unique().tolist()),
        "has_few_shot": bool((table["stage"] == "after").any()),
        "controls": _controls(folder, main),
        "chance": scores,
        "epochs": epoch_gap(trained(table), main).to_dict("records"),
        "refit": any((run.get("train") or {}).get("refit") for run in folder.runs.values()),
        "search": folder.search,
        "left_out": left_out,
        "runs": _runs(folder),
        "settings": folder.settings,
        "failed": folder.failed,
        "notes": folder.notes,
        "progression": folder.progression,
        "folder": folder.path.resolve().name,
        "version": __version__,
        "payload": _script_safe(json.dumps(page_data(folder, left_out), separators=(",", ":"))),
        "plotly": _plotly(),
        "css": _asset("page.css"),
        "scripts": [_asset(name) for name in ("figures.js", "page.js")],
    }


def _ranking(table: pd.DataFrame, metric: str) -> dict[str, Any]:
    order = compare_methods(table, metric)
    names = order["method"].tolist()
    several = shifts(table).nunique() > 1
    return {
        "rows": order.to_dict("records"),
        "names": names,
        "beats": beat_probability(table, metric) if several else None,
        "won": share_won(table, metric),
        "ranks": ranks(table, metric).loc[names],
    }


def _controls(folder: StudyFolder, metric: str) -> list[dict[Hashable, Any]]:
    if folder.controls is None:
        return []
    return size_effects(folder.controls, metric).to_dict("records")


def _backbones(folder: StudyFolder) -> dict[str, str]:
    found = {}
    for run in folder.runs.values():
        model = run.get("model") or {}
        if "backbone" in model:
            found[str(run.get("label", run.get("method")))] = str(model["backbone"])
    return found


def _runs(folder: StudyFolder) -> dict[str, Any]:
    named = folder.table.drop_duplicates(["run", "method", "split"])
    named = named.sort_values(["method", "seed", "shift"])[["run", "method", "split", "seed"]]
    rows = [
        {**row, "id": row["run"], **_cost(folder.runs[row["run"]])}
        for row in named.to_dict("records")
        if row["run"] in folder.runs
    ]
    total = sum({row["id"]: row["seconds"] or 0.0 for row in rows}.values())
    by_method: dict[str, float] = {}
    for row in rows:
        by_method[row["method"]] = by_method.get(row["method"], 0.0) + (row["seconds"] or 0.0)
    settings = {row["method"]: row["settings"] for row in rows}
    return {"rows": rows, "total": total, "by_method": by_method, "settings": settings}


def _cost(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "seconds": run.get("seconds"),
        "host": str(run.get("host", "")),
        "settings": json.dumps(run, indent=1, sort_keys=True, default=str),
    }


def duration(seconds: float | None) -> str:
    """A time as one reads it: 0.4 s, 12 s, 3 min 20 s, 5 h 02 min."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    if value is None or value != value:
        return "–"
    text = f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "−")


def _asset(name: str) -> str:
    return files("oodml.report").joinpath("assets", name).read_text("utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _script_safe(text: str) -> str:
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
