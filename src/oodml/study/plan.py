"""From a study to its runs, each known by a hash of what changes its numbers."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from oodml.adaptation import AdaptSettings
from oodml.embedding import weights_tag
from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.images.image_set import ImageSet
from oodml.model import ModelSettings
from oodml.shift.splits import Progression, Split
from oodml.study.spec.study_file import Study
from oodml.study.spec.variants import Variant
from oodml.training.settings import TrainSettings
from oodml.user_code import code_fingerprints

SCHEMA = 1
"""Raise it when the code changes what a run's numbers are: every run gets a new id."""
CHANGED = (
    "changed since the study was planned. Run the study again (`oodml study run`): it plans anew "
    "what the change concerns, and starts its own workers; then start others"
)


@dataclass(frozen=True)
class Run:
    """One training: a method on a split with a seed. Everything that its numbers depend on.

    data: the collection's name. fingerprint: of its images. label: the method's name in results.
    shots: of the few-shot episodes to adapt to, from `split.episodes`.
    split_hash: `hash_of_split(split, shots)`, where it is known already.
    code: what stands for the user's own code, by its name; see `oodml.user_code`.
    """

    data: str
    fingerprint: str
    label: str
    method: str
    options: Mapping[str, Any]
    model: ModelSettings
    train: TrainSettings
    adapt: AdaptSettings
    split: Split = field(repr=False)
    shots: tuple[int, ...] = ()
    seed: int = 0
    split_hash: str = ""
    code: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits; independent of labels, paths, devices and workers."""
        return content_hash(json.dumps(self._numbers(), sort_keys=True))[:16]

    def settings(self) -> dict[str, Any]:
        """All settings as JSON values; `code` is there where the run has any of the user's own."""
        own = {"code": dict(self.code)} if self.code else {}
        return own | {
            "data": self.data,
            "fingerprint": self.fingerprint,
            "label": self.label,
            "method": self.method,
            "options": dict(self.options),
            "model": self.model.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json"),
            "adapt": self.adapt.model_dump(mode="json"),
            "split": str(self.split.step),
            "shift": float(self.split.shift),
            "shots": list(self.shots),
            "seed": self.seed,
        }

    def _numbers(self) -> dict[str, Any]:
        """What changes the numbers; without few-shot episodes not how one would adapt."""
        values = self.settings()
        for name in ("data", "label", "split", "shift"):
            del values[name]
        if not self.shots:
            del values["adapt"]
        values["model"]["weights"] = weights_tag(self.model.weights)
        if self.model.mode == "head" or self.model.input_cache == "off":
            del values["model"]["input_cache"]  # the files themselves are read
        classes = self.split_hash or hash_of_split(self.split, self.shots)
        return values | {"schema": SCHEMA, "classes": classes}


def plan_runs(study: Study, progression: Progression, data: str, fingerprint: str) -> list[Run]:
    """Every variant on every split with every seed; seeds outermost, so that curves come early."""
    wanted = tuple(sorted(set(study.shots)))
    hashes = {
        shots: [hash_of_split(split, shots) for split in progression] for shots in {wanted, ()}
    }
    seeds = sorted({seed for variant in study.variants for seed in variant.seeds})
    code = {
        variant.label: code_fingerprints(*code_references(variant), study.data.name)
        for variant in study.variants
    }
    runs = []
    for seed, position, variant in itertools.product(
        seeds, range(len(progression)), study.variants
    ):
        if seed in variant.seeds:
            shots = wanted if variant.few_shot else ()
            same = {"data": data, "fingerprint": fingerprint, "shots": shots}
            known = {"split_hash": hashes[shots][position], "code": code[variant.label]}
            runs.append(_run(variant, progression[position], seed, **known, **same))
    return runs


def _run(variant: Variant, split: Split, seed: int, **rest: Any) -> Run:
    settings: dict[str, Any] = {
        "model": variant.model,
        "train": variant.train,
        "adapt": variant.adapt,
    }
    return Run(
        label=variant.label, method=variant.method, options=variant.options, split=split, seed=seed,
        **settings, **rest,
    )  # fmt: skip


def code_references(variant: Variant) -> tuple[Any, ...]:
    """Where a variant may name code of the user's own."""
    return (variant.method, dict(variant.options), variant.model.backbone)


def run_from(settings: Mapping[str, Any], split: Split) -> Run:
    """The run that `Run.settings` describes, on its split."""
    same = ("data", "fingerprint", "label", "method", "options", "seed")
    return Run(
        **{name: settings[name] for name in same},
        model=ModelSettings.model_validate(settings["model"]),
        train=TrainSettings.model_validate(settings["train"]),
        adapt=AdaptSettings.model_validate(settings["adapt"]),
        split=split,
        shots=tuple(settings["shots"]),
        code=settings.get("code", {}),
    )


def refuse_changed(plan: Mapping[str, Any], images: ImageSet, folder: Path) -> None:
    """Raise OodmlError if images or code are no longer those that runs were planned for."""
    source = plan["source"]["name"]
    stamps: dict[str, dict[str, str]] = {}
    for run in plan["runs"]:
        if run["fingerprint"] != images.fingerprint:
            raise OodmlError(f"{folder}: the images of {images.name} {CHANGED}")
        named = (run["method"], run["options"], run["model"]["backbone"], source)
        key = json.dumps(named)
        if key not in stamps:
            stamps[key] = code_fingerprints(*named)
        now = stamps[key]
        planned = run.get("code", {})
        changed = [name for name in sorted({*planned, *now}) if planned.get(name) != now.get(name)]
        if changed:
            raise OodmlError(f"{folder}: the code of {', '.join(changed)} {CHANGED}")


def hash_of_split(split: Split, shots: Sequence[int]) -> str:
    """Hash of a split's classes and of its episodes with so many shots; not of its name."""
    episodes = {
        str(n): [[episode.class_wise, dict(episode.support)] for episode in split.episodes[n]]
        for n in shots
        if n in split.episodes
    }
    sides = [sorted(split.train), sorted(split.test), sorted(split.validation)]
    return content_hash(json.dumps([sides, episodes], sort_keys=True))
