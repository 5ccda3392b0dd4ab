"""What the runs of a study share, prepared once: images, progression, plan, frozen features."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from oodml.arrays import Names
from oodml.backbones import load_backbone
from oodml.catalog import make_importable
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError, error_at
from oodml.files import content_hash, write_text
from oodml.images.fingerprint import Log, file_records, no_log
from oodml.images.fingerprint import fingerprint as image_fingerprint
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, HeadSettings, ModelSettings, parse_model_settings
from oodml.model_input import check_images
from oodml.progress import Progress, name_progress, observe_progress
from oodml.results.plan import FurtherTest, RunPlan
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.episodes import fill_support
from oodml.shift.files import read_splits, write_splits
from oodml.shift.measures import class_mean_shift
from oodml.shift.splits import Progression, check, recorded_features
from oodml.study import plan as plans
from oodml.study.folder.claims import Claims, heartbeat
from oodml.study.folder.store import Store, failure_text, is_disk_full, versions
from oodml.study.plan import Run, run_from_plan
from oodml.study.spec.consistency import check_class_sizes, check_split
from oodml.study.spec.study_file import SplitFile, Study
from oodml.study.tracking import MetricLog, track_run
from oodml.training.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from oodml.training.trainer import NonFiniteError
from oodml.vectors import VectorSet

PHASE_SECONDS = 2.0
"""Seconds between two updates of the progress that `oodml study status` shows."""


@dataclass(frozen=True)
class RunArtifacts:
    """Where a run writes its checkpoints, its trackers, and the weights it fails with."""

    store: Store
    run: RunPlan
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    trackers: Sequence[str] = ()

    def checkpoint(self, stage: str, device: torch.device, epochs: int) -> Checkpoint:
        """The checkpoint of one of the run's trainings; its key has what else changes numbers."""
        setting = (repr(sorted(versions().items())), device.type, str(epochs))
        key = content_hash(self.run.id, stage, *setting)
        path = self.store.checkpoints / self.run.id / f"{stage}.pt"
        return Checkpoint(path, key, self.checkpoint_seconds)

    def save_failed_model(self, model: Embedder, error: NonFiniteError) -> str:
        """Save the last finite weights of a run whose loss diverged; return where, as text."""
        folder = self.store.failed_folder(self.run.id)
        model.save(folder)
        when = f"after epoch {error.epoch}" if error.epoch else "before training"
        return f"The weights {when} are saved: oodml.load_model({str(folder)!r})."


@dataclass(frozen=True)
class Context:
    """What every run of a study receives."""

    images: ImageSet
    progression: Progression
    device: torch.device
    artifact_options: Mapping[str, Any] = field(default_factory=dict)
    artifacts: RunArtifacts | None = None
    further: Mapping[str, ImageSet] = field(default_factory=dict)

    def open_log(self) -> AbstractContextManager[MetricLog]:
        if self.artifacts is None or not self.artifacts.trackers:
            return nullcontext(lambda _, epoch: None)
        store, run = self.artifacts.store, self.artifacts.run
        study = store.read_plan().name
        return track_run(self.artifacts.trackers, study, run, store.folder / "tracking")

    def run(self, planned: RunPlan) -> Run:
        return run_from_plan(planned, self.progression[planned.position])


def open_context(store: Store, device: str) -> Context:
    plan = store.read_plan()
    make_importable(*plan.import_from)
    images = open_images(plan.source["name"], **plan.source["options"])
    sources = plan.test_sources.items()
    further = {name: open_images(one["name"], **one["options"]) for name, one in sources}
    plans.refuse_changed(plan, images, further, store.folder)
    splits = read_splits(store.splits)
    return Context(images, splits, torch.device(device), plan.keeping, further=further)


def prepare(
    study: Study,
    store: Store,
    *,
    smoke: bool = False,
    device: str | None = None,
    precompute: bool = False,
    artifact_options: Mapping[str, Any] | None = None,
    log: Log = no_log,
) -> None:
    """Build the progression if the folder does not have it yet, and write the plan."""
    images = study.data.open()
    check_class_sizes(study.shots, images)
    with preparing(store, log) as log:
        further = open_further_data(study, images)
        models = [variant.model for variant in study.variants if precompute]
        sources = (study.data, *(source for _, source in study.test_data))
        for one, source in zip((images, *further.values()), sources, strict=True):
            check_images(one, models, log, source.model_dump())
        key = plans.progression_key(study, images)
        if plans.planned_progression_key(store) != key:
            store.write_plan(plans.plan_identity(study, smoke, image_fingerprint(images)))
            _write_progression(study, images, store, device, log)
        progression = _read_progression(study, images, store)
        write_text(store.folder / "study.toml", study.text)
        features = partial(_shift_features, study, progression, device=device, log=log)
        tests = plan_tests(further, images, progression, features, log)
        plan = plans.plan_study(study, progression, images, key, smoke, tests)
        if repeats := plans.describe_repeats(store.read_plan(), plan, store.finished_ids()):
            log(repeats)
        store.write_plan(plan.model_copy(update={"keeping": dict(artifact_options or {})}))
        write_external_runs(store, progression)
        runs = store.unsettled(plan.runs) if precompute else []
        precompute_features(runs, images, store, device, log, further.values())


