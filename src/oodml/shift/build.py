"""Build a progression from settings: where to start, how to search, which splits to return."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from oodml.backbones import Pooling
from oodml.errors import OodmlError, error_at
from oodml.images.image_set import ImageSet
from oodml.images.transforms import Augmentation
from oodml.results.schema import STANDARD_STEP
from oodml.shift.columns import class_units, time_progression, whole_units
from oodml.shift.distances import Matrix
from oodml.shift.episodes import sample_episodes, sample_validation
from oodml.shift.exact import MOST_SWAPS, evenly_spaced, exact_progression
from oodml.shift.measures import STANDARD_MEASURE, find_measure
from oodml.shift.progression import (
    HISTORY,
    HISTORY_EASIER,
    published_progression,
    removal_progression,
    superclass_progression,
)
from oodml.shift.splits import (
    Progression,
    Split,
    partition_train_classes,
    record_features,
    standard_train_classes,
    superclass_train_classes,
)
from oodml.vectors import VectorSet

_BY_DEFAULT = {"harder": 25, "easier": 15, "removal": 0}


class SplitSettings(BaseModel):
    """How to build splits.

    Attributes:
        procedure: "exact" (the best swap at each step), "published" (the paper's heuristic), or
            "auto": exact if the classes are few enough to search, otherwise published.
        backbone: the frozen network whose class means the shift is measured on.
        weights: a weights file for the backbone; None uses its own weights.
        image_size: side length of the square input in pixels; None is the backbone's own.
        pooling: how the network's output is pooled, as in `[model]`.
        augmentation: the recipe whose test transform is used.
        measure: the measure of shift; any registered measure of class means.
        n_splits: the number of splits, evenly spaced in shift and always including the standard
            split (step 0), or "all".
        steps: the steps to return, instead of `n_splits`.
        train_classes, train_superclasses: the classes or superclasses to train on at the start.
            Without either: the dataset's own train part, if it is one of whole classes, or the
            first half of the sorted class names.
        harder, easier: the largest number of swaps (exact) or iterations (published) in each
            direction; None searches as far as possible (exact) or uses 25 and 15 (published).
        removal: the number of removal iterations after the hardest published split.
        swaps, history: of the published procedure, see `published_progression`.
        unit: what the published procedure moves: a class, or all classes of a superclass.
        group: a column of a table of images, such as the recording. Classes with images of the
            same value, directly or through other classes, stay on one side, also among the
            validation classes; the published procedure moves them together.
        time: a column of dates or numbers. A class is as old as its first image. The earlier half
            of the classes is trained on, and the later ones are tested in `n_splits` parts, in
            the order of time.
        ends: the lowest and highest shift wanted (exact).
        image_tolerance: the largest relative change of the number of train images (exact).
        validation: the fraction of train classes used for validation.
        seed: random seed for validation classes and episodes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    procedure: Literal["auto", "exact", "published"] = "auto"
    backbone: str = "lite0"
    weights: str | None = None
    image_size: int | None = Field(None, ge=8)
    pooling: Pooling = "model"
    augmentation: Augmentation = "model"
    measure: str = STANDARD_MEASURE
    n_splits: Annotated[int, Field(ge=1)] | Literal["all"] = 5
    steps: tuple[int | str, ...] | None = None
    train_classes: tuple[str, ...] | None = None
    train_superclasses: tuple[str, ...] | None = None
    harder: int | None = Field(None, ge=0)
    easier: int | None = Field(None, ge=0)
    removal: int | None = Field(None, ge=0)
    swaps: int = Field(2, ge=1)
    history: int | None = Field(None, ge=0)
    unit: Literal["class", "superclass"] = "class"
    group: str | None = None
    time: str | None = None
    ends: tuple[float, float] | None = None
    image_tolerance: float | None = Field(None, ge=0)
    validation: float = Field(0.25, ge=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**63)


def build_progression(
    vectors: VectorSet,
    settings: SplitSettings,
    shots: Sequence[int] = (),
    n_episodes: int = 10,
    images: ImageSet | None = None,
) -> Progression:
    """Build splits of the classes of `vectors`, with validation classes and few-shot episodes."""
    if len(vectors.class_names) < 4:
        raise OodmlError(
            f"{len(vectors.class_names)} classes; at least 4 are needed, 2 to train and 2 to test",
            given=len(vectors.class_names),
        )
    find_measure(settings.measure, "class means")
    _refuse_collapsed(vectors)
    units = {} if settings.group is None else class_units(settings.group, images)
    if settings.time is None:
        built = _from_standard(vectors, settings, images, units)
    else:
        built = _by_time(vectors, settings, images)
    splits = tuple(_add_samples(s, vectors, settings, shots, n_episodes, units) for s in built)
    return replace(
        built,
        splits=splits,
        settings={**built.settings, **record_features(vectors.source)},
        data=str(vectors.source.get("data", "")),
        fingerprint=str(vectors.source.get("fingerprint", "")),
        backbone=str(vectors.source.get("backbone", "")),
        seed=settings.seed,
    )


def _from_standard(
    vectors: VectorSet,
    settings: SplitSettings,
    images: ImageSet | None,
    units: Mapping[str, str],
) -> Progression:
    train = _train_classes(vectors, settings, images)
    train = whole_units(train, units) if units else train
    if _is_exact(settings, len(train), len(vectors.class_names)):
        return _exact(vectors, settings, train)
    return _published(vectors, settings, train, units)


def _by_time(vectors: VectorSet, settings: SplitSettings, images: ImageSet | None) -> Progression:
    for name in ("group", "train_classes", "train_superclasses", "harder", "easier", "steps"):
        if getattr(settings, name) is not None:
            raise _error(name, "it cannot be combined with time")
    n_splits = None if settings.n_splits == "all" else settings.n_splits
    return time_progression(vectors, settings.time or "", images, n_splits, settings.measure)


def _refuse_collapsed(vectors: VectorSet) -> None:
    means = vectors.class_means()
    spread = np.abs(means - means.mean(axis=0)).max()
    if spread <= 4 * np.finfo(np.float32).eps * np.abs(means).max():
        raise OodmlError(
            f"all {len(means)} classes have the same mean vector, so every split has a shift of 0: "
            "the embedding has collapsed. Use vectors of another network",
            location="vectors",
        )


def _train_classes(
    vectors: VectorSet, settings: SplitSettings, images: ImageSet | None
) -> list[str]:
    if settings.train_classes is not None and settings.train_superclasses is not None:
        raise _error("train_classes", "set either train_classes or train_superclasses, not both")
    if settings.train_classes is not None:
        return list(settings.train_classes)
    if settings.train_superclasses is not None:
        return superclass_train_classes(_superclasses(vectors), settings.train_superclasses)
    own = None if images is None else partition_train_classes(images.classes, images.partition)
    return standard_train_classes(vectors.class_names) if own is None else own


def _is_exact(settings: SplitSettings, n_train: int, n: int) -> bool:
    if settings.group is not None:
        if settings.procedure == "exact" or settings.removal or settings.unit != "class":
            allowed = 'procedure = "published" without removal and unit'
            raise _error("group", f"it requires {allowed}")
        return False
    if settings.procedure == "auto":
        most = MOST_SWAPS // (30 if settings.measure == STANDARD_MEASURE else 1000)
        small = n_train * (n - n_train) <= most
        return small and not settings.removal and settings.unit == "class"
    if settings.procedure == "exact":
        if settings.removal:
            raise _error("removal", 'it requires procedure = "published"')
        if settings.unit != "class":
            raise _error("unit", '"superclass" requires procedure = "published"')
    elif settings.ends is not None or settings.image_tolerance is not None:
        raise _error("ends", 'ends and image_tolerance require procedure = "exact"')
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
        measure=settings.measure,
    )
    return replace(whole, splits=_select(whole.splits, settings))


