"""What the runs of a study share, prepared once: images, progression, plan, frozen features."""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from oodml.backbones import load_backbone, resolve_defaults
from oodml.catalog import make_importable
from oodml.datasets import open_images
from oodml.embedding import embed, weights_key
from oodml.errors import OodmlError, error_at
from oodml.files import content_hash, write_text
from oodml.images.fingerprint import Log, no_log
from oodml.images.fingerprint import fingerprint as image_fingerprint
from oodml.images.image_set import ImageSet
from oodml.model import HeadSettings, ModelSettings, parse_model_settings
from oodml.model_input import check_images
from oodml.progress import Progress, observe_progress
from oodml.results.plan import FurtherTest, RunPlan, StudyPlan
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.episodes import fill_support
from oodml.shift.files import read_splits, write_splits
from oodml.shift.splits import Progression, check
from oodml.study.folder.claims import Claims, heartbeat
from oodml.study.folder.store import Store, failure_text, is_disk_full
from oodml.study.further_data import (
    describe_tests,
    open_further_data,
    plan_tests,
    recorded_split_settings,
)
from oodml.study.plan import (
    SCHEMA,
    Run,
    code_references,
    hash_of_split,
    plan_runs,
    refuse_changed,
    run_from_plan,
)
from oodml.study.run_artifacts import RunArtifacts
from oodml.study.spec.consistency import check_class_sizes, check_split
from oodml.study.spec.study_file import SplitFile, Study
from oodml.study.tracking import MetricLog
from oodml.user_code import code_fingerprints, code_folders
from oodml.vectors import VectorSet

PHASE_SECONDS = 2.0
"""Seconds between two updates of the progress that `oodml study status` shows."""
_DEFAULT_SPLITS = SplitSettings.model_validate({})


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
        """The log of the current run's metrics, which goes to its trackers."""
        return self.artifacts.open_log() if self.artifacts else nullcontext(lambda _, epoch: None)

    def run(self, planned: RunPlan) -> Run:
        return run_from_plan(planned, self.progression[planned.position])


def open_context(store: Store, device: str) -> Context:
    plan = store.read_plan()
    make_importable(*plan.import_from)
    images = open_images(plan.source["name"], **plan.source["options"])
    further = {
        name: open_images(source["name"], **source["options"])
        for name, source in plan.test_sources.items()
    }
    refuse_changed(plan, images, further, store.folder)
    progression = read_splits(store.splits)
    return Context(images, progression, torch.device(device), plan.keeping, further=further)


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
    """Build the progression if the folder does not have it yet, and write the plan.

    If several processes start on one folder, one of them builds and the others wait. `precompute`
    also fills the cache, so that several workers do not compute the same features and pixels.
    """
    images = open_images(study.data.name, **study.data.options)
    check_class_sizes(study.shots, images)
    with _preparing(store, log) as log:
        further = open_further_data(study, images)
        for one in (images, *further.values()):
            check_images(one, [variant.model for variant in study.variants if precompute], log)
        key = progression_key(study, images)
        if planned_progression_key(store) != key:
            log(
                f"building the splits of {images.name}: {len(images)} images, "
                f"{len(images.class_names)} classes"
            )
            store.write_plan(plan_identity(study, smoke, image_fingerprint(images)))
            _write_progression(study, images, store, device)
        progression = read_splits(store.splits)
        _check_progression(progression, study, images, store)
        write_text(store.folder / "study.toml", study.text)
        features = partial(_shift_features, study, progression, device=device, log=log)
        tests = plan_tests(further, images, progression, features)
        describe_tests(tests, log)
        plan = plan_study(study, progression, images, key, smoke, tests)
        store.write_plan(plan.model_copy(update={"keeping": dict(artifact_options or {})}))
        _write_external_runs(store, progression)
        if precompute:
            runs = store.unsettled(plan.runs)
            precompute_features(runs, images, store, device, log, further.values())


def add_external_runs(store: Store, progression: Progression) -> None:
    with _preparing(store, no_log):
        _write_external_runs(store, progression)


