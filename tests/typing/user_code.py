"""A sample of user code, which mypy checks in strict mode; it is not run."""

from pathlib import Path
from typing import assert_type

import numpy as np

import oodml


def score(file: Path) -> float:
    vectors = oodml.VectorSet.load(file)
    metrics = oodml.retrieval_metrics(vectors.vectors, vectors.classes)
    return float(metrics["recall@1"])


def splits(file: Path) -> list[str]:
    progression = oodml.read_splits(file)
    assert_type(progression, oodml.Progression)
    names = [name for split in progression for name in split.train]
    oodml.write_splits(progression, file.with_suffix(".json"))
    return names


def embed(folder: Path, images: oodml.ImageSet) -> oodml.VectorSet:
    model = oodml.load_model(folder)
    assert_type(model, oodml.Embedder)
    return oodml.embed(images, model)


def shift(a: oodml.VectorSet, b: oodml.VectorSet) -> float | None:
    return oodml.shift_report(a, b)["fid_class_means"].value


def area() -> float:
    return oodml.aggregated_generalization_score(np.arange(3.0), [0.9, 0.7, 0.6])


def check(value: str) -> str:
    try:
        return oodml.names(value)[0]
    except oodml.OodmlError as error:
        return error.location