def _published(
    vectors: VectorSet, settings: SplitSettings, train: Sequence[str], units: Mapping[str, str]
) -> Progression:
    missing = sorted(set(train) - set(vectors.class_names))
    if missing:
        problem = f"train class {missing[0]!r} is not among the classes of the vectors"
        raise OodmlError(problem, "splits.train_classes", missing[0])
    procedure = _PublishedProcedure(vectors, settings, units)
    first = sorted(set(train))
    second = [name for name in vectors.class_names if name not in set(train)]
    counts = _iterations(settings, min(len(first), len(second)))
    harder = procedure.exchange(first, second, counts["harder"], easier=False)
    splits = list(harder.splits)
    if counts["easier"] > 1:
        easier = procedure.exchange(first, second, counts["easier"], easier=True)
        splits = [*easier.splits[:0:-1], *splits]
    if counts["removal"] > 1:
        splits += procedure.remove(splits[-1], counts["removal"]).splits[1:]
    made = {f"{name}_iterations": count for name, count in counts.items()}
    return replace(
        harder,
        splits=_select(splits, settings),
        settings={**{k: v for k, v in harder.settings.items() if k != "iterations"}, **made},
    )


class _PublishedProcedure:
    def __init__(
        self, vectors: VectorSet, settings: SplitSettings, units: Mapping[str, str]
    ) -> None:
        self._vectors, self._settings, self._units = vectors, settings, units
        self._means = vectors.class_means()
        self._position = {name: row for row, name in enumerate(vectors.class_names)}

    def exchange(
        self, train: Sequence[str], test: Sequence[str], iterations: int, easier: bool
    ) -> Progression:
        """Exchange classes or superclasses toward harder or easier splits."""
        settings = self._settings
        default = HISTORY_EASIER if easier else HISTORY
        means = self._means_of(train), self._means_of(test)
        if settings.unit == "class" and not self._units:
            options = self._options(default, min(len(train), len(test)))
            return published_progression(*means, train, test, iterations, easier=easier, **options)
        units = self._units or _superclasses(self._vectors)
        least = min(len({units[name] for name in side}) for side in (train, test))
        options = self._options(default, least) | {"easier": easier}
        return superclass_progression(*means, train, test, units, iterations, **options)

    def remove(self, split: Split, iterations: int) -> Progression:
        """Remove classes from a split."""
        means = self._means_of(split.train), self._means_of(split.test)
        options = self._options(HISTORY, min(len(split.train), len(split.test)))
        return removal_progression(*means, split.train, split.test, iterations, **options)

    def _means_of(self, classes: Sequence[str]) -> Matrix:
        return self._means[[self._position[name] for name in classes]]

    def _options(self, default: int, least: int) -> dict[str, Any]:
        """The options; the published history is limited by the classes on the smaller side."""
        swaps, history = self._settings.swaps, self._settings.history
        if history is None:
            history = max(0, min(default, least - swaps))
        return {"swaps_per_iteration": swaps, "history": history, "measure": self._settings.measure}


