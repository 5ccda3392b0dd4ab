"""Recall by gallery size against enumeration of all galleries, and held-out sizes."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from oodml.decisions.gallery_size import Growth, count_distractors, extrapolate, recall_at_size
from oodml.errors import OodmlError
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.vectors import VectorSet
from tests.decisions.samples import clusters


def sides(noise: float = 1.3, classes: int = 60) -> tuple[VectorSet, VectorSet]:
    sample = clusters(classes=classes, each=6, noise=noise)
    names = sample.class_names
    return sample.subset(names[:10]), sample.subset(names[10:])


@pytest.mark.parametrize("own_gallery", [True, False])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_recall_equals_the_mean_over_all_galleries(own_gallery: bool, distance: str) -> None:
    queries, others = sides(classes=11)
    queries, pool = queries.select(np.arange(20)), others.select(np.arange(4))
    gallery = queries.select(np.arange(1, len(queries), 2)) if own_gallery else None
    growth = count_distractors(queries, pool, gallery, distance)
    every = queries if gallery is None else gallery
    for size, k in ((0, 1), (2, 1), (3, 2), (4, 1)):
        recalls = []
        for chosen in itertools.combinations(range(4), size):
            part = pool.select(np.array(chosen, dtype=np.int64))
            recalls.append(
                retrieval_metrics(
                    queries.vectors,
                    queries.classes,
                    ks=(k,),
                    distance=distance,
                    gallery=np.concatenate([every.vectors, part.vectors]),
                    gallery_labels=np.concatenate([every.classes, part.classes]),
                    ids=queries.ids,
                    gallery_ids=np.concatenate([every.ids, part.ids]),
                )[f"recall@{k}"]
            )
        assert recall_at_size(growth, size, k).mean() == pytest.approx(np.mean(recalls))


def test_sizes_beyond_the_pool_are_marked_and_intervals_contain_the_estimate() -> None:
    growth = count_distractors(*sides())
    table = extrapolate(growth, [60, 200, 1000, 100_000])
    assert table["extrapolated"].tolist() == [False, False, True, True]
    assert (table["low"] <= table["recall"]).all()
    assert (table["recall"] <= table["high"]).all()
    assert table["recall"].is_monotonic_decreasing
    assert table["size"].tolist() == [60, 200, 1000, 100_000]


def test_held_out_sizes_are_inside_the_interval() -> None:
    """Galleries eight times as large as the pool, in 20 draws of queries and pools."""
    inside = []
    for seed in range(20):
        sample = clusters(classes=120, each=6, noise=1.1, seed=seed)
        names = sample.class_names
        queries, others = sample.subset(names[:20]), sample.subset(names[20:])
        order = np.random.default_rng(seed).permutation(len(others))
        growth = count_distractors(queries, others.select(order[:75]))
        full = count_distractors(queries, others)
        held_out = (150, 300, 600)
        table = extrapolate(growth, [size + growth.base for size in held_out], resamples=100)
        truth = [recall_at_size(full, size).mean() for size in held_out]
        inside += ((table["low"] <= truth) & (truth <= table["high"])).tolist()
    assert np.mean(inside) >= 0.7


def test_distractors_of_a_queried_class_are_refused() -> None:
    queries, pool = sides()
    with pytest.raises(OodmlError) as caught:
        count_distractors(queries, queries)
    assert caught.value.location == "--distractors"
    assert isinstance(count_distractors(queries, pool), Growth)


def test_the_gallery_of_listed_queries_is_searched() -> None:
    sample, pool = clusters(classes=12, each=6), clusters(classes=20, each=5, seed=7)
    pool = replace(pool, classes=np.char.add("pool", pool.classes))
    listed = replace(sample, partition=np.array(["query", "gallery", "both"] * 24))
    growth = count_distractors(listed, pool)
    rows = np.arange(72)
    named = replace(sample, ids=np.array([f"i{row}" for row in rows]))
    queries, gallery = named.select(rows % 3 != 1), named.select(rows % 3 != 0)
    expected = count_distractors(queries, pool, gallery)
    assert growth.within.tolist() == expected.within.tolist()
    assert growth.closer.tolist() == expected.closer.tolist()
    assert growth.base == 48
