"""What the runs of a study share: images, progression, features; prepared once."""

import json
import time
from dataclasses import dataclass
from typing import Any

import torch

from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.files import content_hash, write_text
from oodml.images import ImageSet
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.files import read_splits, write_splits
from oodml.shift.splits import Progression
from oodml.study.claims import Claims, heartbeat
from oodml.study.file import SplitFile, Study
from oodml.study.plan import SCHEMA, Run, plan_runs, run_from
from oodml.study.store import Store
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Context:
    """What every run of a study is given.

    images: the whole collection. progression: the splits. device: where to train.
    """

    images: ImageSet
    progression: Progression
    device: torch.device

    def run(self, planned: dict[str, Any]) -> Run:
        """The run of an entry of the plan."""
        return run_from(planned, self.progression[planned["position"]])


def open_context(store: Store, device: str) -> Context:
    """The context of a study that is prepared already."""
    source = store.read_plan()["source"]
    images = open_images(source["name"], **source["options"])
    progression = read_splits(store.folder / "splits.json")
    return Context(images, progression, torch.device(device))


def prepare(study: Study, store: Store, smoke: bool = False) -> None:
    """Build the progression, if it is not there yet, and write down what is to be run.

    Several processes may start on one folder: one builds, the others wait for it.
    """
    images = open_images(study.data.name, **study.data.options)
    key = progression_key(study, images.fingerprint)
    claims = Claims(store.claims)
    while (claim := claims.take("prepare")) is None:
        time.sleep(0.2)
    try:
        with heartbeat(claim):
            if planned_key(store) != key:
                _write_progression(study, images, store)
            progression = read_splits(store.folder / "splits.json")
            _check(progression, study, images, store)
            write_text(store.folder / "study.toml", study.text)
            store.write_plan(plan_of(study, progression, images, key, smoke))
    finally:
        claims.release(claim)


def plan_of(
    study: Study, progression: Progression, images: ImageSet, key: str, smoke: bool = False
) -> dict[str, Any]:
    """What `plan.json` holds. A smoke study keeps the easiest and the hardest split."""
    shown = {0, len(progression) - 1} if smoke else set(range(len(progression)))
    positions = {id(split): position for position, split in enumerate(progression)}
    runs = plan_runs(study, progression, images.name, images.fingerprint)
    return {
        "schema": SCHEMA,
        "name": study.name,
        "source": study.data.model_dump(mode="json"),
        "progression": key,
        "runs": [
            {"id": run.id, "position": positions[id(run.split)]} | run.settings()
            for run in runs
            if positions[id(run.split)] in shown
        ],
    }


def progression_key(study: Study, fingerprint: str) -> str:
    """Hash of all that the progression depends on."""
    if isinstance(study.splits, SplitFile):
        return content_hash(fingerprint, study.splits.file.read_bytes())
    settings = study.splits.model_dump_json()
    return content_hash(fingerprint, settings, json.dumps([sorted(study.shots), study.episodes]))


def planned_key(store: Store) -> str | None:
    """The key of the progression that lies in the folder; None if there is none."""
    if not (store.folder / "plan.json").exists() or not (store.folder / "splits.json").exists():
        return None
    return str(store.read_plan()["progression"])


def _write_progression(study: Study, images: ImageSet, store: Store) -> None:
    (store.folder / "plan.json").unlink(missing_ok=True)  # it belongs to the old progression
    if isinstance(study.splits, SplitFile):
        (store.folder / "features.npz").unlink(missing_ok=True)
        write_splits(read_splits(study.splits.file), store.folder / "splits.json")
        return
    vectors = shift_features(study.splits, images)
    vectors.save(store.folder / "features.npz")
    built = build_progression(vectors, study.splits, study.shots, study.episodes, images)
    write_splits(built, store.folder / "splits.json")


def shift_features(settings: SplitSettings, images: ImageSet) -> VectorSet:
    """The frozen features that the shift is measured on."""
    from oodml.embed import embed

    return embed(
        images,
        settings.backbone,
        image_size=settings.image_size,
        augmentation=settings.augmentation,
    )


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
