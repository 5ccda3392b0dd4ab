"""Open-set metrics and thresholds against naive loops, scikit-learn, and simulations."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from oodml.decisions.open_set import (
    SCORES,
    OpenSetScores,
    gallery_scores,
    left_out_scores,
    open_set_metrics,
    withheld_scores,
)
from oodml.decisions.threshold import Threshold, choose_threshold, conformal_threshold
from oodml.errors import OodmlError
from oodml.evaluate.compare import class_draws
from oodml.vectors import VectorSet
from tests.decisions.samples import clusters


def scored(known: list[float], others: list[float]) -> OpenSetScores:
    n, values = len(known), np.array([*known, *others], dtype=float)
    correct = np.random.default_rng(0).random(len(values)).round()
    return OpenSetScores(values, np.arange(len(values)) < n, correct, np.arange(len(values)))


def naive(sample: OpenSetScores, far: float) -> dict[str, float]:
    """Every threshold is tried in turn."""
    known, others = sample.scores[sample.known], sample.scores[~sample.known]
    correct = sample.correct[sample.known]
    limits = [*np.unique(sample.scores), math.inf]
    admissible = [t for t in limits if sum(o >= t for o in others) / len(others) <= far]
    tight = [t for t in limits if sum(k >= t for k in known) / len(known) >= 0.95]
    share = [sum(k >= t for k in known) / len(known) for t in admissible]
    rates = [
        (sum(k >= t for k in known) / len(known) + sum(o < t for o in others) / len(others)) / 2
        for t in limits
    ]
    return {
        "fpr@95tpr": min(sum(o >= t for o in others) / len(others) for t in tight),
        f"tar@{far:g}": max(share),
        f"dir@{far:g}": max(
            sum(c for k, c in zip(known, correct, strict=True) if k >= t) / len(known)
            for t in admissible
        ),
        "best_balanced_accuracy": max(rates),
    }


@pytest.mark.parametrize("far", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("digits", [0, 1, 12])
def test_metrics_equal_a_naive_loop_and_scikit_learn(far: float, digits: int) -> None:
    draw = np.random.default_rng(digits)
    for _ in range(5):
        sample = scored(
            draw.normal(0.7, 1, 40).round(digits).tolist(), draw.normal(size=25).round(digits)
        )
        values = open_set_metrics(sample, [far])
        for name, value in naive(sample, far).items():
            assert values[name] == pytest.approx(value), name
        assert values["auroc"] == pytest.approx(roc_auc_score(sample.known, sample.scores))
        expected = average_precision_score(sample.known, sample.scores)
        assert values["aupr"] == pytest.approx(expected)
        false, true, _ = roc_curve(sample.known, sample.scores, drop_intermediate=False)
        assert values["fpr@95tpr"] == pytest.approx(false[true >= 0.95].min())
        assert values[f"tar@{far:g}"] == pytest.approx(true[false <= far].max())


def test_a_given_threshold_counts_both_errors() -> None:
    values = open_set_metrics(scored([1, 2, 3, 4], [0, 2]), threshold=2)
    assert values["false_accepts"] == 0.5
    assert values["false_rejects"] == 0.25
    assert values["balanced_accuracy"] == pytest.approx(0.625)


def test_ties_and_missing_sides() -> None:
    tied = open_set_metrics(scored([1, 1], [1, 1]), [0.1])
    assert (tied["auroc"], tied["tar@0.1"], tied["fpr@95tpr"]) == (0.5, 0.0, 1.0)
    for sides in (([], [1, 2]), ([1, 2], [])):
        values = open_set_metrics(scored(*sides), [0.1], 1.5)
        assert math.isnan(values["auroc"])
        assert math.isnan(values["balanced_accuracy"])


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", SCORES)
def test_scores_equal_a_loop_over_queries(name: str, distance: str) -> None:
    sample = clusters(classes=6, each=7)
    gallery = sample.subset([f"c{c:02d}" for c in range(4)])
    result = gallery_scores(sample, gallery, name, distance)
    assert np.array_equal(result.known, np.isin(sample.classes, gallery.class_names))
    for row in range(0, len(sample), 5):
        others = [i for i in range(len(gallery)) if gallery.ids[i] != sample.ids[row]]
        a, b = sample.vectors[row].astype(float), gallery.vectors[others].astype(float)
        if distance == "cosine":
            similar = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        else:
            similar = -np.linalg.norm(a - b, axis=1)
        classes = gallery.classes[others]
        best = classes[similar.argmax()]
        expected = {
            "nearest": similar.max(),
            "margin": similar.max() - similar[classes != best].max(),
            "density": np.sort(similar)[-5],
            "energy": 0.05 * np.log(np.exp(similar / 0.05).sum()),
        }[name]
        assert result.scores[row] == pytest.approx(expected, abs=1e-4)
        assert result.correct[row] == (best == sample.classes[row])


def test_a_function_scores_and_repeated_vectors_share_correctness() -> None:
    vectors = np.ones((4, 2))
    queries = VectorSet(vectors[:1], np.array(["a"]))
    gallery = VectorSet(vectors, np.array(["a", "b", "b", "b"]))
    with pytest.warns(UserWarning, match="identical"):
        result = gallery_scores(queries, gallery, lambda s, labels: s.mean(1) + torch.tensor(1.0))
    assert result.scores[0] == pytest.approx(2)
    assert result.correct[0] == 0.25


def test_withheld_classes_are_unknown_and_own_images_are_excluded() -> None:
    sample = clusters(classes=10)
    result = withheld_scores(sample, seed=3)
    known = np.unique(result.classes[result.known])
    assert len(known) == 5
    assert not set(known) & set(result.classes[~result.known])
    assert result.scores.max() < 1 - 1e-6
    assert len(np.unique(withheld_scores(sample, n_known=2).classes)) == 10
    both = left_out_scores(sample)
    assert both.known.sum() == len(sample) == (~both.known).sum()
    assert (both.scores[both.known] >= both.scores[~both.known]).all()


def test_a_query_whose_class_has_only_its_own_image_is_unknown() -> None:
    sample = clusters(classes=3, each=2)
    gallery = sample.select(np.array([0, 2, 3]))
    result = gallery_scores(sample, gallery)
    assert result.known.tolist() == [False, True, True, True, False, False]


def test_threshold_files_and_errors(tmp_path: Path) -> None:
    sample = clusters(classes=12)
    chosen = choose_threshold(sample, 0.1, resamples=50)
    chosen.save(tmp_path / "t.json")
    assert Threshold.load(tmp_path / "t.json") == chosen
    assert chosen.low <= chosen.threshold <= chosen.high
    others = left_out_scores(sample)
    assert (others.scores[~others.known] >= chosen.threshold).mean() <= 0.1
    (tmp_path / "bad.json").write_text('{"threshold": 1}')
    with pytest.raises(OodmlError) as caught:
        Threshold.load(tmp_path / "bad.json")
    assert caught.value.location.endswith("bad.json")
    for options in ({"far": 0.0}, {"mode": "x"}, {"score": "x"}):
        with pytest.raises(OodmlError):
            choose_threshold(sample, **options)


def test_pairs_are_accepted_at_the_rate() -> None:
    sample = clusters(classes=15, each=5, noise=1.0)
    chosen = choose_threshold(sample, 0.05, mode="pairs", resamples=50)
    unit = sample.vectors / np.linalg.norm(sample.vectors, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    cosines = (unit[first] * unit[second]).sum(1)
    same = sample.classes[first] == sample.classes[second]
    allowed = int(0.05 * (~same).sum())
    assert (cosines[~same] >= chosen.threshold).sum() == pytest.approx(allowed, abs=1)
    assert chosen.tar == pytest.approx((cosines[same] >= chosen.threshold).mean(), abs=1e-3)
    assert chosen.conformal is None


def test_few_classes_give_no_guarantee() -> None:
    scores, classes = np.arange(6.0), np.repeat(np.arange(3), 2)
    assert conformal_threshold(scores, classes, 0.2) is None
    # Weights: 1/4 above all scores and 1/8 for each; 0.4 allows one score above the limit.
    assert conformal_threshold(scores, classes, 0.4) == np.nextafter(4.0, np.inf)


def draws(generator: np.random.Generator, classes: int, each: int = 8) -> tuple[np.ndarray, ...]:
    """Scores with an effect of the class, and the class of each."""
    effects = generator.normal(size=classes).repeat(each)
    return effects + generator.normal(size=classes * each), np.arange(classes).repeat(each)


def test_the_conformal_guarantee_holds_over_1000_draws() -> None:
    generator, far, accepted = np.random.default_rng(0), 0.1, []
    for _ in range(1000):
        scores, classes = draws(generator, 25)
        new, _ = draws(generator, 1)
        limit = conformal_threshold(scores, classes, far)
        assert limit is not None
        accepted.append((new >= limit).mean())
    margin = 2 * np.std(accepted) / 1000**0.5
    assert far - 1 / 26 - margin < np.mean(accepted) < far + margin


def test_the_interval_of_the_threshold_covers_in_1000_draws() -> None:
    from oodml.decisions.threshold import _resamples

    generator, far, inside = np.random.default_rng(1), 0.2, 0
    truth = 2**0.5 * 0.8416212
    for seed in range(1000):
        scores, classes = draws(generator, 60)
        sample = OpenSetScores(
            np.append(scores, 9.0), np.arange(481) == 480, np.ones(481), np.append(classes, 0)
        )
        limits = [limit for limit, _ in _resamples(sample, None, far, 200, seed)]
        low, high = np.quantile(limits, [0.025, 0.975])
        inside += low <= truth <= high
    assert 0.92 <= inside / 1000 <= 0.98


def test_withheld_classes_of_listed_queries_and_gallery() -> None:
    sample = clusters(classes=12, each=6)
    listed = replace(sample, partition=np.array(["query", "gallery", "both"] * 24))
    scored = withheld_scores(listed, seed=3)
    order = np.random.default_rng(3).permutation(12)
    unit = sample.vectors / np.linalg.norm(sample.vectors, axis=1, keepdims=True)
    queries = [i for i in range(72) if i % 3 != 1]
    gallery = [j for j in range(72) if j % 3 != 0 and sample.labels[j] in order[:6]]
    expected = [max(float(unit[i] @ unit[j]) for j in gallery if j != i) for i in queries]
    assert scored.scores == pytest.approx(np.array(expected), abs=1e-5)
    assert scored.known.tolist() == [bool(sample.labels[i] in order[:6]) for i in queries]


@pytest.mark.parametrize("with_gallery", [True, False])
def test_the_interval_and_the_rates_are_those_of_the_conformal_threshold(
    with_gallery: bool,
) -> None:
    sample, far = clusters(classes=30, noise=1.0), 0.1
    gallery = sample.subset(sample.class_names[:10]) if with_gallery else None
    chosen = choose_threshold(sample, far, gallery=gallery, resamples=60, conformal=True)
    result = left_out_scores(sample) if gallery is None else gallery_scores(sample, gallery)
    known, others = result.scores[result.known], result.scores[~result.known]
    groups = result.classes[~result.known]
    assert chosen.threshold == chosen.conformal == conformal_threshold(others, groups, far)
    assert chosen.false_accepts == (others >= chosen.threshold).mean() < far
    assert chosen.tar == (known >= chosen.threshold).mean()
    assert chosen.low <= chosen.threshold <= chosen.high
    assert chosen.tar_low <= chosen.tar <= chosen.tar_high
    plain = choose_threshold(sample, far, gallery=gallery, resamples=60)
    assert (plain.low, plain.high) != (chosen.low, chosen.high)
    if gallery is None:  # a drawn class is a class of its own
        (weights,) = class_draws(30, 60, 0)
        limits = []
        for drawn in weights.astype(int):
            rows = [np.flatnonzero(groups == c) for c in np.repeat(np.arange(30), drawn)]
            names = np.repeat(np.arange(30), [len(part) for part in rows])
            limits.append(conformal_threshold(others[np.concatenate(rows)], names, far))
        bounds = np.quantile(limits, [0.025, 0.975], method="nearest")
        assert [chosen.low, chosen.high] == pytest.approx(bounds.tolist(), abs=1e-12)


def test_pairs_count_both_of_their_classes() -> None:
    sample = clusters(classes=12, each=4)
    chosen = choose_threshold(sample, 0.1, mode="pairs", resamples=20)
    assert (chosen.classes, chosen.unknown) == (12, 48 * 47 // 2 - 12 * 6)
    with pytest.raises(OodmlError):
        choose_threshold(sample, 0.1, mode="pairs", gallery=sample)
    with pytest.raises(OodmlError):
        choose_threshold(sample, 0.01, conformal=True)
