"""External runs: models that were trained elsewhere, by their vectors of a split's test classes."""

import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
from numpy.typing import ArrayLike

from oodml.adaptation import AdaptSettings
from oodml.adaptation.split import adapt_split
from oodml.catalog import make_importable
from oodml.datasets import open_images
from oodml.decisions.study import decision_metrics
from oodml.errors import OodmlError, error_at
from oodml.evaluate.confusions import confusions
from oodml.files import content_hash
from oodml.images.fingerprint import fingerprint
from oodml.images.image_set import ImageSet
from oodml.model import IdentityHead
from oodml.results.plan import EXTERNAL, RunPlan
from oodml.results.schema import Stage, result_rows
from oodml.shift.files import read_splits
from oodml.shift.splits import Split
from oodml.study.folder.claims import Claims
from oodml.study.folder.store import Store
from oodml.study.folder.table import ResultsTable, write_run_rows
from oodml.study.plan import hash_of_split
from oodml.study.prepare import prepare, preparing, write_external_runs
from oodml.study.run import metric_rows, test_metrics
from oodml.study.spec.study_file import parse_study
from oodml.vectors import VectorSet

MAX_NAMED = 3


def record(
    folder: str | Path,
    vectors: ArrayLike | VectorSet,
    classes: ArrayLike | None = None,
    ids: ArrayLike | None = None,
    *,
    method: str,
    split: int | str,
    seed: int = 0,
    trains: bool = True,
    replace_existing: bool = False,
) -> str:
    """Add the vectors of a model that was trained elsewhere to a study, as one run; return its id.

    The model must be trained on the split's training classes only. Few-shot episodes adapt one
    layer on the vectors.

    Args:
        folder: the folder of the study.
        vectors: [n d] of all test images of the split, in any order; or a `VectorSet`.
        classes, ids: [n] the classes, by default the study's, and ids of the images.
        method, split, seed: the name in the results, the split's step, and the training's seed.
        trains: False for a model that was not trained on the split, such as a frozen network.
        replace_existing: replace the run of the same method, split, and seed.
    """
    if not isinstance(vectors, VectorSet):
        if ids is None:
            raise OodmlError("record: pass the ids of the images", location="ids")
        names, source = np.asarray(ids), {} if classes is not None else {"classes": "none"}
        labels = np.full(len(names), "unlabeled") if classes is None else np.asarray(classes)
        vectors = VectorSet(np.asarray(vectors), labels, names, source=source)
    return _ExternalMethod(Path(folder), method, trains, replace_existing).add(vectors, split, seed)


def add_files(
    folder: str | Path,
    method: str,
    pattern: str,
    *,
    data: str | None = None,
    splits: Path | None = None,
    replace_existing: bool = False,
) -> list[str]:
    """Add files of vectors to a study, one run for each; return the descriptions of the runs.

    `pattern` is the path of the files with {split} and {seed}, such as "mine/{split}-{seed}.npz".
    Without {split}, one file contains all images, of a model that was not trained on the splits.
    With `data` and a split file, the folder may be new.
    """
    if data is not None or splits is not None:
        _create_study(Path(folder), data, splits)
    own, added = _ExternalMethod(Path(folder), method, "{split}" in pattern, replace_existing), []
    for split, seed, path in _matching_files(pattern):
        vectors = VectorSet.load(path)
        for step in [split] if split else [str(one.step) for one in own.progression]:
            test = own.images.subset(own.progression.at(step).test).ids
            chosen = vectors if split else vectors.select(np.isin(vectors.ids, test))
            own.add(chosen, step, seed, str(path))
            added.append(f"{method} on split {step}, seed {seed}: {path}")
    return added


def _matching_files(pattern: str) -> Iterator[tuple[str | None, int, Path]]:
    text = str(Path(pattern))
    escaped = re.escape(text).replace(r"\{split\}", "(?P<split>.+?)")
    expression = re.compile(escaped.replace(r"\{seed\}", r"(?P<seed>\d+)"))
    paths = sorted(glob(text.replace("{split}", "*").replace("{seed}", "*")))
    matches = [(expression.fullmatch(path), Path(path)) for path in paths]
    if not any(match for match, _ in matches):
        missing = "write {split} and {seed} (a number) where the paths differ, in place of *"
        problem = missing if paths else "no file matches"
        raise OodmlError(f"--vectors {pattern}: {problem}", "--vectors", pattern)
    for match, path in matches:
        if match:
            groups = match.groupdict()
            yield groups.get("split"), int(groups.get("seed") or 0), path


def _create_study(folder: Path, data: str | None, splits: Path | None) -> None:
    if Store(folder).plan_file.exists():
        return
    if data is None or splits is None:
        raise error_at(folder, "a new study needs both --splits FILE and --data")
    source = str(Path(data).resolve()) if Path(data).exists() else data
    tables: dict[str, Any] = {"name": folder.name or "study", "data": source, "methods": ["frozen"]}
    tables["splits"] = {"file": str(splits.resolve())}
    study, store = parse_study(tables, folder / "study.toml"), Store(folder.resolve())
    store.create()
    prepare(study.model_copy(update={"variants": (), "text": tomli_w.dumps(tables)}), store)


