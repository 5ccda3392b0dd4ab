"""The folders that `oodml push` uploads: a model or splits, each with a card."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, error_at, unknown
from oodml.results.plan import read_plan
from oodml.results.schema import STANDARD_SPLIT, Stage, read_results
from oodml.share.pack import refuse_existing, study_folder
from oodml.share.private import without_paths
from oodml.shift.export import describe_splits
from oodml.shift.files import read_splits, write_splits

MODEL_FILES = ("model.json", "model.safetensors", "README.md", "run.json")
SPLIT_FILES = ("*.json", "README.md")


def write_model_folder(results: Path, method: str, split: str | None, out: Path) -> str:
    """Write the model of a run with a card; return the run's description.

    The run is the one with the first seed on `split`, by default the standard split.
    """
    refuse_existing(out)
    plan = read_plan(results / "plan.json")
    labels, steps = ({getattr(run, name) for run in plan.runs} for name in ("label", "split"))
    if method not in labels:
        raise unknown("method", method, labels, str(results))
    step = split or (STANDARD_SPLIT if STANDARD_SPLIT in steps else plan.runs[0].split)
    if step not in steps:
        raise unknown("split", step, steps, "--split")
    runs = [run for run in plan.runs if (run.label, run.split) == (method, step)]
    run = min(runs, key=lambda one: one.seed)
    source = results / "runs" / run.id
    if not (source / "model.safetensors").exists():
        raise error_at(source, "no model; the run has not finished")
    if run.model.get("weights") not in (None, "none") and run.model.get("mode") == "head":
        problem = f"{run.description}: the backbone has a local weights file, which others lack"
        raise OodmlError(problem, "model.weights", run.model["weights"])
    out.mkdir(parents=True, exist_ok=True)
    for name in ("model.json", "model.safetensors"):
        shutil.copyfile(source / name, out / name)
    record = without_paths(json.loads((source / "run.json").read_text("utf-8")))
    (out / "run.json").write_text(json.dumps(record, indent=1), "utf-8")
    (out / "README.md").write_text(_model_card(results, method, record), "utf-8")
    return run.description


def write_splits_folder(file: Path, out: Path, name: str) -> None:
    """Write splits with a dataset card and their metadata in the Croissant format."""
    refuse_existing(out)
    progression = read_splits(file)
    out.mkdir(parents=True, exist_ok=True)
    write_splits(progression, out / "splits.json")
    description = describe_splits(progression)
    digest = hashlib.sha256((out / "splits.json").read_bytes()).hexdigest()
    card = _template("hub_splits_card.md")
    text = card.format(name=name, data=progression.data or name, description=description)
    (out / "README.md").write_text(text, "utf-8")
    metadata = json.loads(_template("croissant.json"))
    metadata |= {"name": name, "description": description.partition("\n")[0]}
    metadata["url"] += name
    url = f"{metadata['url']}/resolve/main/splits.json"
    metadata["distribution"][0] |= {"contentUrl": url, "sha256": digest}
    (out / "croissant.json").write_text(json.dumps(metadata, indent=1), "utf-8")


def _model_card(results: Path, method: str, run: dict[str, Any]) -> str:
    """What the model is, how it was trained, and how it holds up on splits of growing shift."""
    with study_folder(results) as folder:
        table = read_results(folder / "results.parquet")
    rows = table[(table["method"] == method) & (table["stage"] == Stage.ZERO_SHOT)]
    metrics = [name for name in ("recall@1", "map@r") if (rows["metric"] == name).any()]
    wide = rows.pivot_table(index=["shift", "split"], columns="metric", values="value")
    lines = [f"| split | shift | {' | '.join(metrics)} |", "|---" * (2 + len(metrics)) + "|"]
    for shift, step, *values in wide[metrics].reset_index().to_numpy().tolist():
        lines.append(f"| {step} | {shift:.1f} | {' | '.join(f'{v:.4f}' for v in values)} |")
    return _template("hub_model_card.md").format(table="\n".join(lines), **run)


def _template(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
