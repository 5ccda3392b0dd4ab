from pathlib import Path

import pytest
import torch

import oodml
from oodml.losses.multisimilarity import multisimilarity_loss
from tests.losses._reference import check, read


@pytest.mark.parametrize(
    ("size", "key"), [("32x16", "multisimilarity_cosine"), ("112x64", "multisimilarity")]
)
def test_the_originals_value_and_gradient(reference: Path, size: str, key: str) -> None:
    arrays = read(reference / f"criteria_{size}.npz")
    loss = oodml.load("losses", "multisimilarity")
    check(arrays, key, lambda x: loss(x, arrays["y"]))


def test_the_original_lets_an_anchor_be_its_own_positive(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    published = oodml.load("losses", "multisimilarity", published=True)
    key = "multisimilarity_cosine_hardneg"
    check(arrays, key, lambda x: published(x, arrays["y"]), inputs="x_hardneg")
    x, y = arrays["x_hardneg"], arrays["y"]
    ours = oodml.load("losses", "multisimilarity")(x, y)
    assert ours.item() == pytest.approx(naive(x, y), rel=1e-5)
    assert ours.item() < published(x, y).item()


def naive(x: torch.Tensor, y: torch.Tensor) -> float:
    """The definition, one anchor at a time."""
    s = (x @ x.T).double()
    values = []
    for a in range(len(x)):
        positives = [s[a, j] for j in range(len(x)) if j != a and y[j] == y[a]]
        negatives = [s[a, j] for j in range(len(x)) if y[j] != y[a]]
        if not positives or not negatives:
            continue
        pulls = [s_p for s_p in positives if s_p < max(negatives) + 0.1]
        pushes = [s_n for s_n in negatives if s_n > min(positives) - 0.1]
        if pulls and pushes:
            pull = sum(torch.exp(-2 * (s_p - 0.5)) for s_p in pulls)
            push = sum(torch.exp(40 * (s_n - 0.5)) for s_n in pushes)
            values.append(torch.log(1 + pull) / 2 + torch.log(1 + push) / 40)
    return float(sum(values) / len(values))


def test_many_heads_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.nn.functional.normalize(torch.randn(5, 8, 4, generator=generator), dim=2)
    y = torch.randint(0, 3, (5, 8), generator=generator)
    together = torch.func.vmap(multisimilarity_loss)(x, y)
    alone = torch.stack([multisimilarity_loss(x[i], y[i]) for i in range(5)])
    torch.testing.assert_close(together, alone)


def test_euclidean_similarity(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "multisimilarity", similarity="euclidean")
    check(arrays, "multisimilarity_euclidean", lambda x: loss(x, arrays["y"]))
