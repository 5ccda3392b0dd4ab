"""What the commands of each page need: files in an empty folder, and names for its Python code."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from oodml.datasets import open_images
from oodml.images.image_set import ImageSet
from oodml.shift.build import SplitSettings
from oodml.study.spec.study_file import Study
from oodml.vectors import VectorSet
from tests.docs.pages import steps

Requirements = Callable[[Path], dict[str, Any]]
"""Creates the files of a page in a folder and returns the names that its Python code uses."""

SPLITS = 4
"""Few, but enough for every table of a report."""


def quick(study: Study) -> Study:
    """The same methods on few splits of the same images, trained for one epoch."""
    changes: dict[str, Any] = {"shots": study.shots[:1], "episodes": 1}
    if isinstance(study.splits, SplitSettings):
        changes["splits"] = study.splits.model_copy(update={"n_splits": SPLITS})
    variants = [
        variant.model_copy(
            update={
                "seeds": variant.seeds[:1],
                "train": variant.train.model_copy(update={"epochs": 1}),
                "model": variant.model.model_copy(update={"views": 1}),
            }
        )
        for variant in study.variants
    ]
    return study.model_copy(update=changes | {"variants": tuple(variants)})


def write_images(images: ImageSet, folder: Path) -> None:
    """Write the images as folder/ID.png."""
    for row, name in enumerate(images.ids):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        images.read(row).save(file)


def characters(folder: Path, *scripts: str, few: tuple[int, int] = (12, 8)) -> ImageSet:
    """Write some images of some scripts as folder/SCRIPT/CLASS/NAME.png."""
    images = open_images("glyphs", scripts=list(scripts), few=few)
    write_images(images, folder)
    return images


def vectors(classes: int = 8, each: int = 12, seed: int = 0) -> VectorSet:
    """Vectors around class means, in two superclasses."""
    random = np.random.default_rng(seed)
    names = np.repeat([f"{'ab'[c % 2]}/{c}" for c in range(classes)], each)
    means = np.random.default_rng(9).normal(size=(classes, 16)).repeat(each, axis=0)
    sample = (means + random.normal(size=(len(names), 16))).astype(np.float32)
    ids = np.array([f"{name}/{row}" for row, name in enumerate(names)])
    return VectorSet(sample, names, ids, np.array([name[0] for name in names]))


def readme(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek", "hebrew")
    study = next(step.text for step in steps("README.md") if step.kind == "toml")
    (folder / "study.toml").write_text(study)
    for seed, name in enumerate(("embeddings", "catalog", "new")):
        vectors(seed=seed).save(folder / f"{name}.npz")
    return {}


def re_identification() -> VectorSet:
    """Vectors with cameras and lists of queries and gallery."""
    made = vectors(each=16)
    rows = np.arange(len(made))
    names = np.array([f"{row:04}.jpg" for row in rows])
    parts = np.where(rows % 4 == 0, "query", "gallery")
    cameras = np.array(["1", "2", "3"])[rows % 3]
    return replace(made, ids=names, partition=parts, attributes={"camera": cameras})


def evaluation(folder: Path) -> dict[str, Any]:
    for seed, name in enumerate(("test", "queries", "catalog", "margin", "arcface")):
        vectors(seed=seed).save(folder / f"{name}.npz")
    (folder / "shards").mkdir()
    for seed in (2, 3):
        vectors(seed=seed).save(folder / "shards" / f"part{seed}.npy")
    first, second = vectors(), vectors(seed=1)
    people = re_identification()
    people.save(folder / "people.parquet")
    return {
        "people": people,
        "vectors": first.vectors, "labels": first.classes,
        "g": second.vectors, "names": second.classes,
        "superclass_of": dict(zip(first.classes, first.superclasses, strict=True)),
        "a": first.vectors, "b": second.vectors,
    }  # fmt: skip


def few_shot(folder: Path) -> dict[str, Any]:
    import torch

    from oodml.model import LinearHead

    new_characters(folder / "new")
    sample = vectors()
    rows = {name: np.flatnonzero(sample.classes == name)[:4] for name in sample.class_names}
    support = np.concatenate(list(rows.values()))
    episodes = [{name: own.tolist() for name, own in rows.items()}] * 4
    features = torch.from_numpy(sample.vectors)
    return {
        "features": features, "classes": sample.classes.tolist(), "episodes": episodes,
        "views": {int(row): features[None, row] for row in support},
        "model": type("Model", (), {"head": LinearHead(16, 8)})(),
    }  # fmt: skip


def new_characters(folder: Path) -> None:
    """Write images of new classes: two of each for adaptation, the others for testing."""
    images = open_images("glyphs", scripts=["digits"], few=(10, 6))
    labeled = np.arange(len(images)) % 6 < 2
    write_images(images.select(labeled), folder / "labeled")
    write_images(images.select(~labeled), folder / "test")


def shift(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek", "hebrew")
    characters(folder / "train_photos", "greek", "hebrew")
    characters(folder / "new_catalog", "arabic")
    return {}


def studies(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek", "hebrew")
    return {}


def small_study(folder: Path, *scripts: str, few: tuple[int, int] = (12, 8)) -> dict[str, Any]:
    """Run a small study of some scripts, and write new images of another."""
    from oodml.study.launch import run_study
    from oodml.study.spec.study_file import read_study

    characters(folder / "photos", *scripts, few=few)
    characters(folder / "new_images", "arabic")
    (folder / "study.toml").write_text(
        'data = "photos"\nmethods = ["margin", "frozen"]\n[model]\nviews = 1\n[train]\nepochs = 1\n'
    )
    run_study(quick(read_study(folder / "study.toml")), folder / "results")
    return {}


def report(folder: Path) -> dict[str, Any]:
    """Run a small study."""
    return small_study(folder, "greek", "hebrew")


def python(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek", "hebrew")
    characters(folder / "new", "arabic")
    return {}


def sharing(folder: Path) -> dict[str, Any]:
    """Run a small study, and add its splits and a folder with its pack."""
    from oodml.share.pack import pack_study

    names = report(folder)
    (folder / "splits.json").write_bytes((folder / "results" / "splits.json").read_bytes())
    pack_study(folder / "results", folder / "packs" / "study.zip")
    return names


def splits_elsewhere(folder: Path) -> dict[str, Any]:
    """Write images of a few classes and their splits, and name the images that the code uses."""
    from oodml.shift.files import write_splits
    from oodml.shift.splits import Progression, Split

    split = Split(0, ("a", "b", "c"), ("d", "e"), 1.0, ("a",))
    write_splits(Progression((split,), "published"), folder / "splits.json")
    classes = [name for name in "abcde" for _ in range(3)]
    paths = [f"{name}/{row}.png" for row, name in enumerate(classes)]
    pixels = np.random.default_rng(0).integers(0, 255, (15, 16, 16, 3), dtype=np.uint8)
    ids, names = np.array([path[:-4] for path in paths]), np.array(classes)
    write_images(ImageSet("photos", ids, names, pixels=pixels), folder / "photos")
    return {"classes": classes, "paths": paths, "dataset": classes}


def extending(folder: Path) -> dict[str, Any]:
    """Write the module and the study of the page to files."""
    shown = steps("docs/extending.md")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "losses.py").write_text(
        next(step.text for step in shown if step.text.startswith("# mylab/losses.py"))
    )
    study = next(step.text for step in shown if step.kind == "toml")
    (folder / "study.toml").write_text(study)
    return {}


def cluster(folder: Path) -> dict[str, Any]:
    """Write a miniature dataset, and run a small study."""
    from oodml.datasets._few import write_miniature

    write_miniature("cub200", folder / "data" / "cub200")
    return report(folder)


def decisions(folder: Path) -> dict[str, Any]:
    whole = vectors(classes=40)
    names = whole.class_names
    parts = {
        "valid": names[:20], "train": names[:20], "queries": names[20:30], "pool": names[30:],
        "gallery": names[20:25], "vectors": names[20:], "week47": names[:12],
    }  # fmt: skip
    sets = {name: whole.subset(part) for name, part in parts.items()}
    for name, part in sets.items():
        part.save(folder / f"{name}.npz")
    return sets


def scale(folder: Path) -> dict[str, Any]:
    """Images in a folder, and the same in a tar."""
    import tarfile

    characters(folder / "photos", "greek")
    (folder / "tars").mkdir()
    with tarfile.open(folder / "tars" / "0.tar", "w") as tar:
        tar.add(folder / "photos", arcname="")
    return {}


def foundation_models(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek")
    study = next(
        step.text for step in steps("docs/tutorials/foundation_models.md") if step.kind == "toml"
    )
    (folder / "networks.toml").write_text(study)
    return {}


def nothing(folder: Path) -> dict[str, Any]:
    return {}


def forecast(folder: Path) -> dict[str, Any]:
    """Run a small study of three scripts."""
    return small_study(folder, "greek", "hebrew", "cyrillic", few=(36, 8))


def level_and_gain(folder: Path) -> dict[str, Any]:
    vectors().save(folder / "embeddings.npz")
    return {}


REQUIREMENTS: dict[str, Requirements] = {
    "README.md": readme,
    "CONTRIBUTING.md": nothing,
    "docs/decisions.md": decisions,
    "docs/evaluation.md": evaluation,
    "docs/extending.md": extending,
    "docs/few_shot.md": few_shot,
    "docs/forecast.md": forecast,
    "docs/from_the_original.md": nothing,
    "docs/glyphs.md": nothing,
    "docs/emoji.md": nothing,
    "docs/install.md": nothing,
    "docs/level_and_gain.md": level_and_gain,
    "docs/models.md": nothing,
    "docs/report.md": report,
    "docs/scale.md": scale,
    "docs/sharing.md": sharing,
    "docs/shift.md": shift,
    "docs/splits_elsewhere.md": splits_elsewhere,
    "docs/studies.md": studies,
    "docs/tutorials/own_folder.md": nothing,
    "docs/python.md": python,
    "docs/tutorials/your_training.md": python,
    "docs/tutorials/own_embeddings.md": nothing,
    "docs/tutorials/foundation_models.md": foundation_models,
    "docs/tutorials/cluster.md": cluster,
}
