from pathlib import Path

import pytest
import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss

import oodml
from tests.losses._reference import check, read, set_parameter


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(
    ("size", "key", "gradient"),
    [
        ("32x16", "oproxy_anchor", "pgrad_oproxy_anchor__proxies"),
        ("112x64", "oproxy", "pgrad_oproxy"),
    ],
)
def test_balanced_batches(
    reference: Path, size: str, key: str, gradient: str, published: bool
) -> None:
    arrays = read(reference / f"criteria_{size}.npz")
    n_classes, dim = arrays["oproxy_proxies"].shape
    loss = oodml.load("losses", "proxy_anchor", n_classes=n_classes, dim=dim, published=published)
    set_parameter(loss.vectors, arrays["oproxy_proxies"])
    check(arrays, key, lambda x: loss(x, arrays["y"]), gradients={gradient: loss.vectors})


def test_published_weights_classes_by_count(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    labels = arrays["oproxy_unbalanced_labels"]
    loss = oodml.load("losses", "proxy_anchor", n_classes=8, dim=16, published=True)
    set_parameter(loss.vectors, arrays["oproxy_proxies"])
    check(arrays, "oproxy_unbalanced", lambda x: loss(x, labels))


def test_the_default_is_the_papers_form() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(32, 4, generator=generator)
    y = torch.randint(0, 5, (32,), generator=generator)
    ours = oodml.load("losses", "proxy_anchor", n_classes=9, dim=4, generator=generator)
    theirs = ProxyAnchorLoss(9, 4)
    set_parameter(theirs.proxies, ours.vectors)
    assert ours(x, y).item() == pytest.approx(theirs(x, y).item(), rel=1e-5)


def test_class_vectors_learn_faster() -> None:
    loss = oodml.load("losses", "proxy_anchor", n_classes=3, dim=2)
    assert loss.parameter_groups(1e-5)[0]["lr"] == pytest.approx(0.02)


def test_published_mode_nca(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "proxy_anchor", n_classes=8, dim=16, mode="nca", published=True)
    set_parameter(loss.vectors, arrays["oproxy_proxies"])
    gradients = {"pgrad_oproxy_nca__proxies": loss.vectors}
    check(arrays, "oproxy_nca", lambda x: loss(x, arrays["y"]), gradients=gradients)


def test_published_distances(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    options = {"similarity": "euclidean", "published": True}
    loss = oodml.load("losses", "proxy_anchor", n_classes=8, dim=16, **options)
    set_parameter(loss.vectors, arrays["oproxy_proxies"])
    gradients = {"pgrad_oproxy_anchor_euclidean__proxies": loss.vectors}
    check(arrays, "oproxy_anchor_euclidean", lambda x: loss(x, arrays["y"]), gradients=gradients)


def test_frozen_class_vectors(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "proxy_anchor", n_classes=8, dim=16)
    set_parameter(loss.vectors, arrays["oproxy_proxies"])
    loss.requires_grad_(False)
    check(arrays, "oproxy_anchor_detach", lambda x: loss(x, arrays["y"]))


def test_distances_by_hand() -> None:
    loss = oodml.load("losses", "proxy_anchor", n_classes=2, dim=2, similarity="euclidean", alpha=2)
    set_parameter(loss.vectors, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x = torch.tensor([[0.6, 0.8]])
    near, far = 0.8**0.5, 0.4**0.5
    pull, push = 2 * (0.1 + near), 2 * (0.1 - far)
    expected = torch.log1p(torch.tensor(pull).exp()) + torch.log1p(torch.tensor(push).exp()) / 2
    assert loss(x, torch.tensor([0])).item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(oodml.OodmlError, match="unknown similarity 'cosin'"):
        oodml.load("losses", "proxy_anchor", n_classes=2, dim=2, similarity="cosin")


def test_mode_nca_by_hand() -> None:
    loss = oodml.load("losses", "proxy_anchor", n_classes=2, dim=2, mode="nca", alpha=2.0)
    set_parameter(loss.vectors, torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    x = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    pull, push = torch.tensor(2 * (0.1 - 0.6)), torch.tensor(2 * (0.1 + 0.8))
    expected = torch.log1p(pull.exp()) + torch.log1p(push.exp())
    torch.testing.assert_close(loss(x, torch.tensor([0, 0])), expected)
