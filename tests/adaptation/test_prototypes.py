import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import oodml
from oodml.adaptation import AdaptSettings, heads_of
from oodml.adaptation.support import class_means, support_of
from oodml.errors import OodmlError
from oodml.few_shot_adapters import linear, prototypes
from oodml.methods.diva import Head as DivaHead

from .toy import CLASSES, DIM, FEATURES, episodes, toy

BASELINE = AdaptSettings(objective="prototypes", metrics=("accuracy", "recall@1"))


def test_class_means_of_uneven_classes() -> None:
    embeddings = torch.randn(7, 3)
    means = class_means(embeddings, support_of({"a": [6, 0, 2], "b": [4]}))
    expected = torch.stack([embeddings[[6, 0, 2]].mean(0), embeddings[4]])
    torch.testing.assert_close(means, expected)


def test_prototypes_center_the_embedding_at_the_mean_of_the_class_means() -> None:
    features, _, head = toy()
    first, second = episodes(1, 3)[0], {"c0": [1, 2], "c1": [12, 13, 14]}
    heads = prototypes.Adapter(BASELINE).heads(
        head, features, [support_of(first), support_of(second)]
    )
    outputs = head.linear(features[None])[0].numpy()
    for episode, one in enumerate((first, second)):
        center = np.mean([outputs[rows].mean(0) for rows in one.values()], axis=0)
        expected = (outputs - center) / np.linalg.norm(outputs - center, axis=1, keepdims=True)
        outcome = heads[episode].embed(features[None])[0].numpy()
        np.testing.assert_allclose(outcome, expected, atol=1e-5)


def test_prototypes_keep_a_head_of_parts() -> None:
    features = toy()[0]
    parted = DivaHead(FEATURES, DIM * 2, (0.5, 1.5, 1.5, 1.5))
    head = heads_of(parted, FEATURES)
    heads = prototypes.Adapter(BASELINE).heads(head, features, [support_of(episodes(1, 2)[0])])
    assert isinstance(heads.module(parted), DivaHead)
    assert heads.part_weights == head.part_weights


def test_linear_is_ridge_regression_on_the_classes() -> None:
    features, _, head = toy()
    one = episodes(1, 3)[0]
    adapter = linear.Adapter(AdaptSettings(objective="linear", ridge=0.7))
    outcome = adapter.heads(head, features, [support_of(one)]).embed(features[None])[0]
    embeddings = head.embed(features[None])[0].numpy()
    rows = [row for own in one.values() for row in own]
    targets = np.eye(CLASSES)[np.repeat(np.arange(CLASSES), 3)] - 1 / CLASSES
    model = Ridge(alpha=0.7, fit_intercept=False).fit(embeddings[rows], targets)
    scores = model.predict(embeddings)
    scores /= np.linalg.norm(scores, axis=1, keepdims=True)
    np.testing.assert_allclose(outcome.numpy(), scores, atol=1e-4)


@pytest.mark.parametrize("objective", ["prototypes", "linear"])
def test_baselines_of_uneven_episodes_and_one_shot(objective: str) -> None:
    features, classes, head = toy(noise=0.3)
    first, second = episodes(1, 1)[0], episodes(2, 2)[1]
    settings = BASELINE.model_copy(update={"objective": objective})
    result = oodml.adapt(features, classes, [first, second], head, settings)
    assert min(metrics["accuracy"] for metrics in result.after) > 0.5
    alone = oodml.adapt(features, classes, [second], head, settings)
    assert alone.after[0] == pytest.approx(result.after[1])


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_prototypes_do_not_make_retrieval_worse(offset: float) -> None:
    """An offset that all images share, as after a ReLU, hides the classes; centering removes it."""
    features, classes, head = toy()
    result = oodml.adapt(features + offset, classes, episodes(4, 4), head, BASELINE)
    gains = {
        name: np.mean([a[name] - b[name] for a, b in zip(result.after, result.before, strict=True)])
        for name in BASELINE.metrics
    }
    assert min(gains.values()) > -0.03
    assert offset == 0 or min(gains.values()) > 0.03


@pytest.mark.parametrize("objective", ["prototypes", "linear"])
def test_baselines_use_the_test_view_of_the_support(objective: str) -> None:
    """Statistics of augmented views do not fit the test views of the queries."""
    features, classes, head = toy()
    settings = BASELINE.model_copy(update={"objective": objective})
    views = {row: features[row].expand(2, -1) + 7 for row in range(len(features))}
    plain, viewed = (
        oodml.adapt(features, classes, episodes(2, 3), head, settings, support_views=given)
        for given in (None, views)
    )
    assert plain.after == viewed.after


def test_accuracy_requires_support_of_every_class() -> None:
    features, classes, head = toy()
    one = {name: np.flatnonzero(classes == name).tolist() for name in ("c0", "c3")}
    with pytest.raises(OodmlError, match="accuracy"):
        oodml.adapt(features, classes, [one], head, BASELINE)
