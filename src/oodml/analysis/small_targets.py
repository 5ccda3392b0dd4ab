"""Small targets inside a study: sets of test classes whose values and signals are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

MAX_GROUPS, MIN_CLASSES, MIN_IMAGES = 12, 5, 20
"""Groups are merged to at most 12 with at least 5 classes each; smaller targets are noise."""
SINGLE, PAIRED, MIXED = 80, 30, 30
"""The number of draws from single groups, from pairs, and from all groups but one; once from the
test classes of splits, and once from all classes."""
THINNED = 1 / 4
"""The share of draws with a random part of the images of their classes, so that images per class
vary; the others have all images."""
ALL_CLASSES = -1
"""The split of targets that may have training classes: only the frozen network is tested there."""
QUERIES = 150
"""Queries per small target: its value then has a standard error of 3 to 4 points."""


@dataclass(frozen=True)
class Draw:
    """A small target: the images [n] of some test classes of a split, or of any classes.

    `queries` [q] are positions among its images, and `groups` those of its classes.
    """

    split: int
    rows: Int[np.ndarray, " n"]
    queries: Int[np.ndarray, " q"]
    groups: tuple[int, ...]


@dataclass(frozen=True)
class SmallTargets:
    """What is known of the small targets of a study.

    Methods are not tested on classes that they were trained on; there, `shift` and their values are
    NaN.
    """

    names: tuple[str, ...]  # of the signals
    groups: Bool[np.ndarray, "t g"]  # which groups each target has classes of
    sizes: pd.DataFrame  # `describe_sizes` and the `shift` from the training classes of its split
    signals: Sequence[Float[np.ndarray, "_ s"]]  # of the queries of each target
    correct: Sequence[Float[np.ndarray, " _"]]  # the `hits` of the frozen network
    values: pd.DataFrame  # Recall@1 by target and method, as a mean over seeds
    spread: pd.DataFrame  # the variance of the gain over queries, in the same form

    @property
    def level(self) -> Float[np.ndarray, " t"]:
        """Recall@1 of the frozen network on each target."""
        return np.array([np.nanmean(correct) for correct in self.correct])

    @property
    def queries(self) -> Int[np.ndarray, " t"]:
        """The number of queries of each target that have a partner."""
        return np.array([int((~np.isnan(correct)).sum()) for correct in self.correct])

    def hints(self) -> Float[np.ndarray, "t 2"]:
        """The logarithms of the number of classes and of images per class."""
        return np.stack([hint(*row) for row in self.sizes[["images", "classes"]].to_numpy()])


def hint(images: float, classes: float) -> Float[np.ndarray, " 2"]:
    """The logarithms of the number of classes and of images per class."""
    return np.log([classes, images / classes])


def group_classes(
    superclasses: Mapping[str, str], most: int = MAX_GROUPS, least: int = MIN_CLASSES
) -> dict[str, int]:
    """Divide classes into groups that are left out together, along their superclasses.

    There are at most `most` groups, of at least `least` classes on average; more superclasses are
    distributed by descending size, each to the group with the fewest classes.
    """
    names, counts = np.unique(list(superclasses.values()), return_counts=True)
    totals = np.zeros(max(1, min(most, len(names), len(superclasses) // least)))
    group_of = {}
    for position in np.argsort(-counts, kind="stable"):
        group = group_of[str(names[position])] = int(totals.argmin())
        totals[group] += counts[position]
    return {name: group_of[superclass] for name, superclass in superclasses.items()}


def draw_small_targets(
    labels: Int[np.ndarray, " n"],
    groups: Int[np.ndarray, " c"],
    tests: Sequence[Int[np.ndarray, " _"]],
    generator: np.random.Generator,
) -> list[Draw]:
    """Draw classes of one group, of two, or of all but one, at several sizes: from the test classes
    `tests` of each split, and from all classes."""
    rows_of = [np.flatnonzero(labels == label) for label in range(len(groups))]
    draws, pools = [], _pools(int(groups.max()) + 1, generator)
    for number, pool in enumerate(2 * pools):
        split = int(generator.integers(len(tests))) if number < len(pools) else ALL_CLASSES
        known = np.arange(len(groups)) if split == ALL_CLASSES else tests[split]
        classes = known[np.isin(groups[known], pool)]
        if len(classes) < 2:
            continue
        count = round(np.exp(generator.uniform(np.log(min(5, len(classes))), np.log(len(classes)))))
        chosen = generator.choice(classes, count, replace=False)
        rows = np.concatenate([rows_of[label] for label in chosen])
        if generator.random() < THINNED:
            share = np.exp(generator.uniform(np.log(0.15), 0.0))
            rows = rows[generator.random(len(rows)) < share]
        partnered = np.flatnonzero(np.bincount(labels[rows])[labels[rows]] > 1)
        if len(rows) < MIN_IMAGES or not len(partnered):
            continue
        order = generator.permutation(len(rows))[:QUERIES]
        queries = order if np.isin(order, partnered).any() else partnered[:QUERIES]
        own = np.unique(groups[np.unique(labels[rows])])
        draws.append(Draw(split, rows, np.sort(queries), tuple(own.tolist())))
    return draws


def _pools(n_groups: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """The groups of each draw: one, two, or all but one."""
    every = np.arange(n_groups)
    pools = [every[[group]] for group in np.resize(every, SINGLE)]
    pairs = [np.array(pair) for pair in combinations(every, 2)]
    if pairs:
        order = generator.permutation(len(pairs))
        pools += [pairs[i] for i in np.resize(order, PAIRED)]
    pools += [np.delete(every, group) for group in np.resize(every, MIXED if n_groups > 2 else 0)]
    return pools


def describe_sizes(labels: Int[np.ndarray, " n"]) -> dict[str, float]:
    """The number of images and classes, and the share of images without a partner."""
    counts, images = np.bincount(labels), float(len(labels))
    singletons = float((counts == 1).sum() / images)
    return {"images": images, "classes": float((counts > 0).sum()), "singletons": singletons}
