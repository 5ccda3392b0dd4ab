"""How well will an embedding model hold up on classes unlike those it was trained on?

Importing `oodml` is cheap: a name is loaded from its module when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "catalog": "names load",
    "images.image_set": "ImageSet",
    "vectors": "VectorSet",
    "model": "Embedder load_model",
    "embedding": "embed",
    "text_queries": "embed_texts",
    "shift.distances": "frechet_distance",
    "shift.splits": "Split Episode Progression",
    "shift.progression": "published_progression removal_progression",
    "shift.exact": "exact_progression",
    "shift.controls": "size_matched",
    "shift.measures": "shift_report",
    "shift.episodes": "sample_episodes",
    "shift.files": "read_splits write_splits",
    "evaluate.retrieval": "retrieval_metrics",
    "evaluate.clustering": "clustering_metrics",
    "evaluate.structure": "structure_metrics",
    "evaluate.compare": "compare",
    "evaluate.index": "write_index",
    "decisions.threshold": "choose_threshold Threshold",
    "decisions.compression": "compress",
    "decisions.drift": "drift",
    "decisions.leakage": "near_duplicates measure_leakage",
    "datasets": "open_images",
    "api": "build_splits train Study open_study",
    "fit": "fit_model",
    "study.external": "record",
    "mteb": "mteb_model as_mteb_task",
    "adaptation": "adapt",
    "analysis.intervals": "aggregated_generalization_score",
    "errors": "OodmlError",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from oodml.adaptation import adapt as adapt
    from oodml.analysis.intervals import (
        aggregated_generalization_score as aggregated_generalization_score,
    )
    from oodml.api import Study as Study
    from oodml.api import build_splits as build_splits
    from oodml.api import open_study as open_study
    from oodml.api import train as train
    from oodml.catalog import load as load
    from oodml.catalog import names as names
    from oodml.datasets import open_images as open_images
    from oodml.decisions.compression import compress as compress
    from oodml.decisions.drift import drift as drift
    from oodml.decisions.leakage import measure_leakage as measure_leakage
    from oodml.decisions.leakage import near_duplicates as near_duplicates
    from oodml.decisions.threshold import Threshold as Threshold
    from oodml.decisions.threshold import choose_threshold as choose_threshold
    from oodml.embedding import embed as embed
    from oodml.errors import OodmlError as OodmlError
    from oodml.evaluate.clustering import clustering_metrics as clustering_metrics
    from oodml.evaluate.compare import compare as compare
    from oodml.evaluate.index import write_index as write_index
    from oodml.evaluate.retrieval import retrieval_metrics as retrieval_metrics
    from oodml.evaluate.structure import structure_metrics as structure_metrics
    from oodml.fit import fit_model as fit_model
    from oodml.images.image_set import ImageSet as ImageSet
    from oodml.model import Embedder as Embedder
    from oodml.model import load_model as load_model
    from oodml.mteb import as_mteb_task as as_mteb_task
    from oodml.mteb import mteb_model as mteb_model
    from oodml.shift.controls import size_matched as size_matched
    from oodml.shift.distances import frechet_distance as frechet_distance
    from oodml.shift.episodes import sample_episodes as sample_episodes
    from oodml.shift.exact import exact_progression as exact_progression
    from oodml.shift.files import read_splits as read_splits
    from oodml.shift.files import write_splits as write_splits
    from oodml.shift.measures import shift_report as shift_report
    from oodml.shift.progression import published_progression as published_progression
    from oodml.shift.progression import removal_progression as removal_progression
    from oodml.shift.splits import Episode as Episode
    from oodml.shift.splits import Progression as Progression
    from oodml.shift.splits import Split as Split
    from oodml.study.external import record as record
    from oodml.text_queries import embed_texts as embed_texts
    from oodml.vectors import VectorSet as VectorSet


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'oodml' has no attribute {name!r}")
    return getattr(importlib.import_module(f"oodml.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