def _write_external_runs(store: Store, progression: Progression) -> None:
    """Plan the external runs on splits that the progression has; others remain in the folder."""
    plan = store.read_plan()
    splits = {str(split.step): split for split in progression}
    external = [
        run.model_copy(update={"shift": splits[run.split].shift})
        for run in store.external_runs()
        if run.split in splits
        and run.external == hash_of_split(splits[run.split], ())
        and run.fingerprint == plan.fingerprint
    ]
    own = [run for run in plan.runs if not run.external]
    planned = [RunPlan.model_validate(run.model_dump()) for run in external]
    store.write_plan(plan.model_copy(update={"runs": (*own, *planned)}))


@contextmanager
def _preparing(store: Store, log: Log) -> Iterator[Log]:
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


def plan_identity(study: Study, smoke: bool = False, fingerprint: str = "") -> StudyPlan:
    """The plan of a study before its splits are built: what distinguishes it from other studies."""
    return StudyPlan(
        schema=SCHEMA,
        name=study.name,
        source=study.data.model_dump(mode="json"),
        fingerprint=fingerprint,
        splits_key=content_hash(_splits_content(study.splits)),
        smoke=smoke,
    )


def _splits_content(splits: SplitSettings | SplitFile) -> bytes:
    if isinstance(splits, SplitFile):
        return splits.file.read_bytes()
    values = resolve_defaults(splits.backbone, splits.model_dump(mode="json"))
    values["weights"] = weights_key(splits.weights)
    values = {k: v for k, v in values.items() if v is not None or k not in ("group", "time")}
    if values["pooling"] == "avg":  # as before there was a choice
        del values["pooling"]
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()


def plan_study(
    study: Study,
    progression: Progression,
    images: ImageSet,
    key: str,
    smoke: bool = False,
    tests: Mapping[str, Sequence[FurtherTest]] | None = None,
) -> StudyPlan:
    """The plan of a study: every variant on every split with every seed."""
    by_shift = sorted(range(len(progression)), key=lambda position: progression[position].shift)
    positions = {by_shift[0], by_shift[-1]} if smoke else set(by_shift)
    splits = study.splits if isinstance(study.splits, SplitSettings) else _DEFAULT_SPLITS
    runs = plan_runs(study, progression, images, tests)
    names = [one.data for one in next(iter((tests or {}).values()), ())]
    sources = [source.model_dump(mode="json") for _, source in study.test_data]
    references = map(code_references, study.variants)
    return plan_identity(study, smoke, image_fingerprint(images)).model_copy(
        update={
            "left_out": tuple(images.left_out),
            "progression": key,
            "shift_weights": splits.weights,
            "import_from": tuple(code_folders(*study.data_names, splits.backbone, *references)),
            "test_sources": dict(zip(names, sources, strict=False)),
            "runs": tuple(run for run in runs if run.position in positions),
            "search": dict(study.chosen or {}),
        }
    )


def progression_key(study: Study, images: ImageSet) -> str:
    """A hash of everything that the progression depends on."""
    fingerprint, splits = image_fingerprint(images), _splits_content(study.splits)
    if isinstance(study.splits, SplitFile):
        return content_hash(fingerprint, splits)
    order = np.argsort(images.ids)
    columns = [c[order].tolist() for c in (images.superclasses, images.partition) if c is not None]
    used = [images.attributes.get(name or "") for name in (study.splits.group, study.splits.time)]
    columns += [c[order].tolist() for c in used if c is not None]
    fingerprint = content_hash(fingerprint, json.dumps(columns))
    episodes = json.dumps([sorted(study.shots), study.episodes])
    return content_hash(
        fingerprint, splits, episodes, *code_fingerprints(study.splits.backbone).values()
    )


def planned_progression_key(store: Store) -> str | None:
    """The key of the progression in the folder; None if there is none."""
    if not store.plan_file.exists() or not store.splits.exists():
        return None
    return store.read_plan().progression


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
    """Features [n f] of images under the frozen backbone that settings name, from the cache."""
    options = settings.model_dump(include={"weights", "image_size", "pooling", "augmentation"})
    return embed(images, settings.backbone, view=view, device=device, **options)


