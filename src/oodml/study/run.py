"""One run, top to bottom: train on a split's train classes, test on its test classes."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from oodml import catalog, distributed
from oodml.adaptation.split import adapt_split
from oodml.embedding import embed, evaluating, trunk_features
from oodml.evaluate.clustering import clustering_metrics
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.evaluate.structure import structure_metrics
from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import input_images
from oodml.methods._base import BaseMethod, Sizes
from oodml.model import Embedder, LinearHead
from oodml.randomness import isolated
from oodml.study.plan import Run
from oodml.study.prepare import Context, frozen_features
from oodml.study.run_artifacts import told
from oodml.study.spec.consistency import LOOKED_AT
from oodml.study.tracking import Log
from oodml.training.best_weights import Metrics
from oodml.training.loop import History, Look, train
from oodml.training.sources import FeatureSource, ImageSource, Source
from oodml.training.trainer import NonFiniteError
from oodml.vectors import VectorSet

Row = dict[str, Any]
DIAGNOSED = ("recall@1", "map@r")
"""What is kept of the test classes after each look, where a study keeps epochs."""


def execute(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """Do one run; write vectors, model and history into `folder`; give its rows of results."""
    with context.tracked() as log:
        return _executed(run, _Material(run, context, log), folder)


def _executed(run: Run, material: "_Material", folder: Path) -> pd.DataFrame:
    with isolated(run.seed, "run"):
        model, history, best_test = _fit(run, material)
    test = _embedded(model, material, run.split.test)
    tested = distributed.once(lambda: _tested(test))
    material.log(_named("test", tested), len(history.rows))
    rows = [*_rows(history.validation | {"epoch": float(history.epoch)}, "validation")]
    rows += _rows(tested, "zero_shot")
    rows += _rows(best_test, "best_test_epoch")
    if run.shots:
        rows += _few_shot(run, model, material)
    model.save(folder)
    test.save(folder / "vectors.npz")
    write_text(folder / "history.csv", _as_csv(history.rows))
    return pd.DataFrame(rows)


def execute_trial(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """Train and validate, no more: what a search for options may see. Test classes stay unseen."""
    train = run.train.model_copy(update={"keep_epochs": False})
    unseen = replace(run.split, test=(), episodes={})
    run = replace(run, split=unseen, train=train, shots=())
    with context.tracked() as log, isolated(run.seed, "run"):
        _, history, _ = _fit(run, _Material(run, context, log))
    write_text(folder / "history.csv", _as_csv(history.rows))
    found = history.validation | {"epoch": float(history.epoch)}
    return pd.DataFrame(_rows(found, "validation"))


class _Material:
    """The images of a run, and in head mode their cached features, by class.

    log: told how the run gets on.
    """

    def __init__(self, run: Run, context: Context, log: Log) -> None:
        self.log = log
        self.images = input_images(context.images, run.model)
        self.device = context.device
        self.keep = context.keep
        self.settings = run.model
        self.head_mode = run.model.mode == "head"
        self._features: dict[int | None, VectorSet] = {}

    def features(self, view: int | None = None) -> VectorSet:
        """Features of all images under the frozen backbone."""
        if view not in self._features:
            found = frozen_features(self.settings, self.images, view, self.device)
            self._features[view] = found
        return self._features[view]

    def rows(self, classes: tuple[str, ...]) -> NDArray[np.int64]:
        return np.flatnonzero(np.isin(self.images.classes, classes))

    def source(self, classes: tuple[str, ...], model: Embedder) -> Source:
        """Training batches of some classes; labels count up in the order of their names."""
        rows = self.rows(classes)
        labels = np.unique(self.images.classes[rows], return_inverse=True)[1]
        if not self.head_mode:
            chosen = self.images.select(rows)
            return ImageSource(chosen, labels, model.image_size, self.settings.augmentation)
        views = [self.features(view).vectors[rows] for view in range(self.settings.views)]
        return FeatureSource(torch.from_numpy(np.stack(views)), labels)


def _fit(run: Run, material: _Material) -> tuple[Embedder, History, Metrics]:
    """A trained model, and what the best test epoch would have given, if epochs are kept.

    The epoch is chosen on the validation classes, never on test classes.
    """
    validation = run.split.validation
    learn = tuple(name for name in run.split.train if name not in set(validation))
    model, history = _train(run, material, learn, validation, run.train.epochs)
    if run.train.refit and validation:
        done = len(history.rows)
        model, again = _train(run, material, run.split.train, (), history.epoch, "refit", done)
        both = History(history.rows + again.rows, history.epoch, history.validation)
        return model, both, _best_test_epoch(again.rows)
    return model, history, _best_test_epoch(history.rows)


def _train(
    run: Run,
    material: _Material,
    classes: tuple[str, ...],
    validation: tuple[str, ...],
    epochs: int,
    stage: str = "train",
    done: int = 0,
) -> tuple[Embedder, History]:
    model, method = _build(run, material, len(classes))
    model.to(material.device)
    validate = _look(model, material, validation) if validation else None
    if not method.trains:
        return model, History([], 0, validate() if validate else {})
    diagnose, keep = _look(model, material, run.split.test, DIAGNOSED), material.keep
    try:
        history = train(
            model,
            method,
            material.source(classes, model),
            run.train.model_copy(update={"epochs": epochs}),
            seed=run.seed,
            device=material.device,
            validate=validate,
            diagnose=diagnose if run.train.keep_epochs else None,
            checkpoint=keep.checkpoint(stage, material.device, epochs) if keep else None,
            log=lambda row: material.log(_tracked(row, stage), done + int(row["epoch"])),
        )
    except NonFiniteError as error:
        raise told(error, classes, keep.failed_model(model, error) if keep else "") from error
    return model, history


def _look(
    model: Embedder, material: _Material, classes: tuple[str, ...], names: tuple[str, ...] = ()
) -> Look:
    """What scores the model, as it is when asked, on some classes; by all metrics or by some."""

    def look() -> Metrics:
        found = _embedded(model, material, classes)
        metrics = distributed.once(
            lambda: retrieval_metrics(found.vectors, found.labels, ks=LOOKED_AT)
        )
        return {name: metrics[name] for name in names or metrics}

    return look


def _tracked(row: dict[str, float], stage: str) -> Metrics:
    """A row of the history by the names of trackers: loss terms under the stage."""
    looks = {name for name in row if name.startswith(("validation_", "test_"))}
    terms = {name: row[name] for name in row if name not in looks and name != "epoch"}
    return _named(stage, terms) | {name.replace("_", "/", 1): row[name] for name in looks}


def _named(stage: str, values: Metrics) -> Metrics:
    """Values by the names that trackers show them under; what does not exist is left out."""
    return {f"{stage}/{name}": value for name, value in values.items() if value == value}


def _best_test_epoch(rows: list[dict[str, float]]) -> Metrics:
    """The test metrics of the epoch with the best Recall@1 on test classes, and that epoch."""
    looks = [row for row in rows if "test_recall@1" in row]
    if not looks:
        return {}
    best = max(looks, key=lambda row: row["test_recall@1"])
    return {name: best[f"test_{name}"] for name in DIAGNOSED} | {"epoch": best["epoch"]}


def _build(run: Run, material: _Material, n_classes: int) -> tuple[Embedder, BaseMethod]:
    untrained = 0 if material.head_mode else run.seed  # cached features are those of seed 0
    model = Embedder(run.model, torch.nn.Identity(), untrained)
    width = material.features().vectors.shape[1] if material.head_mode else model.backbone.features
    sizes = Sizes(n_classes, run.model.dim, width)
    method: BaseMethod = catalog.find("methods", run.method)(sizes, **run.options)
    model.head = method.head() or LinearHead(width, run.model.dim, run.model.normalize)
    return model, method


def _embedded(model: Embedder, material: _Material, classes: tuple[str, ...]) -> VectorSet:
    """Embeddings of the images of some classes."""
    if not material.head_mode:
        return embed(material.images.subset(classes), model, device=material.device)
    chosen = material.features().select(material.rows(classes))
    with evaluating(model):
        features = torch.from_numpy(chosen.vectors).to(material.device)
        found = model.head.embed(features).cpu().numpy()  # type: ignore[operator]
    return VectorSet(found, chosen.classes, chosen.ids, chosen.superclasses, chosen.source)


def _tested(test: VectorSet) -> Metrics:
    vectors, labels = test.vectors, test.labels
    return (
        retrieval_metrics(vectors, labels)
        | clustering_metrics(vectors, labels)
        | structure_metrics(vectors, labels)
    )


def _few_shot(run: Run, model: Embedder, material: _Material) -> Iterator[Row]:
    """Before and after adapting the last layer to each episode's support images."""
    test = material.images.subset(run.split.test)

    known: dict[int | None, VectorSet] = {}  # every image of a view is embedded once

    def trunk(images: ImageSet, view: int | None) -> VectorSet:
        if view not in known:
            known[view] = _trunk_features(model, material, test, view, run.seed)
        rows = np.flatnonzero(np.isin(known[view].ids, images.ids))
        return known[view].select(rows)

    for shots in run.shots:
        yield from adapt_split(
            test, trunk, model.head, run.split.episodes[shots], run.adapt, shots, run.seed, model
        )


def _trunk_features(
    model: Embedder, material: _Material, images: ImageSet, view: int | None, seed: int
) -> VectorSet:
    """What the last layer stands on: cached features, or those of the trained trunk."""
    if material.head_mode:
        everything = material.features(view)
        return everything.select(np.isin(everything.ids, images.ids))
    found = trunk_features(images, model, view=view, seed=seed, device=material.device)
    return VectorSet(found, images.classes, images.ids, images.superclasses)


def _rows(metrics: Metrics, stage: str) -> Iterator[Row]:
    for metric, value in metrics.items():
        if value == value:  # what does not exist, such as rho@10 of 8 dimensions, has no row
            yield {"stage": stage, "shots": None, "episode": None, "metric": metric, "value": value}


def _as_csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
