"""The folders that `oodml push` uploads: a model or splits, each with a card."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, unknown
from oodml.results.plan import read_plan
from oodml.results.schema import STANDARD_SPLIT, Stage, read_results
from oodml.share.pack import refuse_existing, study_folder
from oodml.share.private import without_paths
from oodml.shift.export import describe_splits
from oodml.shift.files import read_splits, write_splits

MODEL_FILES = ("model.json", "model.safetensors", "README.md", "run.json")
SPLIT_FILES = ("*.json", "README.md")
_CROISSANT = {"@vocab": "https://schema.org/", "cr": "http://mlcommons.org/croissant/"}


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
        raise OodmlError(f"{source}: no model; the run has not finished", location=str(source))
    if run.model.get("weights") not in (None, "none") and run.model.get("mode") == "head":
        raise OodmlError(
            f"{run.description}: its backbone has a local weights file, which others do not have",
            location="model.weights", given=run.model["weights"],
        )  # fmt: skip
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
    header = {"tags": ["metric-learning", "image-retrieval", "oodml"], "pretty_name": name}
    use = f'```python\nimport oodml\n\nsplits = oodml.read_splits("hf://{name}")\n```'
    text = f"# Splits of {progression.data or name}\n\n{description}\n\n{use}\n"
    (out / "README.md").write_text(_front_matter(header) + text, "utf-8")
    digest = hashlib.sha256((out / "splits.json").read_bytes()).hexdigest()
    metadata = _croissant(name, description.partition("\n")[0], digest)
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
    model, train = run["model"], run["train"]
    header = {
        "library_name": "oodml",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["metric-learning", "image-retrieval", "oodml"],
    }
    return _front_matter(header) + "\n".join([
        f"# {method} on {run['data']}\n",
        f"An embedding model with {model['dim']} dimensions: {run['method']} on "
        f"{model['backbone']} (mode {model['mode']}), trained on split {run['split']} with seed "
        f"{run['seed']} for at most {train['epochs']} epochs. "
        "`run.json` contains all settings and versions.\n",
        "## How it holds up on new classes\n",
        "Means over seeds of the study, on test classes that were not trained on; each split is a "
        "training of its own. The model in this repository is that of one run.\n",
        *lines,
        "\n## Use\n",
        '```python\nimport oodml\n\nmodel = oodml.load_model("hf://USER/NAME")\n'
        "embeddings = model(images)  # [n 3 h w] -> [n d]\n```\n",
    ])  # fmt: skip


def _front_matter(values: dict[str, Any]) -> str:
    """A YAML header; JSON values are YAML."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _croissant(name: str, description: str, digest: str) -> dict[str, Any]:
    url = f"https://huggingface.co/datasets/{name}"
    file = {
        "@type": "cr:FileObject", "@id": "splits.json", "name": "splits.json",
        "contentUrl": f"{url}/resolve/main/splits.json", "encodingFormat": "application/json",
        "sha256": digest,
    }  # fmt: skip
    fields = [
        {
            "@type": "cr:Field", "@id": f"splits/{key}", "name": key, "dataType": kind,
            "source": {"fileObject": {"@id": "splits.json"},
                       "extract": {"jsonPath": f"$.splits[*].{key}"}},
        }
        for key, kind in (("step", "Text"), ("shift", "Float"), ("train", "Text"), ("test", "Text"))
    ]  # fmt: skip
    return {
        "@context": _CROISSANT, "@type": "Dataset", "name": name, "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0", "url": url, "distribution": [file],
        "cr:recordSet": [{"@type": "cr:RecordSet", "@id": "splits", "name": "splits",
                          "field": fields}],
    }  # fmt: skip