def write_external_runs(store: Store, progression: Progression) -> None:
    """Plan the external runs on splits that the progression has; others remain in the folder."""
    plan, splits = store.read_plan(), {str(split.step): split for split in progression}
    runs = [run for run in plan.runs if not run.external]
    for run in store.external_runs():
        split = splits.get(run.split)
        same = split is not None and run.external == plans.hash_of_split(split, ())
        if split is not None and same and run.fingerprint == plan.fingerprint:
            runs.append(RunPlan.model_validate(run.model_dump() | {"shift": split.shift}))
    store.write_plan(plan.model_copy(update={"runs": tuple(runs)}))


@contextmanager
def preparing(store: Store, log: Log = no_log) -> Iterator[Log]:
    """Be the only process that prepares a study; what it logs is shown by `oodml study status`."""
    claims = Claims(store.claims)
    while (claim := claims.take("prepare")) is None:
        time.sleep(0.2)
    written = time.monotonic()

    def log_phase(message: str) -> None:
        store.write_phase(message)
        log(message)

    def write_progress(progress: Progress) -> None:
        nonlocal written
        if (now := time.monotonic()) - written > PHASE_SECONDS:
            written = now
            store.write_phase(progress.describe(now))

    try:
        with heartbeat(claim), observe_progress(write_progress):
            store.write_phase("checking images")
            yield log_phase
    finally:
        store.write_phase("")
        claims.release(claim)


def read_split_file(splits: SplitFile, images: ImageSet) -> Progression:
    ids, classes = images.ids.tolist(), images.classes.tolist()
    progression = read_splits(splits.file)
    try:
        filled = fill_support(progression, ids, classes)
        check(filled, ids, classes)
    except OodmlError as error:
        raise error_at(splits.file, str(error), given=error.given) from error
    return filled


def frozen_features(
    settings: ModelSettings | SplitSettings,
    images: ImageSet,
    view: int | None = None,
    device: torch.device | str | None = None,
) -> VectorSet:
    options = settings.model_dump(include={"weights", "image_size", "pooling", "augmentation"})
    return embed(images, settings.backbone, view=view, device=device, **options)


def _shift_features(
    study: Study, progression: Progression, images: ImageSet, device: str | None, log: Log
) -> VectorSet | None:
    """The features that the splits were measured on; None if a split file leaves them unknown."""
    if isinstance(study.splits, SplitSettings):
        return frozen_features(study.splits, images, device=device)
    recorded = {"augmentation": "base", "pooling": "avg", **recorded_features(progression)}
    table = {k: recorded.get(k) for k in ("augmentation", "pooling", "weights", "image_size")}
    if not progression.backbone or table["weights"] not in ("own", "none"):
        return None
    table = {key: None if value == "own" else value for key, value in table.items()}
    try:
        settings = SplitSettings.model_validate(table | {"backbone": progression.backbone})
        return frozen_features(settings, images, device=device)
    except ValueError as error:  # the models are tested all the same
        log(f"the shift to test data is unknown: {error}")
        return None


def open_further_data(study: Study, images: ImageSet) -> dict[str, ImageSet]:
    """The further datasets that a study tests its models on, by their names in the results."""
    opened: dict[str, ImageSet] = {}
    for given, source in study.test_data:
        further = source.open()
        name = given or further.name
        if name in (images.name, *opened):
            remedy = f"Name them in a table: [test_data] with one line NAME = {source.name!r} each"
            raise error_at("test_data", f"two datasets are called {name!r}. {remedy}", name)
        check_class_sizes((), further)
        shared = np.isin(_contents(further), _contents(images))
        if shared.any():
            first, count = str(further.ids[shared][0]), f"{shared.sum()} of {len(further)} images"
            problem = f"{count} of {name} are also in {images.name}, which the models train on"
            raise error_at("test_data", f"{problem}, such as {first!r}. Remove them.", first)
        opened[name] = further
    return opened


