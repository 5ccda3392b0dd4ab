"""A progression as it is asked for: where to start, how to go on, which splits to keep."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.images.transforms import Augmentation
from oodml.shift.distances import Matrix
from oodml.shift.episodes import sample_episodes, sample_validation
from oodml.shift.exact import MOST_SWAPS, evenly_spaced, exact_progression
from oodml.shift.progression import (
    HISTORY,
    HISTORY_EASIER,
    published_progression,
    removal_progression,
)
from oodml.shift.splits import Progression, Split
from oodml.shift.start import standard_train, train_of_partition, train_of_superclasses
from oodml.shift.superclasses import superclass_progression
from oodml.vectors import VectorSet

Sides = tuple[Matrix, Matrix, Sequence[str], Sequence[str]]


class SplitSettings(BaseModel):
    """How splits are built.

    procedure: "exact" (the best swap each time), "published" (the paper's heuristic), or "auto":
        exact where the classes are few enough to search, else published.
    backbone: the frozen network whose class means the shift is measured on, on input of
        image_size (None: its own) under the test transform of `augmentation`. weights: as of a
        model; None for the network's own.
    n_splits: how many, evenly spaced in FID; "all" keeps every one. steps: keep these instead.
    train_classes, train_superclasses: what trains at the start. Without either, the data's own
        train part if it is one of classes, else the first half of the sorted names.
    harder, easier: swaps (exact) or iterations (published) at most; None is as far as it goes
        (exact) or 25 and 15. removal: iterations after the hardest published split.
    swaps, history, unit: of the published procedure; a "superclass" moves whole.
    ends: lowest and highest FID wanted. image_tolerance: by what share the images to train on may
        change in number. Both of the exact search.
    validation: share of the train classes. seed: of validation classes and episodes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    procedure: Literal["auto", "exact", "published"] = "auto"
    backbone: str = "lite0"
    weights: str | None = None
    image_size: int | None = Field(None, ge=8)
    augmentation: Augmentation = "base"
    n_splits: int | Literal["all"] = 5
    steps: tuple[int | str, ...] | None = None
    train_classes: tuple[str, ...] | None = None
    train_superclasses: tuple[str, ...] | None = None
    harder: int | None = Field(None, ge=0)
    easier: int | None = Field(None, ge=0)
    removal: int | None = Field(None, ge=0)
    swaps: int = Field(2, ge=1)
    history: int | None = Field(None, ge=0)
    unit: Literal["class", "superclass"] = "class"
    ends: tuple[float, float] | None = None
    image_tolerance: float | None = Field(None, ge=0)
    validation: float = Field(0.25, ge=0, lt=1)
    seed: int = 0


def build_progression(
    vectors: VectorSet,
    settings: SplitSettings,
    shots: Sequence[int] = (),
    n_episodes: int = 10,
    images: ImageSet | None = None,
) -> Progression:
    """Splits of the classes of `vectors`, with validation classes and few-shot episodes.

    shots, n_episodes: the few-shot episodes of every split. images: what the vectors come from,
    for its own partition. Raises `OodmlError` where the data or the settings don't allow it.
    """
    if len(vectors.class_names) < 4:
        raise OodmlError(
            f"{len(vectors.class_names)} classes; at least 4 are needed, 2 to train and 2 to test"
        )
    train = _start(vectors, settings, images)
    exact = _is_exact(settings, len(train), len(vectors.class_names))
    built = _exact(vectors, settings, train) if exact else _published(vectors, settings, train)
    splits = tuple(_completed(s, vectors, settings, shots, n_episodes) for s in built)
    return replace(
        built,
        splits=splits,
        data=str(vectors.source.get("data", "")),
        fingerprint=str(vectors.source.get("fingerprint", "")),
        backbone=str(vectors.source.get("backbone", "")),
        seed=settings.seed,
    )


def _start(vectors: VectorSet, settings: SplitSettings, images: ImageSet | None) -> list[str]:
    if settings.train_classes is not None and settings.train_superclasses is not None:
        raise OodmlError("splits: give train_classes or train_superclasses, not both")
    if settings.train_classes is not None:
        return list(settings.train_classes)
    if settings.train_superclasses is not None:
        return train_of_superclasses(_superclasses(vectors), settings.train_superclasses)
    own = None if images is None else train_of_partition(images.classes, images.partition)
    return standard_train(vectors.class_names) if own is None else own


def _is_exact(settings: SplitSettings, n_train: int, n: int) -> bool:
    if settings.procedure == "auto":
        small = n_train * (n - n_train) <= MOST_SWAPS // 30
        return small and not settings.removal and settings.unit == "class"
    if settings.procedure == "exact":
        if settings.removal:
            raise OodmlError('splits: removal goes with procedure = "published"')
        if settings.unit != "class":
            raise OodmlError('splits: unit = "superclass" goes with procedure = "published"')
    elif settings.ends is not None or settings.image_tolerance is not None:
        raise OodmlError('splits: ends and image_tolerance go with procedure = "exact"')
    return settings.procedure == "exact"


def _exact(vectors: VectorSet, settings: SplitSettings, train: Sequence[str]) -> Progression:
    whole = exact_progression(
        vectors.class_means(),
        vectors.class_names,
        None,
        train=train,
        harder=settings.harder,
        easier=settings.easier,
        ends=settings.ends,
        images=np.bincount(vectors.labels),
        image_tolerance=settings.image_tolerance,
    )
    return replace(whole, splits=_kept(whole.splits, settings))


def _published(vectors: VectorSet, settings: SplitSettings, train: Sequence[str]) -> Progression:
    position = {name: place for place, name in enumerate(vectors.class_names)}
    means = vectors.class_means()
    missing = sorted(set(train) - set(position))
    if missing:
        raise OodmlError(f"train class {missing[0]!r} is not among the classes of the vectors")
    chosen = set(train)
    sides = sorted(chosen), [name for name in vectors.class_names if name not in chosen]
    least = min(map(len, sides))
    counts = _iterations(settings, least)

    def input_of(train: Sequence[str], test: Sequence[str]) -> Sides:
        rows = [[position[name] for name in side] for side in (train, test)]
        return means[rows[0]], means[rows[1]], train, test

    harder = _moved(input_of(*sides), vectors, settings, counts["harder"], least, easier=False)
    splits = list(harder.splits)
    if counts["easier"] > 1:
        easier = _moved(input_of(*sides), vectors, settings, counts["easier"], least, easier=True)
        splits = [*easier.splits[:0:-1], *splits]
    if counts["removal"] > 1:
        hardest = splits[-1]
        removed = removal_progression(
            *input_of(hardest.train, hardest.test),
            counts["removal"],
            settings.swaps,
            _history(settings, HISTORY, min(len(hardest.train), len(hardest.test))),
        )
        splits += removed.splits[1:]
    made = {f"{name}_iterations": count for name, count in counts.items()}
    return replace(
        harder,
        splits=_kept(splits, settings),
        settings={**{k: v for k, v in harder.settings.items() if k != "iterations"}, **made},
    )


def _moved(
    sides: Sides,
    vectors: VectorSet,
    settings: SplitSettings,
    iterations: int,
    least: int,
    easier: bool,
) -> Progression:
    if settings.unit == "superclass":
        superclasses = _superclasses(vectors)
        least = min(len({superclasses[name] for name in side}) for side in (sides[2], sides[3]))
        history = _history(settings, HISTORY_EASIER if easier else HISTORY, least)
        return superclass_progression(
            *sides, superclasses, iterations, settings.swaps, history, easier
        )
    history = _history(settings, HISTORY_EASIER if easier else HISTORY, least)
    return published_progression(*sides, iterations, settings.swaps, history, easier)


def _iterations(settings: SplitSettings, least: int) -> dict[str, int]:
    """Splits recorded in each direction; what was not asked for is kept within the classes."""
    exchanges = least // (2 * settings.swaps)
    defaults = {"harder": 25, "easier": 15, "removal": 0}
    counts = {}
    for name, most in defaults.items():
        asked = getattr(settings, name)
        counts[name] = min(most, 1 + exchanges) if asked is None else asked
    return {**counts, "harder": max(1, counts["harder"])}


def _history(settings: SplitSettings, default: int, least: int) -> int:
    """The paper's, as far as a side has as many classes to spare."""
    if settings.history is not None:
        return settings.history
    return max(0, min(default, least - settings.swaps))


def _kept(splits: Sequence[Split], settings: SplitSettings) -> tuple[Split, ...]:
    ordered = sorted(splits, key=lambda split: split.shift)
    if settings.steps is not None:
        wanted = set(map(str, settings.steps))
        for step in sorted(wanted - {str(split.step) for split in ordered}):
            made = ", ".join(str(split.step) for split in splits)
            raise OodmlError(f"splits.steps: there is no step {step}; made were {made}")
        return tuple(split for split in ordered if str(split.step) in wanted)
    if settings.n_splits == "all":
        return tuple(ordered)
    return tuple(evenly_spaced(ordered, settings.n_splits))


def _completed(
    split: Split, vectors: VectorSet, settings: SplitSettings, shots: Sequence[int], n_episodes: int
) -> Split:
    ids, classes = vectors.ids.tolist(), vectors.classes.tolist()
    episodes = sample_episodes(ids, classes, split.test, shots, n_episodes, settings.seed)
    validation = sample_validation(split.train, settings.validation, settings.seed)
    return replace(split, validation=validation, episodes=episodes)


def _superclasses(vectors: VectorSet) -> dict[str, str]:
    if vectors.superclasses is None:
        raise OodmlError("splits: the data has no superclasses")
    return dict(zip(vectors.classes.tolist(), vectors.superclasses.tolist(), strict=True))
