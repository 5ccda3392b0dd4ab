"""A small study folder as `oodml study run` writes it, with synthetic numbers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from oodml.images.image_set import ImageSet
from oodml.results.schema import COLUMNS
from oodml.shift.files import write_splits
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet

SHIFTS = {"-4": 11.0, "0": 26.5, "8": 45.0, "R6": 61.2}
LEVEL = {"margin": 0.70, "multisimilarity": 0.73, "proxy_anchor": 0.71}
SLOPE = {"margin": 0.30, "multisimilarity": 0.19, "proxy_anchor": 0.27}


def made_up_images(n_classes: int = 24, n_each: int = 6) -> ImageSet:
    """Images of stripes, whose direction and frequency depend on the class."""
    generator = np.random.default_rng(3)
    names = [f"{'round' if c % 2 else 'sharp'}_{c:02d}" for c in range(n_classes)]
    y, x = np.mgrid[0:32, 0:32] / 32
    pixels, classes, ids = [], [], []
    for c, name in enumerate(names):
        for k in range(n_each):
            wave = np.sin(2 * np.pi * (2 + c % 5) * (x * np.cos(c) + y * np.sin(c)) + k)
            noise = generator.normal(0, 0.3, x.shape)
            pixels.append((127 + 90 * np.clip(wave + noise, -1.4, 1.4)).astype(np.uint8))
            classes.append(name)
            ids.append(f"{name}/{k}.png")
    groups = np.array([name.split("_")[0] for name in classes])
    return ImageSet(
        "stripes", np.array(ids), np.array(classes), superclasses=groups, pixels=np.stack(pixels)
    )


def made_up_study(
    folder: Path,
    methods: dict[str, float] = LEVEL,
    shifts: dict[str, float] = SHIFTS,
    seeds: int = 3,
    shots: tuple[int, ...] = (2, 5),
    keep_vectors: bool = True,
) -> ImageSet:
    """Write the folder; return the images that its vectors belong to."""
    images = made_up_images()
    features = _features(images)
    features.save(folder / "features.npz")
    splits = _splits(images.class_names, shifts)
    write_splits(Progression(tuple(splits), "published", data=images.name), folder / "splits.json")
    rows = []
    for split in splits:
        for method, level in methods.items():
            for seed in range(seeds):
                run = f"{method}-{split.step}-{seed}"
                rows += _rows(run, split, method, level, seed, shots)
                _write_run(folder / "runs" / run, method, split, seed)
                if keep_vectors:
                    subset = features.subset(split.test)
                    subset.save(folder / "runs" / run / "vectors.npz")
    table = pd.DataFrame(rows, columns=[*COLUMNS]).astype({"shots": "Int64", "episode": "Int64"})
    table.to_parquet(folder / "results.parquet")
    (folder / "study.toml").write_text('data = "stripes"\nmethods = ["margin"]\n')
    return images


def keep_epochs(folder: Path) -> None:
    """Add the rows of runs with `keep_epochs`: the best test epoch next to the selected one."""
    table = pd.read_parquet(folder / "results.parquet")
    chosen = table[(table["stage"] == "zero_shot") & (table["metric"] == "recall@1")]
    best = chosen.assign(stage="best_test_epoch", value=chosen["value"] + 0.012)
    epochs = [
        chosen.assign(stage=stage, metric="epoch", value=epoch)
        for stage, epoch in (("best_test_epoch", 17.0), ("validation", 11.0))
    ]
    pd.concat([table, best, *epochs]).to_parquet(folder / "results.parquet")


def choose_options(folder: Path) -> None:
    """Write a plan with the options that a search chose for one method."""
    margin = {
        "chosen": {"beta": 1.05, "train.lr": 0.003}, "trial": 7, "value": 0.741, "epoch": 9,
        "default": 0.722, "trials": 20, "failed": 1,
    }  # fmt: skip
    search = {"trials": 20, "split": "0", "metric": "recall@1", "methods": {"margin": margin}}
    (folder / "plan.json").write_text(json.dumps({"search": search, "runs": []}))


def _features(images: ImageSet) -> VectorSet:
    generator = np.random.default_rng(4)
    centers = generator.normal(size=(len(images.class_names), 12))
    centers[:, 0] += np.linspace(-2, 2, len(centers))
    vectors = centers[images.labels] + generator.normal(0, 0.9, (len(images), 12))
    return VectorSet(vectors.astype(np.float32), images.classes, images.ids, images.superclasses)


def _splits(names: tuple[str, ...], shifts: dict[str, float]) -> list[Split]:
    half = len(names) // 2
    splits = []
    for place, (step, shift) in enumerate(shifts.items()):
        turned = names[place:] + names[:place]
        number = int(step) if step.lstrip("-").isdigit() else step
        splits.append(Split(number, turned[:half], turned[half:], shift, turned[:3]))
    return splits


def _rows(
    run: str, split: Split, method: str, level: float, seed: int, shots: tuple[int, ...]
) -> list[tuple[object, ...]]:
    generator = np.random.default_rng([*run.encode(), seed])
    place = (split.shift - 11) / 50
    recall = level - SLOPE.get(method, 0.3) * place + generator.normal(0, 0.008)
    start = (run, "stripes", str(split.step), split.shift, method, seed)
    numbers = {
        "recall@1": recall, "recall@4": recall + 0.12, "map@r": recall * 0.6,
        "nmi": 0.4 + recall / 3, "density": 1.2 - recall, "rho": generator.uniform(0.1, 0.4),
    }  # fmt: skip
    rows = [(*start, "zero_shot", None, None, metric, v) for metric, v in numbers.items()]
    for count in shots:
        for episode in range(3):
            before = recall + generator.normal(0, 0.004)
            gain = 0.004 * count * (0.4 + place) + generator.normal(0, 0.003)
            for stage, value in (("before", before), ("after", before + gain)):
                rows.append((*start, stage, count, episode, "recall@1", value))
    return rows


def _write_run(folder: Path, method: str, split: Split, seed: int) -> None:
    folder.mkdir(parents=True)
    run = {
        "id": folder.name, "label": method, "method": method, "split": str(split.step),
        "shift": split.shift, "seed": seed, "model": {"backbone": "lite0", "mode": "head"},
        "train": {"epochs": 20, "lr": 0.001}, "seconds": 12.5, "host": "here",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
