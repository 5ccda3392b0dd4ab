"""What the runs of a study share: images, progression, features; prepared once."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from oodml.catalog import make_importable
from oodml.datasets import open_images
from oodml.embedding import embed, weights_tag
from oodml.errors import OodmlError
from oodml.files import content_hash, write_text
from oodml.images.image_set import ImageSet
from oodml.model import ModelSettings
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.episodes import fill_support
from oodml.shift.files import check_against, read_splits, write_splits
from oodml.shift.splits import Progression
from oodml.study.folder.claims import Claims, heartbeat
from oodml.study.folder.store import Store
from oodml.study.inputs import check_images, planned_short
from oodml.study.plan import SCHEMA, Run, code_references, plan_runs, refuse_changed, run_from
from oodml.study.run_artifacts import Keep
from oodml.study.spec.study_file import SplitFile, Study
from oodml.study.tracking import Log
from oodml.user_code import code_fingerprints, code_folders
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Context:
    """What every run of a study is given.

    images: the whole collection. progression: the splits. device: where to train.
    keeping: options of `Keep`. keep: what of the run at hand outlives this process, if anything.
    """

    images: ImageSet
    progression: Progression
    device: torch.device
    keeping: Mapping[str, Any] = field(default_factory=dict)
    keep: Keep | None = None

    def tracked(self) -> AbstractContextManager[Log]:
        """What is told how the run at hand gets on."""
        return self.keep.tracked() if self.keep else nullcontext(lambda values, epoch: None)

    def run(self, planned: dict[str, Any]) -> Run:
        """The run of an entry of the plan."""
        return run_from(planned, self.progression[planned["position"]])


def open_context(store: Store, device: str) -> Context:
    """The context of a study that is prepared already.

    Raises OodmlError if its images or the user's own code changed since.
    """
    plan = store.read_plan()
    make_importable(*plan.get("import_from", ()))
    source = plan["source"]
    images = open_images(source["name"], **source["options"])
    refuse_changed(plan, images, store.folder)
    progression = read_splits(store.folder / "splits.json")
    return Context(images, progression, torch.device(device), plan.get("keeping", {}))


def prepare(
    study: Study,
    store: Store,
    smoke: bool = False,
    device: str | None = None,
    embedding: bool = False,
    say: Callable[[str], object] = lambda _: None,
    keeping: Mapping[str, Any] | None = None,
) -> None:
    """Build the progression, if it is not there yet, and write down what is to be run.

    smoke: only the easiest and the hardest split. embedding: also fill the cache with the
    features and pixels that runs will need, lest several workers compute the same. say: is told
    what takes time. keeping: the options of `Keep`, for the workers.

    Several processes may start on one folder: one builds, the others wait for it.
    """
    images = open_images(study.data.name, **study.data.options)
    claims = Claims(store.claims)
    while (claim := claims.take("prepare")) is None:
        time.sleep(0.2)
    try:
        with heartbeat(claim):
            check_images(images, [variant.model for variant in study.variants if embedding], say)
            key = progression_key(study, images)
            if planned_key(store) != key:
                say(f"building the splits of {images.name}: {len(images)} images, "
                    f"{len(images.class_names)} classes")  # fmt: skip
                _write_progression(study, images, store, device)
            progression = read_splits(store.folder / "splits.json")
            _check(progression, study, images, store)
            write_text(store.folder / "study.toml", study.text)
            plan = plan_of(study, progression, images, key, smoke)
            store.write_plan(plan | {"keeping": dict(keeping or {})})
            if embedding:
                settled = store.finished() | store.failed()
                left = [run for run in plan["runs"] if run["id"] not in settled]
                embed_once(left, images, device, say)
    finally:
        claims.release(claim)


def plan_of(
    study: Study, progression: Progression, images: ImageSet, key: str, smoke: bool = False
) -> dict[str, Any]:
    """What `plan.json` holds. A smoke study keeps the easiest and the hardest split."""
    by_shift = sorted(range(len(progression)), key=lambda position: progression[position].shift)
    shown = {by_shift[0], by_shift[-1]} if smoke else set(by_shift)
    positions = {id(split): position for position, split in enumerate(progression)}
    runs = plan_runs(study, progression, images.name, images.fingerprint)
    default = SplitSettings.model_validate({})
    splits = study.splits if isinstance(study.splits, SplitSettings) else default
    told: dict[str, Any] = {"search": dict(study.chosen)} if study.chosen else {}
    if smoke:
        told["smoke"] = True
    return told | {
        "schema": SCHEMA,
        "name": study.name,
        "source": study.data.model_dump(mode="json"),
        "left_out": list(images.left_out),
        "progression": key,
        "shift_weights": splits.weights,
        "import_from": code_folders(
            study.data.name, splits.backbone, *map(code_references, study.variants)
        ),
        "runs": [
            {"id": run.id, "position": positions[id(run.split)]}
            | run.settings()
            | {"input_short": planned_short(images, run.model)}
            for run in runs
            if positions[id(run.split)] in shown
        ],
    }


def progression_key(study: Study, images: ImageSet) -> str:
    """Hash of all that the progression depends on."""
    fingerprint = images.fingerprint
    if isinstance(study.splits, SplitFile):
        return content_hash(fingerprint, study.splits.file.read_bytes())
    tag = weights_tag(study.splits.weights)
    settings = study.splits.model_copy(update={"weights": tag}).model_dump_json()
    order = np.argsort(images.ids)
    columns = [c[order].tolist() for c in (images.superclasses, images.partition) if c is not None]
    fingerprint = content_hash(fingerprint, json.dumps(columns))
    episodes = json.dumps([sorted(study.shots), study.episodes])
    return content_hash(
        fingerprint, settings, episodes, *code_fingerprints(study.splits.backbone).values()
    )


def planned_key(store: Store) -> str | None:
    """The key of the progression that lies in the folder; None if there is none."""
    if not (store.folder / "plan.json").exists() or not (store.folder / "splits.json").exists():
        return None
    return str(store.read_plan()["progression"])


def _write_progression(study: Study, images: ImageSet, store: Store, device: str | None) -> None:
    (store.folder / "plan.json").unlink(missing_ok=True)  # it belongs to the old progression
    if isinstance(study.splits, SplitFile):
        (store.folder / "features.npz").unlink(missing_ok=True)
        write_splits(given_splits(study.splits, images), store.folder / "splits.json")
        return
    vectors = shift_features(study.splits, images, device)
    vectors.save(store.folder / "features.npz")
    built = build_progression(vectors, study.splits, study.shots, study.episodes, images)
    write_splits(built, store.folder / "splits.json")


def given_splits(splits: SplitFile, images: ImageSet) -> Progression:
    """The splits of a file, their support images named as the data names them."""
    ids, classes = images.ids.tolist(), images.classes.tolist()
    filled = fill_support(read_splits(splits.file), ids, classes)
    check_against(filled, ids, classes)
    return filled


def shift_features(
    settings: SplitSettings, images: ImageSet, device: str | None = None
) -> VectorSet:
    """The frozen features that the shift is measured on."""
    return embed(
        images,
        settings.backbone,
        weights=settings.weights,
        image_size=settings.image_size,
        augmentation=settings.augmentation,
        device=device,
    )


def frozen_features(
    settings: ModelSettings,
    images: ImageSet,
    view: int | None = None,
    device: torch.device | str | None = None,
) -> VectorSet:
    """Features [n f] of images under a model's frozen backbone, of its test or a train view."""
    return embed(
        images,
        settings.backbone,
        weights=settings.weights,
        image_size=settings.image_size,
        pooling=settings.pooling,
        augmentation=settings.augmentation,
        view=view,
        device=device,
    )


