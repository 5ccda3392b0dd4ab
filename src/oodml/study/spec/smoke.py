"""A minute's version of a study: every method, on a few images, to see that all of it works."""

from pathlib import Path
from typing import Any

from oodml.datasets._few import MINIATURES, grow_miniature
from oodml.model import ModelSettings
from oodml.shift.build import SplitSettings
from oodml.study.spec.study_file import Source, SplitFile, Study
from oodml.study.spec.variants import Variant

CLASSES, IMAGES = 24, 6
SIZE = 64
"""Pixels of the input when a whole network trains, where the network can take it."""
BATCH = 16
TRIALS = 2
"""Of a search: the defaults and one more."""
FIXED = ("train.epochs", "train.warmup_epochs", "train.evaluate_every", "train.batch_size",
         "train.per_class", "model.image_size", "model.weights", "model.backbone")  # fmt: skip
"""Not searched, for they are what makes it small."""


def smaller(study: Study, place: Path) -> Study:
    """A study that tries every variant in little time.

    One seed, one epoch, one episode, few steps; of splits that are built few exchanges, on a few
    images of a few classes. A data set that is not at hand is replaced by a miniature of drawn
    images in its layout under `place`, and networks are then untrained.
    """
    absent = _is_absent(study.data)
    variants = [_smaller_arm(variant, untrained=absent) for variant in study.variants]
    changes: dict[str, Any] = {"variants": tuple(variants), "shots": study.shots[:1], "episodes": 1}
    if study.search is not None:
        changes["search"] = study.search.model_copy(update={"trials": TRIALS, "split": None})
    if absent or isinstance(study.splits, SplitSettings):
        changes["data"] = _few(study.data, place if absent else None)
        changes["splits"] = _smaller_splits(study.splits, untrained=absent)
    return study.model_copy(update=changes)


def _is_absent(data: Source) -> bool:
    root = data.options.get("root")
    return data.name in MINIATURES and not (root and Path(root).expanduser().is_dir())


def _few(data: Source, place: Path | None) -> Source:
    options = dict(data.options) | {"few": [CLASSES, IMAGES]}
    if place is not None:
        options["root"] = str(grow_miniature(data.name, place / "miniature" / data.name))
    return Source(name=data.name, options=options)


def _smaller_splits(splits: SplitSettings | SplitFile, untrained: bool) -> SplitSettings:
    own = splits if isinstance(splits, SplitSettings) else SplitSettings.model_validate({})
    changes: dict[str, Any] = {
        "n_splits": 2, "steps": None, "train_classes": None, "history": None, "swaps": 1,
        "harder": min(3, 25 if own.harder is None else own.harder),
        "easier": min(2, 15 if own.easier is None else own.easier),
        "removal": None, "ends": None, "image_tolerance": None,
    }  # fmt: skip
    if untrained:
        changes |= {"backbone": "pixels", "weights": None}
    return own.model_copy(update=changes)


def _smaller_arm(variant: Variant, untrained: bool) -> Variant:
    train = {
        "epochs": min(1, variant.train.epochs), "warmup_epochs": 0, "evaluate_every": 1,
        "batch_size": min(variant.train.batch_size, max(BATCH, 2 * variant.train.per_class)),
    }  # fmt: skip
    return variant.model_copy(
        update={
            "seeds": variant.seeds[:1],
            "train": variant.train.model_copy(update=train),
            "adapt": variant.adapt.model_copy(update={"iterations": 5}),
            "model": _smaller_model(variant.model, untrained),
            "ranges": {name: one for name, one in variant.ranges.items() if name not in FIXED},
        }
    )


def _smaller_model(model: ModelSettings, untrained: bool) -> ModelSettings:
    changes: dict[str, Any] = {}
    if untrained:
        changes["weights"] = "none"
    if model.mode == "finetune" and (model.image_size or SIZE + 1) > SIZE and _scales(model):
        changes["image_size"] = SIZE
    return model.model_copy(update=changes)


def _scales(model: ModelSettings) -> bool:
    """Whether the network takes images of any size, as far as is known."""
    import timm

    config = timm.get_pretrained_cfg(model.backbone, allow_unregistered=True)
    return config is not None and not config.fixed_input_size
