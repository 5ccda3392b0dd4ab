import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodml.errors import OodmlError
from oodml.training.sources import ClassBalanced


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    batch_size=st.integers(4, 24),
    seed=st.integers(0, 100),
)
def test_batches_hold_distinct_images_of_distinct_classes(
    sizes: list[int], batch_size: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    sampler = ClassBalanced(labels, batch_size, 2)
    batches = list(sampler.sample_epoch(np.random.default_rng(seed)))
    assert len(batches) == sampler.batches == max(1, len(labels) // batch_size)
    for batch in batches:
        assert len(np.unique(batch)) == len(batch) <= batch_size
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(classes) == sampler.classes
        expected = [min(sampler.per_class, sizes[c]) for c in classes]
        assert counts.tolist() == expected


def test_all_classes_and_images_are_drawn() -> None:
    labels = np.repeat(np.arange(20), 5)
    sampler = ClassBalanced(labels, 16, 2)
    random = np.random.default_rng(0)
    drawn = np.concatenate([b for _ in range(40) for b in sampler.sample_epoch(random)])
    counts = np.bincount(drawn, minlength=100)
    assert counts.min() > 0
    expected = 16 * 40 * sampler.batches / 100
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_few_classes_fill_the_batch() -> None:
    sampler = ClassBalanced(np.repeat(np.arange(4), 50), 112, 2)
    assert (sampler.classes, sampler.per_class) == (4, 28)


def test_batches_of_one_class_are_refused() -> None:
    with pytest.raises(OodmlError, match="two classes"):
        ClassBalanced(np.zeros(9, dtype=np.int64), 8, 2)
    with pytest.raises(OodmlError, match="batch_size"):
        ClassBalanced(np.arange(9), 6, 4)
