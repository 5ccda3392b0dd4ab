"""The smoke test of a study: every method for one epoch, on a few images."""

from pathlib import Path
from typing import Any

from oodml.datasets._few import MINIATURES, write_miniature
from oodml.model import FinetuneSettings
from oodml.shift.build import SplitSettings
from oodml.study.spec.study_file import Source, SplitFile, Study
from oodml.study.spec.variants import Variant

CLASSES, IMAGES = 24, 6
"""Number of classes and of images per class; few-shot episodes may need more images."""
QUERIES = 2
"""Images per class that remain for retrieval after the support images are taken."""
IMAGE_SIZE = 64
"""Side of the input in pixels when a whole network trains, if the network supports it."""
BATCH_SIZE = 16
TRIALS = 2
"""Trials of a search: the defaults and one sample."""
FIXED = ("train.epochs", "train.warmup_epochs", "train.evaluate_every", "train.batch_size",
         "train.per_class", "model.image_size", "model.weights", "model.backbone")  # fmt: skip
"""Keys that are not searched, because they keep the smoke test small."""


def smoke_study(study: Study, folder: Path) -> Study:
    """A short version of a study that runs every variant, on few images, for one epoch.

    If the dataset is not on this machine, generated images take its place.
    """
    absent = missing_root(study.data) is not None
    variants = tuple(_small_variant(variant, untrained=absent) for variant in study.variants)
    shots = study.shots[:1]
    changes: dict[str, Any] = {"variants": variants, "shots": shots, "episodes": 1}
    changes["test_data"] = tuple(
        (name, _few_images(source, IMAGES, folder if missing_root(source) else None))
        for name, source in study.test_data
    )
    if study.search is not None:
        changes["search"] = study.search.model_copy(update={"trials": TRIALS, "split": None})
    if absent or isinstance(study.splits, SplitSettings):
        images = max(IMAGES, *(n + QUERIES for n in shots), 0)
        data = _few_images(study.data, images, folder if absent else None)
        changes |= {"data": data, "splits": _small_splits(study.splits, data, untrained=absent)}
    return study.model_copy(update=changes)


def missing_root(data: Source) -> Path | None:
    """The folder of a published dataset if it does not exist, else None."""
    root = data.options.get("root")
    if data.name not in MINIATURES or (root and Path(root).expanduser().is_dir()):
        return None
    return Path(root or data.name)


def _few_images(data: Source, images: int, miniature: Path | None) -> Source:
    options = dict(data.options) | {"few": [CLASSES, images]}
    if miniature is not None:
        root = miniature / "miniature" / data.name
        options["root"] = str(write_miniature(data.name, root, CLASSES, images))
    return Source(name=data.name, options=options)


def _small_splits(
    splits: SplitSettings | SplitFile, data: Source, untrained: bool
) -> SplitSettings:
    own = splits if isinstance(splits, SplitSettings) else SplitSettings.model_validate({})
    classes = own.train_classes
    if classes is not None:  # those that the few images include, or else the first half
        names = data.open().class_names
        train = tuple(name for name in names if name in set(classes))
        enough = 2 <= len(train) <= len(names) - 2
        classes = train if enough else tuple(names[: len(names) // 2])
    changes: dict[str, Any] = {
        "n_splits": 2, "steps": None, "history": None, "swaps": 1,
        "train_classes": classes,
        "harder": None if own.time else min(3, 25 if own.harder is None else own.harder),
        "easier": None if own.time else min(2, 15 if own.easier is None else own.easier),
        "removal": None, "ends": None, "image_tolerance": None,
    }  # fmt: skip
    if untrained:
        changes |= {"backbone": "pixels", "weights": None, "train_superclasses": None}
    return own.model_copy(update=changes)


def _small_variant(variant: Variant, untrained: bool) -> Variant:
    model = variant.model
    changes: dict[str, Any] = {"weights": "none"} if untrained else {}
    is_large = model.image_size is None or model.image_size > IMAGE_SIZE
    if isinstance(model, FinetuneSettings) and is_large:
        import timm

        config = timm.get_pretrained_cfg(model.backbone, allow_unregistered=True)
        if config is not None and not config.fixed_input_size:
            changes["image_size"] = IMAGE_SIZE
    train, size = variant.train, max(BATCH_SIZE, 2 * variant.train.per_class)
    short = {"epochs": min(1, train.epochs), "warmup_epochs": 0, "evaluate_every": 1}
    short["batch_size"] = min(train.batch_size, size)
    parts: dict[str, Any] = {"seeds": variant.seeds[:1], "train": train.model_copy(update=short)}
    parts["adapt"] = variant.adapt.model_copy(update={"iterations": 5})
    parts["ranges"] = {name: one for name, one in variant.ranges.items() if name not in FIXED}
    return variant.model_copy(update=parts | {"model": model.model_copy(update=changes)})
