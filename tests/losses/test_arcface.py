import math
from pathlib import Path

import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss

import oodml
from tests.losses._reference import check, read, set_parameter


@pytest.mark.parametrize(
    ("size", "gradient"), [("32x16", "pgrad_arcface__class_map"), ("112x64", "pgrad_arcface")]
)
def test_published_is_the_original(reference: Path, size: str, gradient: str) -> None:
    arrays = read(reference / f"criteria_{size}.npz")
    n_classes, dim = arrays["arcface_class_map"].shape
    loss = oodml.load("losses", "arcface", n_classes=n_classes, dim=dim, published=True)
    set_parameter(loss.vectors, arrays["arcface_class_map"])
    gradients = {gradient: loss.vectors}
    check(arrays, "arcface", lambda x: loss(x, arrays["y"]), gradients=gradients)


def test_the_default_is_the_papers_form() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(32, 4, generator=generator)
    y = torch.randint(0, 6, (32,), generator=generator)
    ours = oodml.load("losses", "arcface", n_classes=6, dim=4, generator=generator)
    theirs = ArcFaceLoss(6, 4, margin=math.degrees(0.5), scale=16)
    set_parameter(theirs.W, ours.vectors.T)
    assert ours(x, y).item() == pytest.approx(theirs(x, y).item(), rel=1e-5)


def test_distant_embeddings_receive_a_gradient_unless_published() -> None:
    y = torch.tensor([0])
    for published in (False, True):
        loss = oodml.load("losses", "arcface", n_classes=2, dim=2, published=published)
        set_parameter(loss.vectors, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        x = torch.tensor([[-0.6, -0.8]], requires_grad=True)
        loss(x, y).backward()
        assert x.grad is not None
        assert (x.grad.abs().sum() == 0) == published
