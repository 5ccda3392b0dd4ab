"""The folders that `oodml push` uploads: a model or splits, each with a card."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, error_at
from oodml.files import creating_folder
from oodml.results.plan import read_run
from oodml.results.schema import Stage, read_results
from oodml.share.pack import refuse_existing, without_paths
from oodml.shift.files import describe_splits, read_splits, write_splits

MODEL_FILES = ("model.json", "model.safetensors", "README.md", "run.json")
SPLIT_FILES = ("*.json", "README.md")


def write_model_folder(run: Path, out: Path) -> str:
    """Write the model of a study's run, or of `oodml fit`, with a card; return its description."""
    refuse_existing(out)
    planned = read_run(run / "run.json")
    if not (run / "model.safetensors").exists():
        raise error_at(run, "no model; it was trained elsewhere")
    if planned.model.get("weights") not in (None, "none") and planned.model.get("mode") == "head":
        problem = f"{planned.description}: the backbone has a local weights file, which others lack"
        raise OodmlError(problem, "model.weights", planned.model["weights"])
    record = without_paths(json.loads((run / "run.json").read_text("utf-8")))
    card = run / "README.md"
    text = card.read_text("utf-8") if card.exists() else _model_card(run.parents[1], record)
    with creating_folder(out) as staged:
        for name in ("model.json", "model.safetensors"):
            shutil.copyfile(run / name, staged / name)
        (staged / "run.json").write_text(json.dumps(record, indent=1), "utf-8")
        (staged / "README.md").write_text(text, "utf-8")
    return planned.description


def write_splits_folder(file: Path, out: Path, name: str) -> None:
    """Write splits with a dataset card and their metadata in the Croissant format."""
    refuse_existing(out)
    progression = read_splits(file)
    description = describe_splits(progression)
    data = progression.data or name
    card = _template("hub_splits_card.md").format(name=name, data=data, description=description)
    metadata = json.loads(_template("croissant.json"))
    metadata |= {"name": name, "description": description.partition("\n")[0]}
    metadata["url"] += name
    with creating_folder(out) as staged:
        write_splits(progression, staged / "splits.json")
        digest = hashlib.sha256((staged / "splits.json").read_bytes()).hexdigest()
        url = f"{metadata['url']}/resolve/main/splits.json"
        metadata["distribution"][0] |= {"contentUrl": url, "sha256": digest}
        (staged / "README.md").write_text(card, "utf-8")
        (staged / "croissant.json").write_text(json.dumps(metadata, indent=1), "utf-8")


def _model_card(results: Path, run: dict[str, Any]) -> str:
    table = read_results(results / "results.parquet")
    rows = table[(table["method"] == run["label"]) & (table["stage"] == Stage.ZERO_SHOT)]
    metrics = [name for name in ("recall@1", "map@r") if (rows["metric"] == name).any()]
    wide = rows.pivot_table(index=["shift", "split"], columns="metric", values="value")
    lines = [f"| split | shift | {' | '.join(metrics)} |", "|---" * (2 + len(metrics)) + "|"]
    for shift, step, *values in wide[metrics].reset_index().to_numpy().tolist():
        lines.append(f"| {step} | {shift:.1f} | {' | '.join(f'{v:.4f}' for v in values)} |")
    return _template("hub_model_card.md").format(table="\n".join(lines), **run)


def _template(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