@dataclass
class _ExternalMethod:
    """A method that was trained elsewhere, whose runs are added to a study."""

    folder: Path
    method: str
    trains: bool
    replace_existing: bool

    def __post_init__(self) -> None:
        self.store = Store(self.folder.resolve())
        plan = self.store.read_plan()
        self.store.create()
        make_importable(*plan.import_from)
        self.images = open_images(plan.source["name"], **plan.source["options"])
        if plan.fingerprint != fingerprint(self.images):
            problem = f"the images of {self.images.name} changed since the study was planned"
            raise error_at(self.folder, problem)
        self.progression = read_splits(self.store.splits)

    def add(self, vectors: VectorSet, step: int | str, seed: int, location: str = "vectors") -> str:
        started, split = time.perf_counter(), self.progression.at(step)
        test, run = _test_vectors(vectors, split, self.images, location), self._plan(split, seed)
        self._refuse_conflicts(run, test)
        claims = Claims(self.store.claims)
        if (claim := claims.take(run.id)) is None:
            raise error_at(self.folder, f"another process adds {run.description}")
        folder = self.store.create_unfinished(run.id, claim)
        try:
            rows = pd.DataFrame([*self._measure(run, split, test)])
            test.save(folder / "vectors.npz")
            confusions(test).to_parquet(folder / "confusions.parquet")
            write_run_rows(result_rows(rows, run.identity), folder)
            if self.replace_existing:
                shutil.rmtree(self.store.runs / run.id, ignore_errors=True)
            self.store.publish(run, folder, time.perf_counter() - started)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            claims.release(claim)
        with preparing(self.store):
            write_external_runs(self.store, self.progression)
        ResultsTable(self.store).write()
        return run.id

    def _plan(self, split: Split, seed: int) -> RunPlan:
        plan, method = self.store.read_plan(), self.method
        own = [run for run in plan.runs if not run.external]
        if method in {run.label for run in own}:
            problem = f"method {method!r}: the study trains a method of this name; choose another"
            raise OodmlError(problem, "method", method)
        shots = sorted({n for run in own for n in run.shots} or split.episodes)
        adapt = next((run.adapt for run in own if run.shots), AdaptSettings().model_dump())
        classes = hash_of_split(split, ())
        values: dict[str, Any] = {"data": self.images.name, "fingerprint": plan.fingerprint}
        values |= {"label": method, "method": "external", "trains": self.trains, "seed": seed}
        values |= {"split": str(split.step), "shift": split.shift, "external": classes}
        values["shots"] = tuple(n for n in shots if n in split.episodes)
        name = f"{EXTERNAL}{content_hash(method, classes, str(seed))[:12]}"
        return RunPlan(id=name, adapt={**adapt, "layers": "last"}, **values)

    def _refuse_conflicts(self, run: RunPlan, test: VectorSet) -> None:
        for other in self.store.external_runs():
            if (other.label, other.split) != (run.label, run.split):
                continue
            if other.id == run.id and not self.replace_existing:
                remedy = "pass --replace-runs (replace_existing=True) to replace it"
                problem = f"{run.description} is recorded already; {remedy}"
                raise OodmlError(f"{self.folder}: {problem}", "seed", run.seed)
            stored = VectorSet.load(self.store.runs / other.id / "vectors.npz").vectors
            if other.id != run.id and np.array_equal(stored, test.vectors):
                problem = f"its vectors equal those of seed {other.seed}; each needs a training"
                raise OodmlError(f"{run.description}: {problem}", "seed", run.seed)

    def _measure(self, run: RunPlan, split: Split, test: VectorSet) -> Iterator[Mapping[str, Any]]:
        yield from metric_rows(Stage.ZERO_SHOT, test_metrics(test))
        yield from metric_rows(Stage.ZERO_SHOT, decision_metrics(test, None, False, run.seed))
        images, settings = self.images.subset(split.test), AdaptSettings.model_validate(run.adapt)

        def features(wanted: ImageSet, view: int | None) -> VectorSet:
            return test.select(np.flatnonzero(np.isin(test.ids, wanted.ids)))

        for shots in run.shots:
            episodes, head = split.episodes[shots], IdentityHead()
            yield from adapt_split(images, features, head, episodes, settings, shots, run.seed)


def _test_vectors(vectors: VectorSet, split: Split, images: ImageSet, location: str) -> VectorSet:
    given, test = vectors.ids.tolist(), images.subset(split.test)
    class_of = dict(zip(images.ids.tolist(), images.classes.tolist(), strict=True))
    classes = {class_of[name] for name in given if name in class_of}
    labeled = vectors.source.get("classes") != "none"
    seen = pd.Series(given)
    problems: dict[str, Iterable[str]] = {
        f"ids are not in {images.name}": [name for name in given if name not in class_of],
        "training classes are among the test vectors": classes & set(split.train),
        "classes of images are neither for training nor for testing": classes - set(split.test),
        "ids are repeated": set(seen[seen.duplicated()]),
        "test classes are missing": set(split.test) - classes,
        "test images are missing": set(test.ids.tolist()) - set(given),
        "images have other classes than in the study": [
            name
            for name, label in zip(given, vectors.classes.tolist(), strict=True)
            if labeled and class_of.get(name) != label
        ],
    }
    for problem, names in problems.items():
        if listed := sorted(names):
            shown = ", ".join(map(repr, listed[:MAX_NAMED])) + ", …" * (len(listed) > MAX_NAMED)
            where = f"{location}: split {split.step}"
            raise OodmlError(f"{where}: {len(listed)} {problem}: {shown}", location, listed)
    row_of = {name: row for row, name in enumerate(given)}
    ordered = vectors.vectors[[row_of[name] for name in test.ids.tolist()]]
    source = {"data": images.name, "fingerprint": fingerprint(images)}
    labeled = VectorSet(ordered, test.classes, test.ids, test.superclasses, source)
    return replace(labeled, partition=test.partition)