def embed_once(
    runs: list[dict[str, Any]],
    images: ImageSet,
    device: str | None,
    say: Callable[[str], object],
) -> None:
    """Fill the cache with the frozen features and the pixels that planned runs will need."""
    check_images(images, [ModelSettings.model_validate(run["model"]) for run in runs], say)
    views: dict[ModelSettings, int] = {}
    for run in runs:
        model = ModelSettings.model_validate(run["model"])
        if model.mode == "head":
            needed = max(model.views, run["adapt"]["views"] if run["shots"] else 0)
            # one entry for all models that see the same features
            model = model.model_copy(update={"dim": 1, "normalize": True, "views": 1})
            views[model] = max(views.get(model, 0), needed)
    for model, count in views.items():
        say(f"features of {model.backbone}: {len(images)} images, {count + 1} views (from the "
            "cache where they are known)")  # fmt: skip
        for view in (None, *range(count)):
            frozen_features(model, images, view, device)


def _check(progression: Progression, study: Study, images: ImageSet, store: Store) -> None:
    known = set(images.class_names)
    for split in progression:
        strange = sorted({*split.train, *split.test} - known)
        if strange:
            raise OodmlError(f"{store.folder / 'splits.json'}: split {split.step} has the class "
                             f"{strange[0]!r}, which {images.name} lacks")  # fmt: skip
        lacking = sorted(set(study.shots) - set(split.episodes))
        if lacking:
            raise OodmlError(f"split {split.step} has no episodes with {lacking[0]} shots; it has "
                             f"{sorted(split.episodes)}. Leave them out of `shots`")  # fmt: skip
