"""A static page that ranks the methods of any number of packed studies."""

import json
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from oodml import __version__
from oodml.analysis.paper_results import METRIC, published_results
from oodml.analysis.ranking import compare_methods
from oodml.errors import OodmlError
from oodml.files import write_text
from oodml.report.answer import answer
from oodml.report.folder import StudyFolder, read_folder
from oodml.report.page import page_environment
from oodml.report.style import asset
from oodml.report.tables import select, tables
from oodml.results.schema import Stage
from oodml.share.merge import merge_studies
from oodml.share.pack import SUFFIX, open_pack
from oodml.study.spec.shipped import shipped_studies

REFERENCE = "read off a figure of the paper, ±0.001 to ±0.003"
_NO_COST: dict[str, Any] = {"seconds": None, "devices": (), "parameters": None, "settings": None}


class Entry(NamedTuple):
    """A pack: its file name, its manifest, and the folder that it is opened in."""

    name: str
    manifest: Mapping[str, Any]
    folder: Path


def write_leaderboard(packs: Sequence[str | Path], out: str | Path) -> Path:
    """Write `index.html`, which needs no network, and copies of the packs; return its path.

    Packs of the same images and splits become one ranking. The paper's curves are added as
    references; they have no interval. `packs` may be folders with packs at any depth.
    """
    target = Path(out)
    named = [Path(path) for path in packs]
    listed = {f for path in named for f in ([path] if path.is_file() else path.rglob(f"*{SUFFIX}"))}
    files = sorted(file for file in listed if target.resolve() not in file.resolve().parents)
    if not files:
        problem = f"{named[0]}: no packs; `oodml study pack` writes them"
        raise OodmlError(problem, location=str(named[0]))
    (target / "packs").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        groups: dict[tuple[str, ...], list[Entry]] = {}
        for number, file in enumerate(files):
            manifest = open_pack(file, root / str(number))
            name = f"{manifest['hash'][:8]}-{file.name}"
            shutil.copyfile(file, target / "packs" / name)
            key = (manifest["data"], manifest["fingerprint"], manifest["splits"])
            groups.setdefault(key, []).append(Entry(name, manifest, root / str(number)))
        boards = [_board(group, root / f"joined-{n}") for n, group in enumerate(groups.values())]
        boards += [_reference_board(data) for data in published_results()["fid"]]
    page = page_environment().from_string(asset("leaderboard.html"))
    values = {"boards": boards, "version": __version__, "reference": REFERENCE}
    write_text(target / "index.html", page.render(**values, css=asset("page.css")))
    return target / "index.html"


def _board(entries: Sequence[Entry], folder: Path) -> dict[str, Any]:
    merge = merge_studies([entry.folder for entry in entries], folder)
    study = read_folder(folder)
    computed = tables(study)
    ranked = [str(name) for name in computed["ags"]["metric"].unique()]
    owners: dict[str, list[Entry]] = {run.label: [] for run in merge.runs.values()}
    for run in merge.runs.values():
        for entry in entries:
            if (entry.folder / "runs" / run.id).is_dir() and entry not in owners[run.label]:
                owners[run.label].append(entry)
    costs, shift = _costs(study), study.table["shift"]
    return {
        "id": f"{study.data}-{entries[0].manifest['splits'][:8]}", "data": study.data,
        "headline": {name: answer(computed, study.data, name).headline for name in ranked},
        "metrics": ranked,
        "rows": {name: _rows(select(computed, "ags", name), costs, owners) for name in ranked},
        "splits": study.table["split"].nunique(), "shift": (float(shift.min()), float(shift.max())),
        "entries": entries, "contradictions": merge.contradictions, "reference": False,
    }  # fmt: skip


def _rows(
    scores: pd.DataFrame, costs: Mapping[str, Mapping[str, Any]], owners: Mapping[str, list[Entry]]
) -> list[dict[str, Any]]:
    """The rows of a ranking, with the gain over the best baseline near and far, and the cost."""
    baselines = scores[~scores["trains"].astype(bool)]
    near, far = baselines["easiest"].max(), baselines["hardest"].max()  # NaN without baselines
    frame = scores.assign(near=scores["easiest"] - near, far=scores["hardest"] - far)
    frame.loc[~frame["trains"].astype(bool), ["near", "far"]] = float("nan")
    records: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    for row in records:
        cost = {**_NO_COST, **costs.get(row["method"], {})}
        row.update(cost, entries=owners.get(row["method"], []))
    return records


def _costs(study: StudyFolder) -> dict[str, dict[str, Any]]:
    costs: dict[str, dict[str, Any]] = {}
    labels = {run.id: run.label for run in study.plan.runs}
    for name, run in study.runs.items():
        cost = costs.setdefault(labels.get(name, ""), {"seconds": 0.0, "devices": set()})
        cost["seconds"] += float(run.get("seconds") or 0.0)
        cost["devices"].add(str((run.get("hardware") or {}).get("device", "unknown device")))
        cost["settings"] = json.dumps(run, indent=1, sort_keys=True)
    training = study.table[study.table["stage"] == Stage.TRAINING]
    counts = training[training["metric"] == "parameters"].groupby("method")["value"].max()
    for method, count in counts.items():
        costs.setdefault(str(method), {})["parameters"] = int(count)
    return costs


def _reference_board(data: str) -> dict[str, Any]:
    """The paper's curves of a dataset as a ranking, each a single value per split."""
    results = published_results()
    shift = results["fid"][data]
    paper = tomllib.loads(shipped_studies()[f"paper_zero_shot_{data}"])
    steps = [str(step) for step in paper["splits"]["steps"]]
    rows = [
        (method, 0, step, fid, value, METRIC, Stage.ZERO_SHOT, True)
        for method, curve in results["recall_at_1"][data].items()
        for step, fid, value in zip(steps, shift, curve, strict=True)
    ]
    columns = ["method", "seed", "split", "shift", "value", "metric", "stage", "trains"]
    scores = compare_methods(pd.DataFrame(rows, columns=columns), METRIC)
    best = scores.iloc[0]
    headline = f"In the paper, {best['method']} has the highest AGS on {data}, {best['ags']:.3f}."
    return {
        "id": f"paper-{data}", "data": data, "headline": {METRIC: headline}, "metrics": [METRIC],
        "rows": {METRIC: _rows(scores.assign(shared_rank=scores["rank"]), {}, {})},
        "splits": len(steps), "shift": (min(shift), max(shift)), "entries": [],
        "contradictions": [], "reference": True,
    }  # fmt: skip