def _iterations(settings: SplitSettings, least: int) -> dict[str, int]:
    """Iterations in each direction; defaults are limited by the number of classes."""
    exchanges = least // (2 * settings.swaps)
    counts = {}
    for name, most in _BY_DEFAULT.items():
        wanted = getattr(settings, name)
        counts[name] = min(most, 1 + exchanges) if wanted is None else wanted
    return {**counts, "harder": max(1, counts["harder"])}


def _select(splits: Sequence[Split], settings: SplitSettings) -> tuple[Split, ...]:
    ordered = sorted(splits, key=lambda split: split.shift)
    if settings.steps is not None:
        wanted = set(map(str, settings.steps))
        existing = [str(split.step) for split in splits]
        for step in sorted(wanted - set(existing)):
            problem = f"there is no step {step}. Existing steps: {', '.join(existing)}"
            raise error_at("splits.steps", problem, step, existing)
        return tuple(split for split in ordered if str(split.step) in wanted)
    if settings.n_splits == "all":
        return tuple(ordered)
    return tuple(_with_standard(evenly_spaced(ordered, settings.n_splits), ordered))


def _with_standard(chosen: Sequence[Split], splits: Sequence[Split]) -> Sequence[Split]:
    """The chosen splits; if step 0 is not among them, it replaces the one closest in shift.

    The easiest and the hardest split are replaced only if there is no other.
    """
    standard = next((split for split in splits if split.step == STANDARD_STEP), None)
    if standard is None or standard in chosen:
        return chosen
    candidates = chosen[1:-1] or chosen
    closest = min(candidates, key=lambda split: abs(split.shift - standard.shift))
    replaced = [standard if split is closest else split for split in chosen]
    return sorted(replaced, key=lambda split: split.shift)


def _add_samples(
    split: Split,
    vectors: VectorSet,
    settings: SplitSettings,
    shots: Sequence[int],
    n_episodes: int,
    units: Mapping[str, str],
) -> Split:
    ids, classes = vectors.ids.tolist(), vectors.classes.tolist()
    episodes = sample_episodes(ids, classes, split.test, shots, n_episodes, settings.seed)
    sampled = dict.fromkeys(units.get(name, name) for name in split.train)
    drawn = {*sample_validation([*sampled], settings.validation, settings.seed)}
    validation = tuple(name for name in split.train if units.get(name, name) in drawn)
    return replace(split, validation=validation, episodes=episodes)


def _superclasses(vectors: VectorSet) -> dict[str, str]:
    if vectors.superclasses is None:
        raise error_at("splits", "the data has no superclasses")
    return dict(zip(vectors.classes.tolist(), vectors.superclasses.tolist(), strict=True))


def _error(key: str, message: str) -> OodmlError:
    return error_at(f"splits.{key}", f"{message}")
