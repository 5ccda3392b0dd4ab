"""From a study to its runs, each with an id: a hash of everything that changes its numbers."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from oodml.adaptation import AdaptSettings
from oodml.backbones import resolve_defaults
from oodml.embedding import weights_key
from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.images.fingerprint import fingerprint as image_fingerprint
from oodml.images.image_set import ImageSet
from oodml.model import FinetuneSettings, ModelSettings, parse_model_settings
from oodml.model_input import planned_short
from oodml.results.plan import FurtherTest, RunPlan, StudyPlan
from oodml.shift.splits import Progression, Split
from oodml.study.spec.study_file import Study
from oodml.study.spec.variants import Variant
from oodml.training.settings import TrainSettings
from oodml.user_code import code_fingerprints

SCHEMA = 2
"""Version of run ids. Raise it when the code changes the numbers of runs."""
LATER = {"tune", "lora", "layer_decay", "gradient_checkpointing", "chunk_size", "retain", "ema",
         "average"}  # fmt: skip
"""Settings that run ids ignore at their defaults, because earlier versions did not have them."""
_PARTS = ("model", "train", "adapt")
_SHARED = ("data", "fingerprint", "label", "method", "seed", "trains")
"""The fields that a run and its plan have in common as they are."""
CHANGED = (
    "changed since the study was planned. Run `oodml study run` again: it plans the changed runs "
    "again and starts its own workers"
)


@dataclass(frozen=True)
class Run:
    """A run that can be executed: a `RunPlan` with validated settings and its split."""

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
    trains: bool = True
    test_data: tuple[FurtherTest, ...] = ()

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits; independent of labels, paths, devices, and workers."""
        values = self.settings()
        for name in ("data", "label", "split", "shift", "trains", "test_data"):
            del values[name]
        if self.test_data:
            values["test_data"] = sorted((one.data, one.fingerprint) for one in self.test_data)
        if not self.shots:
            del values["adapt"]
        if not self.trains:
            del values["train"]
        values["model"] = resolve_defaults(self.model.backbone, values["model"])
        values["model"]["weights"] = weights_key(self.model.weights)
        if values["model"].get("input_cache") == "off":
            del values["model"]["input_cache"]  # the original files are read
        for part, settings in (("model", FinetuneSettings), ("train", TrainSettings)):
            defaults = settings.model_validate({}).model_dump(mode="json")
            for name in LATER & values.get(part, {}).keys():
                if values[part][name] == defaults[name]:
                    del values[part][name]
        values["classes"] = self.split_hash or hash_of_split(self.split, self.shots)
        return content_hash(json.dumps(values | {"schema": SCHEMA}, sort_keys=True))[:16]

    def settings(self) -> dict[str, Any]:
        """The fields of the run's `RunPlan` as JSON values, without its id and position."""
        return {name: getattr(self, name) for name in _SHARED} | {
            "options": dict(self.options),
            **{part: getattr(self, part).model_dump(mode="json") for part in _PARTS},
            "split": str(self.split.step),
            "shift": float(self.split.shift),
            "shots": list(self.shots),
            "test_data": [one.model_dump() for one in self.test_data],
            "code": dict(self.code),
        }

    def to_plan(self, position: int = 0, **fields: Any) -> RunPlan:
        return RunPlan(id=self.id, position=position, **self.settings(), **fields)


def plan_runs(
    study: Study,
    progression: Progression,
    images: ImageSet,
    tests: Mapping[str, Sequence[FurtherTest]] | None = None,
) -> list[RunPlan]:
    """Every variant on every split with every seed."""
    fingerprint = image_fingerprint(images)
    shots = tuple(sorted(set(study.shots)))
    hashes = {wanted: [hash_of_split(s, wanted) for s in progression] for wanted in {shots, ()}}
    seeds = sorted({seed for variant in study.variants for seed in variant.seeds})
    code = {
        variant.label: code_fingerprints(*code_references(variant), *study.data_names)
        for variant in study.variants
    }

    def plan_run(variant: Variant, position: int, seed: int) -> RunPlan:
        wanted = shots if variant.few_shot else ()
        names = ("label", "method", "options", "trains", *_PARTS)
        run = Run(
            **{name: getattr(variant, name) for name in names},
            data=images.name,
            fingerprint=fingerprint,
            split=progression[position],
            shots=wanted,
            seed=seed,
            split_hash=hashes[wanted][position],
            code=code[variant.label],
            test_data=tuple((tests or {}).get(str(progression[position].step), ())),
        )
        return run.to_plan(position, input_short=planned_short(images, variant.model))

    return [
        plan_run(variant, position, seed)
        for seed, position in itertools.product(seeds, range(len(progression)))
        for variant in study.variants
        if seed in variant.seeds
    ]


def code_references(variant: Variant) -> tuple[Any, ...]:
    """The values of a variant that may name the user's code."""
    return (variant.method, dict(variant.options), variant.model.backbone, variant.adapt.objective)


def run_from_plan(plan: RunPlan, split: Split) -> Run:
    return Run(
        **{name: getattr(plan, name) for name in _SHARED},
        options=plan.options,
        model=parse_model_settings(plan.model),
        train=TrainSettings.model_validate(plan.train),
        adapt=AdaptSettings.model_validate(plan.adapt),
        split=split,
        shots=plan.shots,
        code=plan.code,
        test_data=plan.test_data,
    )


def refuse_changed(
    plan: StudyPlan, images: ImageSet, further: Mapping[str, ImageSet], folder: Path
) -> None:
    """Check that images and code are those that the runs were planned for."""
    sources = [plan.source["name"], *(one["name"] for one in plan.test_sources.values())]
    known: dict[str, dict[str, str]] = {}
    for run in (one for one in plan.runs if not one.external):
        if run.fingerprint != image_fingerprint(images):
            raise OodmlError(f"{folder}: the images of {images.name} {CHANGED}")
        for one in run.test_data:
            if one.fingerprint != image_fingerprint(further[one.data]):
                raise OodmlError(f"{folder}: the images of {one.data} {CHANGED}")
        references = (run.method, run.options, run.model["backbone"], *sources)
        key = json.dumps(references)
        if key not in known:
            known[key] = code_fingerprints(*references)
        now = known[key]
        names = sorted({*run.code, *now})
        changed = [name for name in names if run.code.get(name) != now.get(name)]
        if changed:
            raise OodmlError(f"{folder}: the code of {', '.join(changed)} {CHANGED}")


def hash_of_split(split: Split, shots: Sequence[int]) -> str:
    """Hash of a split's classes and of its episodes with these shots, but not of its name."""
    episodes = {
        str(n): [[episode.class_wise, dict(episode.support)] for episode in split.episodes[n]]
        for n in shots
        if n in split.episodes
    }
    classes = [sorted(split.train), sorted(split.test), sorted(split.validation)]
    return content_hash(json.dumps([classes, episodes], sort_keys=True))
