"""From a study to its plan and runs, each with an id: a hash of what changes its numbers."""

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from oodml.adaptation import AdaptSettings
from oodml.backbones import resolve_defaults
from oodml.embedding import weights_key
from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.images.fingerprint import fingerprint as image_fingerprint
from oodml.images.image_set import ImageSet
from oodml.model import FinetuneSettings, ModelSettings, parse_model_settings
from oodml.model_input import planned_short
from oodml.progress import count_noun
from oodml.results.plan import FurtherTest, RunPlan, StudyPlan
from oodml.shift.build import SplitSettings
from oodml.shift.splits import Progression, Split
from oodml.study.folder.store import Store
from oodml.study.spec.study_file import SplitFile, Study
from oodml.study.spec.variants import PARTS, Variant
from oodml.training.settings import TrainSettings
from oodml.user_code import code_fingerprints, code_folders

SCHEMA = 2
"""Version of run ids. Raise it when the code changes the numbers of runs."""
LATER = {"tune", "lora", "layer_decay", "gradient_checkpointing", "chunk_size", "retain", "ema",
         "average"}  # fmt: skip
"""Settings that run ids ignore at their defaults, because earlier versions did not have them."""
CHANGED = (
    "changed since the study was planned. Run `oodml study run` again, which plans the changed runs"
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
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        del values["split_hash"]
        values |= {part: values[part].model_dump(mode="json") for part in PARTS}
        return values | {"split": str(self.split.step), "shift": float(self.split.shift)}

    def to_plan(self, position: int = 0, **fields: Any) -> RunPlan:
        return RunPlan(id=self.id, position=position, **self.settings(), **fields)


def plan_runs(
    study: Study,
    progression: Progression,
    images: ImageSet,
    tests: Mapping[str, Sequence[FurtherTest]] | None = None,
) -> list[RunPlan]:
    """Every variant on every split with every seed."""
    shared = {"data": images.name, "fingerprint": image_fingerprint(images)}
    shots = tuple(sorted(set(study.shots)))
    hashes = {wanted: [hash_of_split(s, wanted) for s in progression] for wanted in {shots, ()}}
    seeds = sorted({seed for variant in study.variants for seed in variant.seeds})
    names, runs = study.data_names, []
    code = {one.label: code_fingerprints(*_code_references(one), *names) for one in study.variants}
    for seed, position in itertools.product(seeds, range(len(progression))):
        for variant in (one for one in study.variants if seed in one.seeds):
            wanted = shots if variant.few_shot else ()
            run = Run(
                **variant.run_fields() | shared,
                split=progression[position],
                shots=wanted,
                seed=seed,
                split_hash=hashes[wanted][position],
                code=code[variant.label],
                test_data=tuple((tests or {}).get(str(progression[position].step), ())),
            )
            runs.append(run.to_plan(position, input_short=planned_short(images, variant.model)))
    return runs


def _code_references(variant: Variant) -> tuple[Any, ...]:
    return (variant.method, dict(variant.options), variant.model.backbone, variant.adapt.objective)


def run_from_plan(plan: RunPlan, split: Split) -> Run:
    names = {one.name for one in fields(Run)} - {"split_hash", "split", *PARTS}
    return Run(
        **{name: getattr(plan, name) for name in names},
        model=parse_model_settings(plan.model),
        train=TrainSettings.model_validate(plan.train),
        adapt=AdaptSettings.model_validate(plan.adapt),
        split=split,
    )


def refuse_changed(
    plan: StudyPlan, images: ImageSet, further: Mapping[str, ImageSet], folder: Path
) -> None:
    """Check that images and code are those that the runs were planned for."""
    sources = [plan.source["name"], *(one["name"] for one in plan.test_sources.values())]
    code = cache(lambda references: code_fingerprints(*json.loads(references)))
    for run in (one for one in plan.runs if not one.external):
        if run.fingerprint != image_fingerprint(images):
            raise OodmlError(f"{folder}: the images of {images.name} {CHANGED}")
        for one in run.test_data:
            if one.fingerprint != image_fingerprint(further[one.data]):
                raise OodmlError(f"{folder}: the images of {one.data} {CHANGED}")
        references = (run.method, run.options, run.model["backbone"], *sources)
        now = code(json.dumps(references))
        names = sorted({*run.code, *now})
        if changed := [name for name in names if run.code.get(name) != now.get(name)]:
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


def plan_identity(study: Study, smoke: bool = False, fingerprint: str = "") -> StudyPlan:
    """The plan of a study before its splits are built: what distinguishes it from other studies."""
    values: Any = {"name": study.name, "source": study.data.model_dump(mode="json")}
    values |= {"fingerprint": fingerprint, "smoke": smoke, "schema": SCHEMA}
    return StudyPlan(splits_key=content_hash(_splits_content(study.splits)), **values)


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
    by_shift = sorted(range(len(progression)), key=lambda position: progression[position].shift)
    positions = {by_shift[0], by_shift[-1]} if smoke else set(by_shift)
    own = study.splits
    splits = own if isinstance(own, SplitSettings) else SplitSettings.model_validate({})
    runs = plan_runs(study, progression, images, tests)
    names = [one.data for one in next(iter((tests or {}).values()), ())]
    sources = [source.model_dump(mode="json") for _, source in study.test_data]
    references = map(_code_references, study.variants)
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


def describe_repeats(before: StudyPlan, after: StudyPlan, finished: Collection[str]) -> str:
    """Which settings of finished runs changed, so that they are repeated, as text, or ""."""
    old = {(run.label, run.split, run.seed): run for run in before.runs if run.id in finished}
    keys = {(run.label, run.split, run.seed): run for run in after.runs if run.id not in finished}
    pairs = [(old[key].model_dump(), run.model_dump()) for key, run in keys.items() if key in old]
    names = ("method", "shots", "fingerprint", "test_data")
    changed = {name for a, b in pairs for name in names if a[name] != b[name]}
    for part in ("options", "model", "train", "adapt", "code"):
        both = [(a[part], b[part]) for a, b in pairs]
        different = {key for a, b in both for key in a | b if a.get(key) != b.get(key)}
        changed |= {f"[{part}] {key}" for key in different}
    count = f"{len(pairs)} of {count_noun(len(after.runs), 'run')}"
    where = "Their previous results stay in runs/ but leave the table"
    return f"{', '.join(sorted(changed))} changed: {count} run again. {where}." if pairs else ""


def progression_key(study: Study, images: ImageSet) -> str:
    """A hash of everything that the progression depends on."""
    fingerprint, splits = image_fingerprint(images), _splits_content(study.splits)
    if isinstance(study.splits, SplitFile):
        return content_hash(fingerprint, splits)
    order, keys = np.argsort(images.ids), (study.splits.group, study.splits.time)
    used = [images.superclasses, images.partition]
    used += [images.attributes.get(name or "") for name in keys]
    columns = [column[order].tolist() for column in used if column is not None]
    fingerprint = content_hash(fingerprint, json.dumps(columns))
    episodes = json.dumps([sorted(study.shots), study.episodes])
    code = code_fingerprints(study.splits.backbone).values()
    return content_hash(fingerprint, splits, episodes, *code)


def planned_progression_key(store: Store) -> str | None:
    if not store.plan_file.exists() or not store.splits.exists():
        return None
    return store.read_plan().progression
