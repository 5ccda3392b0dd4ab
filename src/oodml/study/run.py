"""One run, top to bottom: train on a split's training classes, evaluate on its test classes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from oodml import catalog, distributed
from oodml.adaptation.split import adapt_split
from oodml.backbones import is_library
from oodml.decisions.study import decision_metrics
from oodml.errors import OodmlError
from oodml.evaluate.clustering import clustering_metrics
from oodml.evaluate.confusions import confusions
from oodml.evaluate.query_lists import query_lists, retrieval_arguments
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.evaluate.structure import structure_metrics
from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.methods._base import BaseMethod, Sizes
from oodml.model import Embedder, IdentityHead, LinearHead
from oodml.randomness import isolated
from oodml.results.schema import Stage
from oodml.study.folder.table import write_run_rows
from oodml.study.plan import Run
from oodml.study.prepare import Context
from oodml.study.run_inputs import RunInputs, open_run_inputs
from oodml.study.spec.consistency import VALIDATION_KS
from oodml.study.tracking import MetricLog, epoch_metrics, prefix_metrics
from oodml.text_queries import text_metrics
from oodml.training.loop import Evaluate, History, train, write_history
from oodml.training.trainer import NonFiniteError
from oodml.training.tuning import Metrics
from oodml.vectors import VectorSet

Row = dict[str, Any]
Classes = tuple[str, ...]
TEST_EPOCH_METRICS = ("recall@1", "map@r")
"""The metrics of the test classes in every epoch, for studies with `keep_epochs`."""


@dataclass(frozen=True)
class _Job:
    run: Run
    context: Context
    inputs: RunInputs
    log: MetricLog


def execute(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """Execute a run; the measurements have the columns `oodml.results.schema.MEASURED_COLUMNS`."""
    with context.open_log() as log:
        job = _Job(run, context, open_run_inputs(run, context), log)
        with isolated(run.seed, "run"):
            model, history, best_test = _fit(job)
        test, distance = job.inputs.embed(model, run.split.test), _distance(model)
        metrics = distributed.compute_once(partial(test_metrics, test, **distance))
        log(prefix_metrics("test", metrics), len(history.rows))
        validation = history.validation | {"epoch": float(history.epoch)}
        rows = [*metric_rows(Stage.VALIDATION, validation)]
        if is_library(run.model.backbone) and isinstance(model.head, IdentityHead):
            metrics |= text_metrics(test, run.model.backbone)
        rows += metric_rows(Stage.ZERO_SHOT, metrics)
        classes, uses_all = run.split.validation, not run.train.refit
        known = job.inputs.embed(model, classes) if classes else None
        decide = partial(decision_metrics, test, known, uses_all, run.seed, **distance)
        rows += metric_rows(Stage.ZERO_SHOT, distributed.compute_once(decide))
        rows += metric_rows(Stage.BEST_TEST_EPOCH, best_test)
        for one in run.test_data:
            vectors = job.inputs.embed_images(model, context.further[one.data])
            metrics = distributed.compute_once(partial(test_metrics, vectors, **distance))
            log(prefix_metrics(f"test {one.data}", metrics), len(history.rows))
            rows += [row | {"data": one.data} for row in metric_rows(Stage.TEST_DATA, metrics)]
        model.save(folder)
        test.save(folder / "vectors.npz")
        confusions(test, **distance).to_parquet(folder / "confusions.parquet")
        write_history(history.rows, folder / "history.csv")
        if history.path:
            write_history(history.path, folder / "averages.csv")
        if history.cost:
            write_text(folder / "cost.json", json.dumps(history.cost, indent=1))
            rows += metric_rows(Stage.TRAINING, {"parameters": history.cost["parameters"]})
        if run.shots:
            write_run_rows(pd.DataFrame(rows), folder)  # they remain if the few-shot stage fails
            rows += _few_shot(job, model)
    return pd.DataFrame(rows)


def execute_trial(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """Execute a trial of a search: train and validate only. Test classes are not used."""
    settings = run.train.model_copy(update={"keep_epochs": False})
    run = replace(run, split=replace(run.split, test=(), episodes={}), train=settings, shots=())
    with context.open_log() as log, isolated(run.seed, "run"):
        _, history, _ = _fit(_Job(run, context, open_run_inputs(run, context), log))
    write_history(history.rows, folder / "history.csv")
    metrics = history.validation | {"epoch": float(history.epoch)}
    return pd.DataFrame(metric_rows(Stage.VALIDATION, metrics))


def train_run(
    run: Run, context: Context, log: MetricLog, inputs: RunInputs | None = None
) -> tuple[Embedder, History]:
    """The model of a run and its history; `inputs` to train on, if not all images."""
    with isolated(run.seed, "run"):
        inputs = inputs or open_run_inputs(run, context)
        model, history, _ = _fit(_Job(run, context, inputs, log))
    return model, history


def _fit(job: _Job) -> tuple[Embedder, History, Metrics]:
    """The trained model, its history, and the metrics of the best test epoch, if epochs are kept.

    The epoch is selected on the validation classes, never on the test classes.
    """
    run, validation = job.run, job.run.split.validation
    learn = tuple(name for name in run.split.train if name not in set(validation))
    model, history = _train(job, learn, validation, run.train.epochs, "train", 0)
    if not (run.train.refit and validation):
        return model, history, _best_test_epoch(history.rows)
    model, refit = _train(job, run.split.train, (), history.epoch, "refit", len(history.rows))
    both = replace(history, rows=history.rows + refit.rows, cost=refit.cost)
    return model, both, _best_test_epoch(refit.rows)


def _train(
    job: _Job, classes: Classes, validation: Classes, epochs: int, stage: str, done: int
) -> tuple[Embedder, History]:
    run, device, artifacts = job.run, job.context.device, job.context.artifacts
    model, method = _build(job, classes)
    model.to(device)
    validate = _evaluator(job, model, validation) if validation else None
    if not method.trains:
        return model, History([], 0, validate() if validate else {})
    diagnose = _evaluator(job, model, run.split.test, TEST_EPOCH_METRICS)
    retain, teacher = run.train.retain, None
    compares = (retain.embedding > 0 or retain.relation > 0) and retain.teacher != "live"
    if compares and model.trained_backbone is not None:
        images = job.inputs.images.subset(classes)
        features = job.inputs.backbone_features(model, images, None, run.seed)
        teacher = torch.from_numpy(features.vectors)
    try:
        history = train(
            model,
            method,
            job.inputs.source(classes, model),
            run.train.model_copy(update={"epochs": epochs}),
            seed=run.seed,
            device=device,
            validate=validate,
            diagnose=diagnose if run.train.keep_epochs else None,
            checkpoint=artifacts.checkpoint(stage, device, epochs) if artifacts else None,
            log=lambda row: job.log(epoch_metrics(stage, row), done + int(row["epoch"])),
            teacher=teacher,
        )
    except NonFiniteError as error:
        saved = artifacts.save_failed_model(model, error) if artifacts else ""
        names = sorted(classes)
        problem = error.describe([names[label] for label in error.labels])
        raise OodmlError(f"{problem} {saved}") from error
    return model, history


def _build(job: _Job, classes: Classes) -> tuple[Embedder, BaseMethod]:
    run, inputs = job.run, job.inputs
    model = Embedder(run.model, torch.nn.Identity(), inputs.load_backbone())
    width = inputs.width(model)
    sizes = Sizes(len(classes), run.model.dim, width, tuple(sorted(classes)))
    method: BaseMethod = catalog.get_class("methods", run.method)(sizes, **run.options)
    model.head = method.head() or LinearHead(width, run.model.dim, run.model.normalize)
    return model, method


def _evaluator(
    job: _Job, model: Embedder, classes: Classes, names: tuple[str, ...] = ()
) -> Evaluate:
    """A function that evaluates the model on some classes: all metrics of validation classes, which
    are never divided into queries and gallery, or those with `names` of test classes.
    """

    def evaluate() -> Metrics:
        vectors = job.inputs.embed(model, classes)
        vectors = vectors if names else replace(vectors, partition=None)
        compute = partial(_retrieval_metrics, vectors, ks=VALIDATION_KS, **_distance(model))
        metrics = distributed.compute_once(compute)
        return {name: metrics[name] for name in names or metrics}

    return evaluate


def _best_test_epoch(rows: list[dict[str, float]]) -> Metrics:
    """The test metrics of the epoch with the best Recall@1 on the test classes, and its number."""
    evaluated = [row for row in rows if "test_recall@1" in row]
    if not evaluated:
        return {}
    best = max(evaluated, key=lambda row: row["test_recall@1"])
    return {name: best[f"test_{name}"] for name in TEST_EPOCH_METRICS} | {"epoch": best["epoch"]}


def _distance(model: Embedder) -> dict[str, str]:
    distance = getattr(model.head, "distance", None)
    return {} if distance is None else {"distance": distance}


def test_metrics(test: VectorSet, **options: Any) -> Metrics:
    x, y = test.vectors, test.labels
    return _retrieval_metrics(test, **options) | clustering_metrics(x, y) | structure_metrics(x, y)


def _retrieval_metrics(test: VectorSet, **options: Any) -> Metrics:
    """Retrieval metrics, with the dataset's own lists of queries and gallery if it has them."""
    arguments = retrieval_arguments(test.vectors, test.labels, query_lists(test))
    return retrieval_metrics(**arguments, **options)


def _few_shot(job: _Job, model: Embedder) -> Iterator[Row]:
    run, head = job.run, model.head
    test = job.inputs.images.subset(run.split.test)
    embedded = cache(lambda view: job.inputs.backbone_features(model, test, view, run.seed))

    def features(images: ImageSet, view: int | None) -> VectorSet:
        every: VectorSet = embedded(view)
        return every.select(np.flatnonzero(np.isin(every.ids, images.ids)))

    for shots in run.shots:
        episodes = run.split.episodes[shots]
        yield from adapt_split(test, features, head, episodes, run.adapt, shots, run.seed, model)


def metric_rows(stage: Stage, metrics: Mapping[str, float]) -> Iterator[Row]:
    """Measurements as rows of results; metrics that are not defined (NaN) have no row."""
    for metric, value in metrics.items():
        if value == value:
            yield {"stage": stage, "shots": None, "episode": None, "metric": metric, "value": value}
