import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import oodml
from oodml.adaptation import AdaptSettings
from oodml.adaptation.support import class_means, support_of
from oodml.adapters import linear, prototypes
from oodml.errors import OodmlError

from .toy import CLASSES, episodes, toy

BASELINE = AdaptSettings(objective="prototypes", metrics=("accuracy", "recall@1"))


def test_class_means_of_uneven_classes() -> None:
    embeddings = torch.randn(7, 2, 3)
    means = class_means(embeddings, support_of({"a": [6, 0, 2], "b": [4]}))
    expected = torch.stack([embeddings[[6, 0, 2]].mean((0, 1)), embeddings[4].mean(0)])
    torch.testing.assert_close(means, expected)


def test_prototypes_embed_by_the_cosine_to_each_mean() -> None:
    features, _, head = toy()
    one = episodes(1, 3)[0]
    adapter = prototypes.Adapter(BASELINE)
    heads = adapter.heads(head, features[:, None], [support_of(one)])
    found = heads.embed(features[None])[0]
    embeddings = head.embed(features[None])[0].numpy()
    means = np.stack([embeddings[rows].mean(0) for rows in one.values()])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = embeddings @ means.T
    cosines -= cosines.mean(1, keepdims=True)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), cosines, atol=1e-5)


def test_linear_is_ridge_regression_on_the_classes() -> None:
    features, _, head = toy()
    one = episodes(1, 3)[0]
    adapter = linear.Adapter(AdaptSettings(objective="linear", ridge=0.7))
    heads = adapter.heads(head, features[:, None], [support_of(one)])
    found = heads.embed(features[None])[0]
    embeddings = head.embed(features[None])[0].numpy()
    rows = [row for own in one.values() for row in own]
    targets = np.eye(CLASSES)[np.repeat(np.arange(CLASSES), 3)] - 1 / CLASSES
    model = Ridge(alpha=0.7, fit_intercept=False).fit(embeddings[rows], targets)
    scores = model.predict(embeddings)
    scores /= np.linalg.norm(scores, axis=1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), scores, atol=1e-4)


@pytest.mark.parametrize("objective", ["prototypes", "linear"])
def test_baselines_of_uneven_episodes_and_one_shot(objective: str) -> None:
    features, classes, head = toy(noise=0.3)
    first, second = episodes(1, 1)[0], episodes(2, 2)[1]
    settings = BASELINE.model_copy(update={"objective": objective})
    result = oodml.adapt(features, classes, [first, second], head, settings)
    assert min(metrics["accuracy"] for metrics in result.after) > 0.5
    alone = oodml.adapt(features, classes, [second], head, settings)
    assert alone.after[0] == pytest.approx(result.after[1])


def test_accuracy_of_prototypes_is_that_of_the_nearest_mean_before() -> None:
    features, classes, head = toy()
    result = oodml.adapt(features, classes, episodes(3, 4), head, BASELINE)
    for before, after in zip(result.before, result.after, strict=True):
        assert before["accuracy"] == pytest.approx(after["accuracy"])


def test_accuracy_needs_support_of_every_class() -> None:
    features, classes, head = toy()
    one = {name: np.flatnonzero(classes == name).tolist() for name in ("c0", "c3")}
    with pytest.raises(OodmlError, match="accuracy"):
        oodml.adapt(features, classes, [one], head, BASELINE)
