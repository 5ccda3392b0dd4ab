"""Build a progression from settings: where to start, how to search, which splits to return."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from oodml.backbones import Pooling
from oodml.errors import OodmlError, error_at, unknown
from oodml.images.image_set import ImageSet
from oodml.images.transforms import Augmentation
from oodml.progress import count_noun
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
    RECORDED,
    Progression,
    Split,
    partition_train_classes,
    standard_train_classes,
)
from oodml.vectors import VectorSet

_BY_DEFAULT = {"harder": 25, "easier": 15, "removal": 0}


class SplitSettings(BaseModel):
    """How to build splits.

    Attributes:
        procedure: "exact" (the best swap at each step), "published" (the paper's heuristic), or
            "auto": exact if the classes are few enough to search, otherwise published.
        backbone, weights, image_size, pooling, augmentation: the frozen network whose class means
            the shift is measured on, and its input, as in `[model]`.
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
    count, means, source = len(vectors.class_names), vectors.class_means(), vectors.source
    if count < 4:
        problem = f"{count_noun(count, 'class')}; at least 4 are needed, 2 to train and 2 to test"
        raise OodmlError(problem, given=count)
    find_measure(settings.measure, "class means")
    spread = np.abs(means - means.mean(axis=0)).max()
    if spread <= 4 * np.finfo(np.float32).eps * np.abs(means).max():
        problem = f"all {count} classes have the same mean vector, so every split has a shift of 0"
        remedy = "the embedding has collapsed. Use vectors of another network"
        raise OodmlError(f"{problem}: {remedy}", location="vectors")
    units = {} if settings.group is None else class_units(settings.group, images)
    if settings.time is not None:
        for name in ("group", "train_classes", "train_superclasses", "harder", "easier", "steps"):
            if getattr(settings, name) is not None:
                raise _error(name, "it cannot be combined with time")
        n_splits = None if settings.n_splits == "all" else settings.n_splits
        built = time_progression(vectors, settings.time, images, n_splits, settings.measure)
    else:
        train = _train_classes(vectors, settings, images)
        train = whole_units(train, units) if units else train
        if _is_exact(settings, len(train), count):
            built = _exact(vectors, settings, train)
        else:
            built = _published(vectors, settings, train, units)
    ids, classes = vectors.ids.tolist(), vectors.classes.tolist()

    def add_samples(split: Split) -> Split:
        episodes = sample_episodes(ids, classes, split.test, shots, n_episodes, settings.seed)
        sampled = dict.fromkeys(units.get(name, name) for name in split.train)
        drawn = {*sample_validation([*sampled], settings.validation, settings.seed)}
        validation = tuple(name for name in split.train if units.get(name, name) in drawn)
        return replace(split, validation=validation, episodes=episodes)

    recorded = {key: source[key] for key in RECORDED if isinstance(source.get(key), int | str)}
    return replace(
        built,
        splits=tuple(map(add_samples, built)),
        settings={**built.settings, **recorded},
        seed=settings.seed,
        **{name: str(source.get(name, "")) for name in ("data", "fingerprint", "backbone")},
    )


def _train_classes(
    vectors: VectorSet, settings: SplitSettings, images: ImageSet | None
) -> list[str]:
    chosen, wanted = settings.train_classes, settings.train_superclasses
    if chosen is not None and wanted is not None:
        raise _error("train_classes", "set either train_classes or train_superclasses, not both")
    if chosen is not None:
        return list(chosen)
    if wanted is not None:
        superclass_of = _superclasses(vectors)
        for name in sorted(set(wanted) - set(superclass_of.values())):
            raise unknown("superclass", name, set(superclass_of.values()))
        return sorted(name for name, superclass in superclass_of.items() if superclass in wanted)
    own = None if images is None else partition_train_classes(images.classes, images.partition)
    return standard_train_classes(vectors.class_names) if own is None else own


def _is_exact(settings: SplitSettings, n_train: int, n: int) -> bool:
    procedure, is_plain = settings.procedure, settings.unit == "class" and not settings.removal
    if settings.group is not None:
        if procedure == "exact" or not is_plain:
            allowed = 'procedure = "published" without removal and unit'
            raise _error("group", f"it requires {allowed}")
        return False
    if procedure == "auto":
        most = MOST_SWAPS // (30 if settings.measure == STANDARD_MEASURE else 1000)
        return n_train * (n - n_train) <= most and is_plain
    if procedure == "exact" and not is_plain:
        key = "removal" if settings.removal else "unit"
        raise _error(key, 'it requires procedure = "published"')
    if procedure == "published" and (settings.ends, settings.image_tolerance) != (None, None):
        raise _error("ends", 'ends and image_tolerance require procedure = "exact"')
    return procedure == "exact"


def _exact(vectors: VectorSet, settings: SplitSettings, train: Sequence[str]) -> Progression:
    names = ("harder", "easier", "ends", "image_tolerance", "measure")
    whole = exact_progression(
        vectors.class_means(), vectors.class_names, None, train=train,
        images=np.bincount(vectors.labels), **{name: getattr(settings, name) for name in names},
    )  # fmt: skip
    return replace(whole, splits=_select(whole.splits, settings))


def _published(
    vectors: VectorSet, settings: SplitSettings, train: Sequence[str], units: Mapping[str, str]
) -> Progression:
    missing = sorted(set(train) - set(vectors.class_names))
    if missing:
        problem = f"train class {missing[0]!r} is not among the classes of the vectors"
        raise OodmlError(problem, "splits.train_classes", missing[0])
    first = sorted(set(train))
    second = [name for name in vectors.class_names if name not in set(train)]
    units = units or ({} if settings.unit == "class" else _superclasses(vectors))
    mean_of = dict(zip(vectors.class_names, vectors.class_means(), strict=True))
    swaps = settings.swaps

    def means(train: Sequence[str], test: Sequence[str]) -> tuple[Matrix, Matrix]:
        return np.stack([mean_of[name] for name in train]), np.stack([mean_of[n] for n in test])

    def options(default: int, least: int) -> dict[str, Any]:
        """The published history is limited by the classes on the smaller side."""
        limited = max(0, min(default, least - swaps))
        history = limited if settings.history is None else settings.history
        return {"swaps_per_iteration": swaps, "history": history, "measure": settings.measure}

    def exchange(iterations: int, easier: bool) -> Progression:
        least = min(len({units.get(name, name) for name in side}) for side in (first, second))
        chosen = options(HISTORY_EASIER if easier else HISTORY, least)
        sides = *means(first, second), first, second
        if units:
            return superclass_progression(*sides, units, iterations, easier=easier, **chosen)
        return published_progression(*sides, iterations, easier=easier, **chosen)

    most = 1 + min(len(first), len(second)) // (2 * swaps)
    counts = {}
    for name, default in _BY_DEFAULT.items():
        wanted = getattr(settings, name)
        counts[name] = min(default, most) if wanted is None else wanted
    counts["harder"] = max(1, counts["harder"])
    harder = exchange(counts["harder"], easier=False)
    splits = list(harder.splits)
    if counts["easier"] > 1:
        splits = [*exchange(counts["easier"], easier=True).splits[:0:-1], *splits]
    if counts["removal"] > 1:
        sides = splits[-1].train, splits[-1].test
        chosen = options(HISTORY, min(map(len, sides)))
        removed = removal_progression(*means(*sides), *sides, counts["removal"], **chosen)
        splits += removed.splits[1:]
    made = {k: v for k, v in harder.settings.items() if k != "iterations"}
    made |= {f"{name}_iterations": count for name, count in counts.items()}
    return replace(harder, splits=_select(splits, settings), settings=made)


def _select(splits: Sequence[Split], settings: SplitSettings) -> tuple[Split, ...]:
    """The wanted splits; without `steps`, step 0 replaces the one closest in shift, not an end."""
    ordered = sorted(splits, key=lambda split: split.shift)
    if settings.steps is not None:
        wanted, existing = set(map(str, settings.steps)), [str(split.step) for split in splits]
        for step in sorted(wanted - set(existing)):
            problem = f"there is no step {step}. Existing steps: {', '.join(existing)}"
            raise error_at("splits.steps", problem, step, existing)
        return tuple(split for split in ordered if str(split.step) in wanted)
    if settings.n_splits == "all":
        return tuple(ordered)
    chosen = evenly_spaced(ordered, settings.n_splits)
    standard = next((split for split in splits if split.step == STANDARD_STEP), None)
    if standard is not None and standard not in chosen:
        candidates = chosen[1:-1] or chosen
        closest = min(candidates, key=lambda split: abs(split.shift - standard.shift))
        chosen[chosen.index(closest)] = standard
    return tuple(sorted(chosen, key=lambda split: split.shift))


def _superclasses(vectors: VectorSet) -> dict[str, str]:
    if vectors.superclasses is None:
        raise error_at("splits", "the data has no superclasses")
    return dict(zip(vectors.classes.tolist(), vectors.superclasses.tolist(), strict=True))


def _error(key: str, message: str) -> OodmlError:
    return error_at(f"splits.{key}", f"{message}")