def _contents(images: ImageSet) -> Names:
    if images.pixels is None:
        return file_records(images).hashes
    arrays = map(np.asarray, images.pixels)
    return np.array([content_hash(str(one.shape), one.tobytes()) for one in arrays])


def plan_tests(
    further: Mapping[str, ImageSet],
    images: ImageSet,
    progression: Progression,
    features: Callable[[ImageSet], VectorSet | None] = lambda _: None,
    log: Log = no_log,
) -> dict[str, tuple[FurtherTest, ...]]:
    """The tests on further data of each split, by its step, with their shifts if known."""
    tests: dict[str, tuple[FurtherTest, ...]] = {str(split.step): () for split in progression}
    own = features(images) if further else None
    for name, one in further.items():
        vectors, known, key = features(one), list[float](), image_fingerprint(one)
        for split in progression:
            shift = float("nan")
            if own is not None and vectors is not None:
                means = own.subset(split.train).class_means(), vectors.class_means()
                shift = class_mean_shift(*means, progression.shift_measure)
            finite = shift if np.isfinite(shift) else None
            tests[str(split.step)] += (FurtherTest(data=name, fingerprint=key, shift=finite),)
            known += [] if finite is None else [finite]
        text = f"{min(known):.4g} to {max(known):.4g}" if known else "unknown"
        log(f"test data {name}: shift from the training classes {text}")
    return tests


def precompute_features(
    runs: Sequence[RunPlan],
    images: ImageSet,
    store: Store,
    device: str | None,
    log: Log,
    further: Collection[ImageSet] = (),
) -> None:
    """Fill the cache with the frozen features that planned runs need."""
    for model, group in group_by_network(runs).items():
        try:
            if isinstance(model, HeadSettings):
                views = max(views_of(run) for run in group)
                count = f"{len(images)} images, {views + 1} views (cached views are reused)"
                log(f"features of {model.backbone}: {count}")
                for number, view in enumerate((None, *range(views)), 1):
                    with name_progress(f", view {number} of {views + 1}"):
                        frozen_features(model, images, view, device)
                for one in further:
                    frozen_features(model, one, device=device)
            elif model.weights != "none":
                load_backbone(model.backbone, model.weights)  # before several workers download it
        except Exception as error:  # user code and network libraries raise anything
            if is_disk_full(error) or isinstance(error, MemoryError):
                raise
            log(f"{model.backbone}: {error}")
            for run in group:
                store.record_failure(run.id, failure_text(run, error))


def views_of(run: RunPlan) -> int:
    """The number of augmented views whose features a run on cached features reads."""
    return int(max(run.model["views"] if run.trains else 0, run.adapt["views"] if run.shots else 0))


def group_by_network(runs: Iterable[RunPlan]) -> dict[ModelSettings, list[RunPlan]]:
    groups: dict[ModelSettings, list[RunPlan]] = {}
    for run in runs:
        model = parse_model_settings(run.model)
        other = {"dim": 1, "normalize": True}
        other |= {"views": 1} if isinstance(model, HeadSettings) else {}
        groups.setdefault(model.model_copy(update=other), []).append(run)
    return groups


def _write_progression(
    study: Study, images: ImageSet, store: Store, device: str | None, log: Log
) -> None:
    log(f"building the splits of {images.name}: {len(images)} images, {images.describe_classes()}")
    features = store.folder / "features.npz"
    if isinstance(study.splits, SplitFile):
        features.unlink(missing_ok=True)
        write_splits(read_split_file(study.splits, images), store.splits)
        return
    vectors = frozen_features(study.splits, images, device=device)
    progression = build_progression(vectors, study.splits, study.shots, study.episodes, images)
    vectors.save(features)
    write_splits(progression, store.splits)


def _read_progression(study: Study, images: ImageSet, store: Store) -> Progression:
    """The progression in a folder, after checking that the study can run on it."""
    progression = read_splits(store.splits)
    validate = isinstance(study.splits, SplitSettings) and study.splits.validation > 0
    for split in progression:
        if unknown := sorted({*split.train, *split.test} - set(images.class_names)):
            problem = f"split {split.step}: class {unknown[0]!r} is not in {images.name}"
            raise error_at(store.splits, problem, unknown[0])
        check_split(split, images, str(store.splits), validate)
        if missing := sorted(set(study.shots) - set(split.episodes)):
            counts = sorted(split.episodes)
            problem = f"split {split.step} has no episodes with {missing[0]} shots, only {counts}"
            raise OodmlError(f"{problem}; change `shots`", "shots", missing[0], map(str, counts))
    return progression
