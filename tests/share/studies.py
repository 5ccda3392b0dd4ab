"""Synthetic study folders with a plan."""

import json
from pathlib import Path
from typing import Any

from oodml.images.image_set import ImageSet
from tests.report.study_folder import made_up_study


def planned_study(folder: Path, methods: dict[str, float], seeds: int = 2, **run: Any) -> ImageSet:
    """Write a study folder with a plan; `run` changes the entries of every run."""
    images = made_up_study(folder, methods, seeds=seeds, shots=(2,))
    runs = []
    for file in sorted(folder.glob("runs/*/run.json")):
        values = json.loads(file.read_text()) | {"data": "stripes", "fingerprint": "f" * 16} | run
        file.write_text(json.dumps(values))
        runs.append(values)
    plan = {
        "schema": 2, "name": folder.name, "fingerprint": "f" * 16, "runs": runs,
        "source": {"name": "photos", "options": {}},
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    return images
