"""A study without training: each run writes numbers that follow from its settings."""

import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from oodml.shift.files import write_splits
from oodml.shift.splits import Progression, Split
from oodml.study.plan import Run
from oodml.study.prepare import Context
from oodml.study.spec.study_file import Study, read_study

CLASSES = ("ash", "birch", "cedar", "elm", "fir", "oak")


def make_study(folder: Path, seeds: int = 3, more: str = "") -> Path:
    """Images, splits and a study file of 3 splits × `seeds` seeds × 2 methods in a folder."""
    draw = np.random.default_rng(0)
    for name in CLASSES:
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(2):
            pixels = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.png")
    splits = [
        Split(step, CLASSES[step : 3 + step], CLASSES[:step] + CLASSES[3 + step :], float(step))
        for step in range(3)
    ]
    write_splits(Progression(tuple(splits), "published", seed=0), folder / "splits.json")
    file = folder / "study.toml"
    file.write_text(
        f'data = "photos"\nseeds = {list(range(seeds))}\nsplits = {{file = "splits.json"}}\n'
        'model = {backbone = "pixels", views = 1}\n'
        f"[methods.margin]\n[methods.multisimilarity]\n{more}"
    )
    return file


def toy_study(folder: Path, seeds: int = 3, more: str = "") -> Study:
    return read_study(make_study(folder, seeds, more))


def execute(run: Run, context: Context, folder: Path, seconds: float = 0.0) -> pd.DataFrame:
    """Rows that follow from the run's settings. Calls are recorded as needed or needless."""
    study = folder.parents[1]
    calls = study / "calls"
    calls.mkdir(exist_ok=True)
    needless = (study / "runs" / run.id).exists()
    (calls / f"{folder.name}-{'needless' if needless else 'needed'}").touch()
    (folder / "history.csv").write_text("epoch,loss\n0,1.0\n")
    time.sleep(seconds)
    value = zlib.crc32(f"{run.method}{run.split.train}{run.seed}".encode()) / 2**32
    return pd.DataFrame(
        [
            {"stage": "zero_shot", "shots": None, "episode": None, "metric": m, "value": value / k}
            for k, m in ((1, "recall@1"), (2, "map@r"))
        ]
    )


def execute_slowly(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """`execute` that takes a tenth of a second."""
    return execute(run, context, folder, seconds=0.1)


def execute_badly(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """`execute` with one method that fails."""
    if run.method == "margin":
        raise RuntimeError("the boundary is gone")
    return execute(run, context, folder)
