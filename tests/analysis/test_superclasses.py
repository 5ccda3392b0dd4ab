from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from oodml.analysis.superclasses import (
    leave_superclasses_out,
    superclass_measures,
)
from oodml.analysis.target_shift import target_shift
from oodml.evaluate.superclasses import superclass_recall
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet


def _vectors(classes: int = 12, each: int = 30, noise: float = 1.2) -> VectorSet:
    generator = np.random.default_rng(2)
    names = np.repeat([f"c{c:02d}" for c in range(classes)], each)
    groups = np.repeat([f"s{c // 3}" for c in range(classes)], each)
    centers = np.repeat(generator.normal(size=(classes, 6)), each, axis=0)
    vectors = (centers + generator.normal(0, noise, centers.shape)).astype(np.float32)
    return VectorSet(vectors, names, np.arange(len(names)).astype(str), groups)


def test_recall_of_each_superclass_among_all_images() -> None:
    vectors = _vectors(each=8)
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    hits: dict[str, list[bool]] = {}
    for query, group in enumerate(vectors.superclasses if vectors.superclasses is not None else ()):
        near = max((k for k in range(96) if k != query), key=lambda k: unit[query] @ unit[k])
        hits.setdefault(group, []).append(vectors.classes[near] == vectors.classes[query])
    expected = {group: np.mean(values) for group, values in hits.items()}
    recall = superclass_recall(vectors).set_index("superclass")["value"]
    assert recall.to_dict() == pytest.approx(expected)


def test_a_collapsed_embedding_scores_chance() -> None:
    vectors = _vectors(each=40)
    same = replace(vectors, vectors=np.ones_like(vectors.vectors))
    assert superclass_recall(same)["value"].mean() == pytest.approx(39 / 479, abs=0.04)


def test_images_without_a_positive_are_no_queries() -> None:
    vectors = _vectors(each=200)
    lone = vectors.classes.copy()
    lone[0] = "alone"
    alone = replace(vectors, classes=lone).select(np.arange(0, 400))
    assert superclass_recall(alone)["superclass"].tolist() == ["s0"]
    assert superclass_recall(replace(vectors, superclasses=None)).empty


def test_shift_of_each_superclass_to_the_train_classes() -> None:
    vectors = _vectors()
    names = vectors.class_names
    split = Split(0, names[:4], names[4:], 1.0)
    found = superclass_measures(Progression((split,), "made"), vectors)
    assert found.index.tolist() == [("0", "s1"), ("0", "s2"), ("0", "s3")]
    own = vectors.select(vectors.superclasses == "s3").vectors
    assert found.loc[("0", "s3")].to_dict() == target_shift(split, vectors, own)
    bare = replace(vectors, superclasses=None)
    assert superclass_measures(Progression((split,), "made"), bare).empty


def test_a_superclass_of_one_test_class_is_left_out() -> None:
    vectors = _vectors()
    names = vectors.class_names
    split = Split(0, names[:5], names[5:], 1.0)
    found = superclass_measures(Progression((split,), "made"), vectors)
    assert "s1" not in found.index.get_level_values("superclass")


def test_a_superclass_is_left_out_on_all_splits_at_once() -> None:
    generator = np.random.default_rng(0)
    index = [(split, f"s{g}") for split in ("0", "9") for g in range(6)]
    shift = pd.DataFrame({"image_fid": generator.uniform(0, 9, 12)}, index=pd.Index(index))
    rows = [
        (method, split, seed, group, 0.9 - 0.03 * shift.loc[[(split, group)], "image_fid"].item())
        for method in "ab"
        for split, group in index
        for seed in range(2)
    ]
    recalls = pd.DataFrame(rows, columns=["method", "split", "seed", "superclass", "value"])
    own = leave_superclasses_out(recalls, shift).query("fit == 'own'")
    assert len(own) == 2 * 12
    assert own["expected"].to_numpy() == pytest.approx(own["truth"].to_numpy())
    recalls.loc[recalls["superclass"] == "s2", "value"] = 0.1
    moved = leave_superclasses_out(recalls, shift).query("fit == 'own'")
    mine = (own["superclass"] == "s2").to_numpy()
    assert moved["expected"].to_numpy()[mine] == pytest.approx(own["expected"].to_numpy()[mine])
    assert (moved["truth"].to_numpy()[mine] == 0.1).all()


def test_queries_are_searched_in_the_gallery_only() -> None:
    vectors = _vectors(each=8)
    queries = np.arange(len(vectors)) % 2 == 0
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    gallery = np.flatnonzero(~queries)
    nearest = gallery[(unit[queries] @ unit[gallery].T).argmax(axis=1)]
    hits = vectors.classes[nearest] == vectors.classes[queries]
    groups = vectors.superclasses
    assert groups is not None
    expected = pd.Series(hits).groupby(groups[queries]).mean().to_dict()
    listed = replace(vectors, partition=np.where(queries, "query", "gallery"))
    recall = superclass_recall(listed).set_index("superclass")["value"]
    assert recall.to_dict() == pytest.approx(expected)
