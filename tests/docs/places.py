"""What each page's commands need: files in an empty folder, and names for its Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oodml.datasets import open_images
from oodml.images.image_set import ImageSet
from oodml.randomness import generator
from oodml.shift.build import SplitSettings
from oodml.study.spec.study_file import Study
from oodml.vectors import VectorSet
from tests.docs.pages import steps

Place = Callable[[Path], dict[str, Any]]
"""Makes the files of a page in a folder, and gives the names that its Python uses."""

SPLITS = 4
"""As many as a forecast needs."""


def quick(study: Study) -> Study:
    """The same methods on few splits of the same images, each trained for a moment."""
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
    """The images as folder/ID.png."""
    for row, name in enumerate(images.ids):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        images.read(row).save(file)


def characters(folder: Path, *scripts: str, few: tuple[int, int] = (12, 8)) -> ImageSet:
    """Some images of some scripts, as folder/SCRIPT/CLASS/NAME.png."""
    images = open_images("glyphs", scripts=list(scripts), few=few)
    write_images(images, folder)
    return images


def vectors(classes: int = 8, each: int = 12, seed: int = 0) -> VectorSet:
    """Vectors around class means, in two superclasses."""
    random = np.random.default_rng(seed)
    names = np.repeat([f"{'ab'[c % 2]}/{c}" for c in range(classes)], each)
    means = np.random.default_rng(9).normal(size=(classes, 16)).repeat(each, axis=0)
    found = (means + random.normal(size=(len(names), 16))).astype(np.float32)
    ids = np.array([f"{name}/{row}" for row, name in enumerate(names)])
    return VectorSet(found, names, ids, np.array([name[0] for name in names]))


def readme(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek", "hebrew")
    study = next(step.text for step in steps("README.md") if step.kind == "toml")
    (folder / "study.toml").write_text(study)
    for seed, name in enumerate(("embeddings", "catalogue", "new")):
        vectors(seed=seed).save(folder / f"{name}.npz")
    found = vectors(classes=40, each=2)
    means = found.class_means()
    return {
        "train_means": means[:20], "train_classes": found.class_names[:20],
        "test_means": means[20:], "test_classes": found.class_names[20:],
        **batch(),
    }  # fmt: skip


def batch() -> dict[str, Any]:
    """Embeddings and labels of a batch, as a loss takes them."""
    import torch

    labels = torch.arange(8).repeat_interleave(2)
    drawn = torch.randn(16, 8, generator=generator(0))
    embeddings = torch.nn.functional.normalize(drawn, dim=1).requires_grad_()
    return {"embeddings": embeddings, "labels": labels, "generator": generator(0)}


def evaluation(folder: Path) -> dict[str, Any]:
    for seed, name in enumerate(("test", "queries", "catalogue", "margin", "arcface")):
        vectors(seed=seed).save(folder / f"{name}.npz")
    first, second = vectors(), vectors(seed=1)
    return {
        "vectors": first.vectors, "labels": first.classes,
        "g": second.vectors, "names": second.classes,
        "superclass_of": dict(zip(first.classes, first.superclasses, strict=True)),
        "a": first.vectors, "b": second.vectors,
    }  # fmt: skip


def few_shot(folder: Path) -> dict[str, Any]:
    import torch

    from oodml.model import LinearHead

    new_characters(folder / "new")
    found = vectors()
    rows = {name: np.flatnonzero(found.classes == name)[:4] for name in found.class_names}
    support = np.concatenate(list(rows.values()))
    episodes = [{name: own.tolist() for name, own in rows.items()}] * 4
    features = torch.from_numpy(found.vectors)
    return {
        "features": features, "classes": found.classes.tolist(), "episodes": episodes,
        "views": {int(row): features[None, row] for row in support},
        "model": type("Model", (), {"head": LinearHead(16, 8)})(),
    }  # fmt: skip


def new_characters(folder: Path) -> None:
    """Classes that no study saw: two images of each to adapt to, the others to test with."""
    images = open_images("glyphs", scripts=["digits"], few=(10, 6))
    labelled = np.arange(len(images)) % 6 < 2
    write_images(images.select(labelled), folder / "labelled")
    write_images(images.select(~labelled), folder / "test")


def shift(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek", "hebrew")
    characters(folder / "train_photos", "greek", "hebrew")
    characters(folder / "new_catalogue", "arabic")
    return {}


def studies(folder: Path) -> dict[str, Any]:
    characters(folder / "photos", "greek", "hebrew")
    return {}


def report(folder: Path) -> dict[str, Any]:
    """A small study that is done."""
    from oodml.study.launch import run_study
    from oodml.study.spec.study_file import read_study

    characters(folder / "photos", "greek", "hebrew")
    characters(folder / "new_images", "arabic")
    (folder / "study.toml").write_text(
        'data = "photos"\nmethods = ["margin", "frozen"]\n[model]\nviews = 1\n[train]\nepochs = 1\n'
    )
    run_study(quick(read_study(folder / "study.toml")), folder / "results")
    return {}


def extending(folder: Path) -> dict[str, Any]:
    """The page's own module and study, as files."""
    shown = steps("docs/extending.md")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "losses.py").write_text(
        next(step.text for step in shown if step.text.startswith("# mylab/losses.py"))
    )
    study = next(step.text for step in shown if step.kind == "toml")
    (folder / "study.toml").write_text(study)
    return {}


def cluster(folder: Path) -> dict[str, Any]:
    """A miniature in place of the data, and a small study that is done."""
    from oodml.datasets._few import grow_miniature

    grow_miniature("cub200", folder / "data" / "cub200")
    return report(folder)


def nothing(folder: Path) -> dict[str, Any]:
    return {}


PLACES: dict[str, Place] = {
    "README.md": readme,
    "CONTRIBUTING.md": nothing,
    "docs/evaluation.md": evaluation,
    "docs/extending.md": extending,
    "docs/few_shot.md": few_shot,
    "docs/glyphs.md": nothing,
    "docs/install.md": nothing,
    "docs/report.md": report,
    "docs/shift.md": shift,
    "docs/studies.md": studies,
    "docs/tutorials/own_folder.md": nothing,
    "docs/tutorials/own_embeddings.md": nothing,
    "docs/tutorials/cluster.md": cluster,
}