def _shift_features(
    study: Study, progression: Progression, images: ImageSet, device: str | None, log: Log
) -> VectorSet | None:
    """The features that the splits were measured on; None if a split file leaves them unknown."""
    if isinstance(study.splits, SplitSettings):
        return frozen_features(study.splits, images, device=device)
    settings = recorded_split_settings(progression)
    try:
        return None if settings is None else frozen_features(settings, images, device=device)
    except OodmlError as error:  # the models are tested all the same
        log(f"the shift to test data is unknown: {error}")
        return None


def precompute_features(
    runs: Sequence[RunPlan],
    images: ImageSet,
    store: Store,
    device: str | None,
    log: Log,
    further: Collection[ImageSet] = (),
) -> None:
    """Fill the cache with the frozen features that planned runs need.

    If a network fails, for example because its weights cannot be downloaded, its runs are recorded
    as failed; the others are not affected. Of `further` datasets, only the test view is needed.
    """
    for model, group in group_by_network(runs).items():
        try:
            _precompute(model, group, images, device, log)
            if isinstance(model, HeadSettings):
                for one in further:
                    frozen_features(model, one, device=device)
        except Exception as error:  # user code and network libraries raise anything
            if is_disk_full(error) or isinstance(error, MemoryError):
                raise
            log(f"{model.backbone}: {error}")
            for run in group:
                store.record_failure(run.id, failure_text(run, error))


def _precompute(
    model: ModelSettings, runs: Iterable[RunPlan], images: ImageSet, device: str | None, log: Log
) -> None:
    if not isinstance(model, HeadSettings):
        if model.weights != "none":
            load_backbone(model.backbone, model.weights)  # once, before several workers download it
        return
    views = max(max(run.model["views"], run.adapt["views"] if run.shots else 0) for run in runs)
    log(
        f"features of {model.backbone}: {len(images)} images, {views + 1} views (cached views are "
        "reused)"
    )
    for view in (None, *range(views)):
        frozen_features(model, images, view, device)


def group_by_network(runs: Iterable[RunPlan]) -> dict[ModelSettings, list[RunPlan]]:
    """The runs by what they need of a network: its features, or its weights."""
    groups: dict[ModelSettings, list[RunPlan]] = {}
    for run in runs:
        model = parse_model_settings(run.model)
        other = {"dim": 1, "normalize": True}
        other |= {"views": 1} if isinstance(model, HeadSettings) else {}
        groups.setdefault(model.model_copy(update=other), []).append(run)
    return groups


def _write_progression(study: Study, images: ImageSet, store: Store, device: str | None) -> None:
    features_file = store.folder / "features.npz"
    if isinstance(study.splits, SplitFile):
        features_file.unlink(missing_ok=True)
        write_splits(read_split_file(study.splits, images), store.splits)
        return
    vectors = frozen_features(study.splits, images, device=device)
    vectors.save(features_file)
    progression = build_progression(vectors, study.splits, study.shots, study.episodes, images)
    write_splits(progression, store.splits)


def _check_progression(
    progression: Progression, study: Study, images: ImageSet, store: Store
) -> None:
    known = set(images.class_names)
    validate = isinstance(study.splits, SplitSettings) and study.splits.validation > 0
    for split in progression:
        unknown = sorted({*split.train, *split.test} - known)
        if unknown:
            problem = f"split {split.step}: class {unknown[0]!r} is not in {images.name}"
            raise error_at(store.splits, problem, unknown[0])
        check_split(split, images, str(store.splits), validate)
        missing = sorted(set(study.shots) - set(split.episodes))
        if missing:
            counts = sorted(split.episodes)
            problem = f"split {split.step} has no episodes with {missing[0]} shots, only {counts}"
            raise OodmlError(f"{problem}; change `shots`", "shots", missing[0], map(str, counts))
